"""The replay buffer against a slow one that lists every row and enumerates the sequences held."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from hrl.data.replay_buffer import Batch, Column, ReplayBuffer, SequenceIndex
from hrl.run.checkpoint_format import read, write

CPU = torch.device("cpu")
COLUMNS = {
    "env": Column((), torch.int64),
    "row": Column((), torch.int64),
    "pixels": Column((2, 2, 3), torch.uint8),
    "is_first": Column((), torch.bool),
    "deter": Column((4,), torch.bfloat16),
    "stoch": Column((2,), torch.uint8),
}
EPISODE = 7


class SlowReplay:
    """All rows ever added, by environment; the newest `ring` of each are held."""

    def __init__(self, num_envs: int, ring: int, length: int, context: int = 1) -> None:
        self.num_added: list[int] = [0] * num_envs
        self.ring = ring
        self.length = length
        self.context = context

    def sequences(self) -> list[tuple[int, int]]:
        """Environment and first row of every sequence held."""
        return [
            (env, start)
            for env, count in enumerate(self.num_added)
            for start in range(max(0, count - self.ring), count)
            if start + self.length <= count
        ]

    def grid(self) -> list[tuple[int, int]]:
        """Every sequence completed so far of the cut that the queue makes."""
        step = self.length - self.context
        return [
            (env, start)
            for env, count in enumerate(self.num_added)
            for start in range(0, count, step)
            if start + self.length <= count
        ]


def rows_at(envs: torch.Tensor, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rows whose content tells their environment and their number in its stream."""
    code = 100 * envs + numbers
    return {
        "env": envs,
        "row": numbers,
        "pixels": (code % 251).to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3),
        "is_first": numbers % EPISODE == 0,
        "deter": torch.stack([code, -code, 0 * code, code % 3], 1).float(),
        "stoch": torch.stack([envs, numbers % 5], 1),
    }


def small(
    num_envs: int = 3, ring: int = 11, length: int = 4, device: torch.device = CPU, context: int = 1
) -> ReplayBuffer:
    return ReplayBuffer(COLUMNS, num_envs, num_envs * ring, length, device, context)


def play(replay: ReplayBuffer, steps: list[list[int]], slow: SlowReplay | None = None) -> None:
    """Adds one row for each environment that a step names."""
    for named in steps:
        envs = torch.tensor(named)
        replay.add(rows_at(envs, replay.state_dict()["added"][envs]), envs)
        if slow:
            for env in named:
                slow.num_added[env] += 1


def uneven(count: int, num_envs: int = 3) -> list[list[int]]:
    """Environment e is left out at every (e + 3)rd step, and their order turns."""
    steps = [[env for env in range(num_envs) if (step + 1) % (env + 3)] for step in range(count)]
    return [named[step % 2 :] + named[: step % 2] for step, named in enumerate(steps) if named]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first_rows(batch: Batch) -> list[tuple[int, int]]:
    """Environment and number of each sequence's first row, read from the rows themselves."""
    return list(
        zip(
            batch.columns["env"][:, 0].tolist(),
            batch.columns["row"][:, 0].tolist(),
            strict=True,
        )
    )


def drain(replay: ReplayBuffer) -> None:
    """Draws until nothing is queued."""
    while len(replay.state_dict()["recent"]):
        replay.sample(16, generator())


@pytest.mark.parametrize("count", [4, 9, 11, 12, 23, 60])
@pytest.mark.parametrize(("ring", "length"), [(11, 4), (4, 4), (9, 2)])
def test_exactly_the_sequences_held_are_drawn(count, ring, length):
    """From part-filled rings to rings that have turned several times, with environments out of
    step."""
    replay, slow = small(ring=ring, length=length), SlowReplay(3, ring, length)
    play(replay, uneven(count), slow)
    held = slow.sequences()
    assert replay.can_sample(1) == bool(held)
    assert not held or set(first_rows(replay.sample(60 * len(held), generator()))) == set(held)
    assert replay.steps == sum(min(ring, added) for added in slow.num_added)


@pytest.mark.parametrize("count", [9, 60])
def test_a_sequence_is_consecutive_rows_with_all_their_columns(count):
    replay = small()
    play(replay, uneven(count))
    columns = replay.sample(32, generator()).columns
    assert {name: (values.shape, values.dtype) for name, values in columns.items()} == {
        name: ((32, 4, *column.shape), column.dtype) for name, column in COLUMNS.items()
    }
    assert torch.equal(columns["row"], columns["row"][:, :1] + torch.arange(4))
    expected = rows_at(columns["env"].flatten(), columns["row"].flatten())
    for name, values in expected.items():
        assert torch.equal(columns[name].flatten(0, 1), values.to(COLUMNS[name].dtype)), name


def test_sequences_run_across_the_ends_of_episodes():
    replay = small()
    play(replay, uneven(20))
    inside = replay.sample(200, generator()).columns["is_first"][:, 1:]
    assert inside.any(0).all(), "an episode starts at every position of some sequence"


@pytest.mark.parametrize("count", [12, 60])
def test_every_sequence_has_the_same_chance(count):
    """The rings differ in how full they are, and the queue is empty; the probability of a false
    alarm is 1 in 1000."""
    replay, slow = small(), SlowReplay(3, 11, 4)
    play(replay, uneven(count), slow)
    drain(replay)
    drawn = Counter(first_rows(replay.sample(20_000, generator(1))))
    counts = [drawn[index] for index in slow.sequences()]
    assert sum(counts) == 20_000, "nothing else is drawn"
    assert chisquare(counts).pvalue > 1e-3


def test_a_draw_follows_from_the_generator_alone():
    def drawn(seed):
        replay = small()
        play(replay, uneven(30))
        return first_rows(replay.sample(64, generator(seed)))

    assert drawn(3) == drawn(3) != drawn(4)


# The queue of recent sequences.


@pytest.mark.parametrize(("length", "context"), [(4, 1), (6, 3), (5, 4)])
def test_each_completed_sequence_is_drawn_first_come_first_served(length, context):
    """Without its context, the queued sequences of an environment cover its stream once."""
    replay, slow = small(length=length, context=context), SlowReplay(3, 11, length, context)
    seen = []
    for step in uneven(40):
        play(replay, [step], slow)
        if not replay.can_sample(1):
            continue
        waiting = len(replay.state_dict()["recent"])
        seen += first_rows(replay.sample(8, generator()))[: min(waiting, 4)]
    assert sorted(seen) == slow.grid()
    for env in range(3):
        starts = [start for index, start in seen if index == env]
        new = [row for start in starts for row in range(start + context, start + length)]
        assert new == list(range(context, context + len(new))), "in order, without gaps or repeats"


def test_uniform_samples_leave_the_queue_as_it_is():
    sampled, left = small(), small()
    for replay in (sampled, left):
        play(replay, uneven(30))
    assert len(sampled.sample_uniform(5, generator(1)).sequence_index.rows) == 5
    assert sampled.state_dict()["recent"].tolist() == left.state_dict()["recent"].tolist() != []
    assert first_rows(sampled.sample(8, generator(2))) == first_rows(left.sample(8, generator(2)))


@pytest.mark.parametrize(("batch", "most"), [(1, 1), (2, 1), (5, 3), (8, 4)])
def test_at_most_half_a_batch_comes_from_the_queue(batch, most):
    replay = small(num_envs=6)
    play(replay, [list(range(6))] * 4)
    assert len(replay.state_dict()["recent"]) == 6
    drawn = replay.sample(batch, generator())
    assert first_rows(drawn)[:most] == [(env, 0) for env in range(most)]
    assert len(drawn.sequence_index.rows) == batch
    assert len(replay.state_dict()["recent"]) == 6 - most


def test_an_overwritten_sequence_behind_a_waiting_one_is_skipped():
    """Environment 0 stands still with a whole sequence at the head of the queue, 1 turns its
    ring."""
    replay = small(num_envs=2)
    play(replay, [[0]] * 4 + [[1]] * 20)
    assert first_rows(replay.sample(6, generator()))[:3] == [(0, 0), (1, 9), (1, 12)]


def test_the_queue_does_not_outgrow_the_rings():
    replay = small(num_envs=2)
    play(replay, [[0, 1]] * 300)
    assert len(replay.state_dict()["recent"]) <= 2 * 11 // 3


# Updating latents.


def new_latents(batch: Batch, time: int) -> dict[str, torch.Tensor]:
    """A different value for every row of the batch, sequence by sequence."""
    count = len(batch.sequence_index.rows)
    values = torch.arange(count * time).reshape(count, time)
    return {
        "deter": values[..., None].float().expand(-1, -1, 4),
        "stoch": values[..., None].expand(-1, -1, 2) % 256,
    }


@pytest.mark.parametrize("count", [9, 60])
@pytest.mark.parametrize("time", [4, 3, 1])
def test_written_rows_equal_a_loop_over_the_batch(count, time):
    """32 sequences of 24 overlap: of rows that several hold, the last in the batch is kept."""
    replay = small()
    play(replay, uneven(count))
    batch = replay.sample(32, generator())
    values = new_latents(batch, time)
    expected = {}
    for sequence in range(32):
        for late in range(time):
            row = (
                int(batch.sequence_index.envs[sequence]),
                int(batch.sequence_index.rows[sequence]) + 4 - time + late,
            )
            expected[row] = sequence * time + late
    replay.update_latents(batch.sequence_index, values)
    after = replay.sample(500, generator(1)).columns
    wanted = rows_at(after["env"].flatten(), after["row"].flatten())
    rows = list(zip(wanted["env"].tolist(), wanted["row"].tolist(), strict=True))
    for position, row in enumerate(rows):
        if row in expected:
            wanted["deter"][position], wanted["stoch"][position] = expected[row], expected[row]
    assert set(rows) >= expected.keys()
    for name in values:
        assert torch.equal(after[name].flatten(0, 1), wanted[name].to(COLUMNS[name].dtype)), name


def test_rows_overwritten_since_the_sampling_keep_their_values():
    replay = small(num_envs=1)
    play(replay, [[0]] * 11)
    oldest = SequenceIndex(torch.tensor([0]), torch.tensor([0]))
    play(replay, [[0]] * 2)
    replay.update_latents(oldest, {"deter": torch.full((1, 4, 4), -9.0)})
    after = replay.sample(300, generator()).columns
    written = (after["deter"] == -9).all(-1)
    assert set(after["row"][written].tolist()) == {2, 3}, "0 and 1 lie where 11 and 12 are now"
    assert {11, 12} <= set(after["row"].flatten().tolist())


def test_the_graph_of_latents_is_not_kept():
    replay = small()
    play(replay, uneven(9))
    replay.update_latents(
        replay.sample(4, generator()).sequence_index,
        {"deter": torch.ones(4, 4, 4, requires_grad=True) * 2},
    )
    assert not replay.sample(4, generator()).columns["deter"].requires_grad


# Saving.


@pytest.mark.parametrize("count", [3, 10, 60])
def test_a_continued_replay_goes_on_to_the_bit(count, tmp_path: Path):
    """Through a file; the queue holds more than a batch takes, so that it has to be carried
    over."""

    def going_on(replay):
        batches = []
        for step in range(6):
            play(replay, uneven(2))
            batch = replay.sample(3, generator(step))
            replay.update_latents(batch.sequence_index, new_latents(batch, 4))
            batches.append(batch)
        return batches

    replay, continued = small(), small()
    play(replay, uneven(count))
    write(tmp_path / "replay.safetensors", 0, {"replay": replay.state_dict()}, {})
    continued.load_state_dict(read(tmp_path / "replay.safetensors").state["replay"])
    assert continued.steps == replay.steps
    for first, second in zip(going_on(replay), going_on(continued), strict=True):
        assert all(
            torch.equal(a, b)
            for a, b in zip(first.sequence_index, second.sequence_index, strict=True)
        )
        assert all(torch.equal(first.columns[name], second.columns[name]) for name in COLUMNS)


def test_only_the_filled_part_is_saved():
    replay = small(ring=1000)
    play(replay, uneven(10))
    rings = replay.state_dict()["rows"]["pixels"]
    assert [len(ring) for ring in rings] == replay.state_dict()["added"].tolist()
    assert sum(len(ring) for ring in rings) == replay.steps < 30


def test_a_loaded_replay_shares_nothing_with_the_saved_one():
    replay, first, second = small(), small(), small()
    play(replay, uneven(10))
    state = replay.state_dict()
    first.load_state_dict(state)
    second.load_state_dict(state)
    play(replay, uneven(30))
    play(first, uneven(20))
    assert first.steps == 33 > second.steps
    play(second, uneven(20))
    for values in zip(
        first.sample(8, generator()).sequence_index,
        second.sample(8, generator()).sequence_index,
        strict=True,
    ):
        assert torch.equal(*values)


def test_a_state_of_another_layout_is_refused_by_name():
    state = small().state_dict()
    columns = {
        **COLUMNS,
        "deter": Column((5,), torch.bfloat16),
        "task": Column((3,), torch.float32),
    }
    other = ReplayBuffer(columns, 3, 36, 4, CPU)
    with pytest.raises(ValueError, match="layout") as error:
        other.load_state_dict(state)
    assert str(error.value).split(": ", 1)[1].split("; ") == [
        "capacity: 33 saved, 36 here",
        "column deter: bfloat16 [4] saved, bfloat16 [5] here",
        "column task: absent saved, float32 [3] here",
    ]
    assert other.steps == 0


# Sizes and bad input.


def test_the_bytes_announced_are_the_bytes_taken():
    replay = ReplayBuffer(COLUMNS, 3, 100, 4, CPU)
    play(replay, [[0, 1, 2]] * 33)
    rows = replay.state_dict()["rows"]
    taken = sum(ring.numel() * ring.element_size() for rings in rows.values() for ring in rings)
    assert ReplayBuffer.bytes_needed(COLUMNS, 3, 100) == taken == 99 * (8 + 8 + 12 + 1 + 8 + 2)


def test_a_buffer_can_be_sampled_once_a_batch_need_not_repeat_sequences():
    """Two environments: 2 sequences after 4 rows each, 16 at most."""
    replay = small(num_envs=2)
    play(replay, [[0, 1]] * 3)
    assert not replay.can_sample(1)
    with pytest.raises(ValueError, match="sequence of 4 rows yet; the fullest has 3"):
        replay.sample(1, generator())
    play(replay, [[0, 1]])
    assert replay.can_sample(2)
    assert not replay.can_sample(3)
    play(replay, [[0, 1]] * 6)
    assert not replay.can_sample(100)
    play(replay, [[0, 1]])
    assert replay.can_sample(100), "more can never be stored"


def test_capacity_for_less_than_a_sequence_is_refused():
    with pytest.raises(ValueError, match=r"capacity is 11; it must be at least 12"):
        ReplayBuffer(COLUMNS, 3, 11, 4, CPU)
    assert ReplayBuffer(COLUMNS, 3, 12, 4, CPU).steps == 0


@pytest.mark.parametrize(
    ("columns", "num_envs", "length", "context"),
    [({}, 1, 4, 1), (COLUMNS, 0, 4, 1), (COLUMNS, 1, 1, 1), (COLUMNS, 1, 4, 4), (COLUMNS, 1, 4, 0)],
)
def test_impossible_sizes_are_refused(columns, num_envs, length, context):
    with pytest.raises(ValueError, match="at least 1 column"):
        ReplayBuffer(columns, num_envs, 100, length, CPU, context)


def test_bad_rows_are_refused_and_nothing_is_added():
    replay = small()
    envs = torch.tensor([0, 2])
    rows = rows_at(envs, torch.tensor([0, 0]))
    bad = {
        r"rows lack the columns \['deter', 'row'\]": {
            k: v for k, v in rows.items() if k not in ("row", "deter")
        },
        "unknown column 'depth'; the columns are env, row": rows | {"depth": torch.zeros(2)},
        r"column 'deter' is float32 \[2, 5\]; it must be bfloat16 \[2, 4\]": rows
        | {"deter": torch.zeros(2, 5)},
        r"column 'pixels' is float32 .* must be uint8": rows | {"pixels": torch.zeros(2, 2, 2, 3)},
    }
    for message, columns in bad.items():
        with pytest.raises(ValueError, match=message):
            replay.add(columns, envs)
    for named in ([0, 0], [0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="different numbers below 3"):
            replay.add(rows, torch.tensor(named))
    assert replay.steps == 0


def test_bad_latents_are_refused():
    replay = small()
    play(replay, uneven(12))
    batch = replay.sample(2, generator())
    for message, columns in {
        "the same number of rows, 1 to 4": {"deter": torch.zeros(2, 5, 4)},
        "unknown column 'latent'": {"latent": torch.zeros(2, 4, 4)},
        r"it must be bfloat16 \[2, 4, 4\]": {"deter": torch.zeros(2, 4, 3)},
        "columns hold \\[\\] rows": {},
    }.items():
        with pytest.raises(ValueError, match=message):
            replay.update_latents(batch.sequence_index, columns)
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        replay.sample(0, generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_batches():
    replays = [small(), small(device=torch.device("cuda"))]
    for step in range(20):
        batches = []
        for replay in replays:
            play(replay, uneven(6))
            batch = replay.sample(16, generator(step))
            replay.update_latents(batch.sequence_index, new_latents(batch, 4))
            batches.append(batch)
        host, gpu = batches
        assert gpu.columns["pixels"].is_cuda
        assert all(torch.equal(host.columns[name], gpu.columns[name].cpu()) for name in COLUMNS)


def test_rows_are_on_the_device_and_the_bookkeeping_on_the_host():
    """A device without memory shows that nothing is read back from it."""
    host, elsewhere = small(), small(device=torch.device("meta"))
    for step in range(20):
        batches = []
        for replay in (host, elsewhere):
            for named in uneven(6):
                envs = torch.tensor(named)
                replay.add(rows_at(envs, host.state_dict()["added"][envs]), envs)
            batch = replay.sample(16, generator(step))
            replay.update_latents(batch.sequence_index, new_latents(batch, 4))
            batches.append(batch)
        assert all(
            torch.equal(*pair)
            for pair in zip(batches[0].sequence_index, batches[1].sequence_index, strict=True)
        )
        assert all(column.is_meta for column in batches[1].columns.values())
