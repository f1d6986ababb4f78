"""A checkpoint comes back bit for bit, or is refused with its reason; a run always finds the newest
whole one."""

import errno
import fcntl
import json
import os
import re
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.torch import save_file

from hrl.run.checkpoint_format import DTYPES, read, write
from hrl.run.checkpoints import Checkpoints, policy_path
from hrl.run.errors import CheckpointError, CheckpointWriteError
from tests.hrl.damage import damaged

STATE = {
    "agent": {"weight": torch.arange(1000, dtype=torch.float32).reshape(10, 100), "updates": 7},
    "env": {"qpos": np.linspace(0, 1, 50), "done": np.array([True, False])},
    "note": "a state",
}
METADATA = {"config": {"agent": {"name": "skills"}}, "offset": 12}


def same(left: Any, right: Any) -> bool:
    """Equal in type and in every bit, NaN included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Mapping):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and bits(left) == bits(right)
    if isinstance(left, np.ndarray | np.generic):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if isinstance(left, float):
        return np.float64(left).tobytes() == np.float64(right).tobytes()
    return bool(left == right)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# Round trips.

keys = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=8)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
numpy_dtypes = st.sampled_from([name for name in DTYPES if name != "bfloat16"]).map(np.dtype)
arrays = numpy_dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = getattr(torch, draw(st.sampled_from([name for name in DTYPES if name != "bool"])))
    raw = draw(st.binary(min_size=6 * dtype.itemsize, max_size=6 * dtype.itemsize))
    values = torch.frombuffer(bytearray(raw), dtype=dtype)
    return draw(
        st.sampled_from(
            [values, values.reshape(2, 3).T, values[:0], values[4].clone(), values.expand(2, 6)]
        )
    )


scalars = arrays.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    arrays,
    tensors(),
    scalars,
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(st.integers(0, 99), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(state=st.dictionaries(keys, trees, max_size=5), frames=st.integers(0, 10**13))
def test_any_tree_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, state: Any, frames: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    write(path, frames, state, {"config": {"a": [1, None, 0.1]}})
    checkpoint = read(path)
    assert same(checkpoint.state, state)
    assert checkpoint.frames == frames
    assert checkpoint.metadata == {"config": {"a": [1, None, 0.1]}}


def test_every_layout_of_a_tensor_keeps_its_values(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 5)
    state = {
        "gradient": torch.nn.Parameter(torch.randn(3)),
        "channels_last": image.to(memory_format=torch.channels_last),
        "strided": image[:, :, ::2, 1:3],
        "alias": image[0],
        "alias of alias": image[0, 1],
        "conjugate": torch.complex(torch.ones(2), torch.ones(2)).conj(),
        "big endian": np.arange(4, dtype=">f4"),
        "reversed": np.arange(6)[::-1],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "read only": np.broadcast_to(np.float32(3.5), (2, 2)),
    }
    write(tmp_path / "layouts.safetensors", 0, state, {})
    loaded = read(tmp_path / "layouts.safetensors").state
    for name, value in state.items():
        assert np.array_equal(
            np.asarray(loaded[name]),
            np.asarray(torch.as_tensor(value).detach().resolve_conj())
            if isinstance(value, torch.Tensor)
            else value,
        ), name
    assert type(loaded["gradient"]) is torch.Tensor
    assert not loaded["gradient"].requires_grad
    assert loaded["big endian"].dtype == np.dtype("<f4")
    loaded["read only"][0] = 1.0  # what was loaded is the caller's own
    loaded["alias"].zero_()
    assert torch.equal(loaded["alias of alias"], image[0, 1])


@pytest.mark.gpu
def test_a_tensor_on_a_gpu_comes_back_on_the_cpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    value = torch.randn(5, 7, device="cuda").T
    write(tmp_path / "gpu.safetensors", 0, {"value": value}, {})
    assert same(read(tmp_path / "gpu.safetensors").state, {"value": value.cpu()})


def test_training_continues_from_an_optimizer_that_was_saved(tmp_path: Path) -> None:
    def learner() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.8, 0.95))

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            model(torch.full((3, 4), float(step))).square().mean().backward()
            optimizer.step()

    through, optimizer = learner()
    train(through, optimizer, range(3))
    state = {
        "model": through.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
    }
    Checkpoints(tmp_path).save(3, state, {})
    train(through, optimizer, range(3, 6))

    continued, optimizer = learner()
    checkpoint = Checkpoints(tmp_path).load_latest()
    assert checkpoint is not None
    continued.load_state_dict(checkpoint.state["model"])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    torch.set_rng_state(checkpoint.state["torch"])
    train(continued, optimizer, range(3, 6))
    assert all(
        torch.equal(a, b) for a, b in zip(through.parameters(), continued.parameters(), strict=True)
    )


def test_the_file_is_plain_safetensors_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", 5, STATE, METADATA)
    write(tmp_path / "b.safetensors", 5, STATE, METADATA)
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert set(file.keys()) == {"agent/weight", "env/qpos", "env/done"}
        assert np.array_equal(file.get_tensor("env/qpos"), STATE["env"]["qpos"])
        assert {"format": "pixel-hrl", "format_version": "1"}.items() <= file.metadata().items()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert read(tmp_path / "a.safetensors").versions["torch"] == torch.__version__


class Color(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"a": {"b/c": 1}}, "'b/c' of 'a'"),
        ({"__metadata__": 1}, "__metadata__"),
        ({"a\ud800": np.zeros(1)}, "ud800"),
        ({"a": {1: 0, "1": 0}}, "same key"),
        ({(1, 2): 0}, "tuple"),
        ({"a": {True: 0}}, "bool"),
        ({"a": [0, {1, 2}]}, "'a/1' is a set"),
        ({"a": Color.RED}, "Color"),
        ({"a": np.array([None])}, "object"),
        ({"a": np.array(["x"])}, "dtype str"),
        ({"a": torch.zeros(2, dtype=torch.complex128)}, "complex128"),
        ({"a": torch.eye(2).to_sparse()}, "sparse_coo"),
        ({"a": torch.zeros(2, device="meta")}, "meta"),
        ([1, 2], "mapping"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(
    tmp_path: Path, state: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        Checkpoints(tmp_path).save(0, state, {})
    assert list(tmp_path.iterdir()) == []


def test_metadata_and_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metadata must be JSON"):
        Checkpoints(tmp_path).save(0, {}, {"a": object()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="frames >= 0"):
        Checkpoints(tmp_path).save(-1, {}, {})
    with pytest.raises(ValueError, match="keep"):
        Checkpoints(tmp_path, keep=0)


# Files that are not whole.


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return Checkpoints(tmp_path).save(100, STATE, METADATA)


def test_a_file_cut_at_any_length_is_refused(whole: Path) -> None:
    content = whole.read_bytes()
    lengths = {0, 1, 7, 8, 9, 100, *range(0, len(content), 97), len(content) - 1}
    for length in sorted(lengths):
        whole.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated or damaged") as caught:
            read(whole)
        assert str(whole) in str(caught.value)
    whole.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read(whole)


def test_a_flipped_byte_never_changes_what_is_read(whole: Path) -> None:
    content = whole.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    positions = [*range(0, header, 3), *range(header, len(content), 31)]
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        whole.write_bytes(damaged)
        try:
            # Only JSON's white space, and which of its escapes is used, may differ without harm.
            assert same(read(whole).state, STATE), position
            assert position < header
        except CheckpointError:
            refused += 1
    assert refused > 0.95 * len(positions)


def test_a_damaged_tensor_is_named(whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[-1] ^= 0x10
    whole.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum of 'env/done'"):
        read(whole)


def test_other_files_are_refused_with_their_reason(tmp_path: Path, whole: Path) -> None:
    content = whole.read_bytes()
    foreign, text, newer, missing = (
        tmp_path / name for name in ("foreign", "text", "newer", "missing")
    )
    save_file({"weight": torch.zeros(3)}, foreign, metadata={"format": "pt"})
    text.write_text("this is only a note about a run")
    newer.write_bytes(content.replace(b'"format_version":"1"', b'"format_version":"2"'))
    for path, reason in [
        (foreign, "not written by pixel-hrl"),
        (text, "not a safetensors file"),
        (newer, "format version 2, this is version 1"),
        (missing, "no such file"),
    ]:
        with pytest.raises(CheckpointError, match=reason) as caught:
            read(path)
        assert caught.value.path == path


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_refused_and_never_executed(tmp_path: Path, legacy: bool) -> None:
    target, path = tmp_path / "executed", tmp_path / "step_000000000100.training.safetensors"
    torch.save({"agent": Payload(target)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        Checkpoints(tmp_path).load_latest()
    assert not target.exists()
    torch.load(path.rename(tmp_path / "agent.pt"), weights_only=False)
    assert target.exists(), "the payload of this test does not work"


# The newest whole one.


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "never made").load_latest() is None
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "step_best.safetensors").write_text("")
    assert Checkpoints(tmp_path).load_latest() is None


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for frames in (0, 500, 1000, 10**13):
        checkpoints.save(frames, {"frames": frames}, {})
    assert {path.name for path in tmp_path.iterdir()} == {
        "step_000000001000.training.safetensors",
        "step_000000001000.policy.safetensors",
        "step_10000000000000.training.safetensors",
        "step_10000000000000.policy.safetensors",
    }
    latest = Checkpoints(tmp_path).load_latest()
    assert latest is not None
    assert (
        latest.state == {"frames": latest.frames, "policy": {}} == {"frames": 10**13, "policy": {}}
    )


def test_a_damaged_newest_one_is_skipped_with_a_warning_and_never_counts_as_kept(
    tmp_path: Path,
) -> None:
    for frames in (100, 200):
        Checkpoints(tmp_path, keep=2).save(frames, {"frames": frames}, {})
    (tmp_path / "step_000000000200.training.safetensors").write_bytes(b"")
    checkpoints = Checkpoints(tmp_path, keep=2)
    with pytest.warns(
        UserWarning,
        match=r"step_000000000200\.training\.safetensors: truncated.*step_000000000100\.training",
    ):
        latest = checkpoints.load_latest()
    assert latest is not None
    assert latest.state == {"frames": 100, "policy": {}}
    checkpoints.save(150, {"frames": 150}, {})
    checkpoints.save(250, {"frames": 250}, {})
    for part in ("training", "policy"):
        assert sorted(path.name[5:17] for path in tmp_path.glob(f"*.{part}.*")) == [
            "000000000150",
            "000000000200",
            "000000000250",
        ]


def test_where_none_is_whole_each_is_listed(tmp_path: Path) -> None:
    (tmp_path / "step_000000000100.training.safetensors").write_bytes(b"")
    save_file({"weight": torch.zeros(3)}, tmp_path / "step_000000000200.training.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path).load_latest()
    assert "step_000000000100.training.safetensors: truncated" in str(caught.value)
    assert "step_000000000200.training.safetensors: not written by pixel-hrl" in str(caught.value)


# Writes that do not end.


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel refuses to let a file of this process grow further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_leaves_the_earlier_ones(whole: Path) -> None:
    checkpoints = Checkpoints(whole.parent, keep=1)
    with file_size_limit(100_000), pytest.raises(CheckpointWriteError) as caught:
        checkpoints.save(200, {"large": np.zeros(100_000)}, {})
    error = caught.value
    assert (error.frames, error.path, error.last_good) == (200, checkpoints.path(200), whole)
    assert os.strerror(errno.EFBIG) in error.reason
    assert str(whole) in str(error)
    assert set(whole.parent.iterdir()) == {whole, policy_path(whole)}
    newest = checkpoints.save(200, {"large": np.zeros(100_000)}, {})
    assert set(whole.parent.iterdir()) == {newest, policy_path(newest)}


def test_a_disk_that_is_full_only_at_the_end_counts_as_full(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointWriteError, match="No space left on device"):
        Checkpoints(whole.parent).save(200, STATE, {})
    assert set(whole.parent.iterdir()) == {whole, policy_path(whole)}


def test_the_first_write_that_fails_says_that_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(CheckpointWriteError, match="there is no earlier checkpoint"):
        Checkpoints(tmp_path / "checkpoints").save(200, STATE, {})


def test_abandoned_files_are_removed_and_one_being_written_is_not(tmp_path: Path) -> None:
    abandoned = tmp_path / ".step_000000000100.safetensors.01234567.tmp"
    living = tmp_path / ".step_000000000200.safetensors.89abcdef.tmp"
    abandoned.write_bytes(b"half")
    with open(living, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Checkpoints(tmp_path)
        assert not abandoned.exists()
        assert living.exists()
    Checkpoints(tmp_path)
    assert not living.exists()


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from hrl.run.checkpoint_format import read
from hrl.run.checkpoints import Checkpoints

folder = Path(sys.argv[1]) / "checkpoints"

def save_forever(frames):
    checkpoints = Checkpoints(folder, folder.parent / "policy.safetensors")
    while True:
        frames += 1
        state = {"values": np.full(250_000, frames), "frames": frames}
        checkpoints.save(frames, {**state, "policy": state}, {})

Checkpoints(folder).save(0, {"values": np.zeros(1, dtype=np.int64), "frames": 0, "policy": {}}, {})
moments, frames, interrupted, rounds = random.Random(0), 0, 0, 0
longest = 0.06
while rounds < 25 or (rounds < 150 and not (frames and interrupted)):
    rounds += 1
    longest *= 1 if frames else 1.05  # a busy machine takes longer to save
    child = os.fork()
    if child == 0:
        save_forever(frames)
    time.sleep(moments.uniform(0.001, longest))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    interrupted += bool(list(folder.glob(".*.tmp")))
    latest = Checkpoints(folder).load_latest()
    assert latest.frames >= frames
    assert latest.state["frames"] == latest.frames
    assert (latest.state["values"] == latest.frames).all()
    policy = latest.state["policy"] or {"values": np.zeros(1), "frames": 0}
    assert policy["frames"] == latest.frames
    assert (policy["values"] == latest.frames).all()
    if (folder.parent / "policy.safetensors").exists():  # written last: the first kill may precede
        shared = read(folder.parent / "policy.safetensors")
        assert shared.frames <= latest.frames
        assert (shared.state["values"] == shared.frames).all()
    assert not list(folder.glob(".*"))
    frames = latest.frames
Checkpoints(folder).save(frames + 1, {}, {})
# What a kill between a save and its deletions left is deleted by the next save.
assert len(list(folder.iterdir())) == 4
print(frames, interrupted)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-c", KILLED_AT_RANDOM, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    frames, interrupted = map(int, result.stdout.split())
    assert frames > 0, "no child lived long enough to save"
    assert interrupted > 0, "no child was killed while it wrote"


KILLED_AT_A_STEP = """
import os, sys
from pathlib import Path
import numpy as np
from hrl.run.checkpoints import Checkpoints

folder, steps, moment = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
replace = os.replace

def replace_and_count(source, target):
    global steps
    steps -= 1
    if moment == "after":
        replace(source, target)
    if steps == 0:
        os.kill(os.getpid(), 9)
    if moment == "before":
        replace(source, target)

checkpoints = Checkpoints(folder / "checkpoints", folder / "policy.safetensors")
checkpoints.save(1, {"policy": {"weight": np.ones(9)}, "moment": np.ones(9)}, {})
os.replace = replace_and_count
checkpoints.save(2, {"policy": {"weight": np.full(9, 2.0)}, "moment": np.full(9, 2.0)}, {})
"""


@pytest.mark.parametrize(
    ("step", "moment", "used", "shared"),
    [
        (1, "before", 1, 1),  # nothing of the second checkpoint has its name yet
        (1, "after", 1, 1),  # its policy has
        (2, "before", 1, 1),
        (2, "after", 2, 1),  # the pair is complete
        (3, "before", 2, 1),
        (3, "after", 2, 2),  # the newest policy is found in the run folder too
    ],
)
def test_a_kill_between_the_two_files_leaves_the_pair_before(
    step: int, moment: str, used: int, shared: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED_AT_A_STEP, str(tmp_path), str(step), moment]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    checkpoints = Checkpoints(tmp_path / "checkpoints", tmp_path / "policy.safetensors")
    for latest in (checkpoints.load_latest(), checkpoints.load_policy()):
        assert latest is not None
        assert latest.frames == used
    latest = checkpoints.load_latest()
    assert latest is not None
    for values in (latest.state["policy"]["weight"], latest.state["moment"]):
        assert (values == used).all()
    assert (read(tmp_path / "policy.safetensors").state["weight"] == shared).all()
    assert not list(tmp_path.glob("**/.*")), "nothing half-written is left"
    checkpoints.save(3, {}, {})
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_a_policy_that_belongs_to_another_training_state_is_not_used(whole: Path) -> None:
    checkpoints = Checkpoints(whole.parent)
    checkpoints.save(200, {"policy": {"weight": np.ones(2)}}, {})
    write(policy_path(checkpoints.path(200)), 200, {"weight": np.zeros(2)}, {})
    for load in (checkpoints.load_latest, checkpoints.load_policy):
        with pytest.warns(UserWarning, match=r"does not belong to step_0+200\.training"):
            latest = load()
        assert latest is not None
        assert latest.frames == 100


def _forged(whole: bytes, change: Any, path: Path) -> None:
    """Write a checkpoint file with other content, whose checksums are right."""
    (size,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + size])
    text = json.dumps(change)
    header["__metadata__"] |= {"content": text, "checksum": str(zlib.crc32(text.encode()))}
    new = json.dumps(header).encode()
    new += b" " * (-len(new) % 8)
    path.write_bytes(struct.pack("<Q", len(new)) + new + whole[8 + size :])


def test_content_that_is_no_tree_is_refused_and_never_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = {"policy": {"w": torch.ones(2)}, "n": np.float32(3), "l": [1, (3, float("nan"))]}
    write(path, 3, state, {"config": {"a": 1}})
    whole = path.read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    content = json.loads(json.loads(whole[8 : 8 + size])["__metadata__"]["content"])
    content["versions"] = {"python": "3.11"}
    nodes = ({"map": 1}, {"map": [[[1], 1]]}, {"torch": "nope"}, {"float": "00"}, {"a": 1, "b": 2})
    others = [(str(node), {**content, "tree": node}) for node in nodes]
    refused = 0
    for place, change in [*damaged(content, (None, 1, "x", [1], {"a": 1})), *others]:
        _forged(whole, change, path)
        for parts in (None, ("policy",)):
            try:
                checkpoint = read(path, parts)
            except CheckpointError:
                refused += 1
            else:
                assert isinstance(checkpoint.state, dict), place
                assert isinstance(checkpoint.metadata, dict), place
    assert refused > 100


def test_a_checkpoint_whose_content_is_no_tree_is_skipped_with_a_warning(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for frames in (1, 2):
        checkpoints.save(frames, {"policy": {"w": torch.ones(2)}, "n": frames}, {})
    newest = checkpoints.path(2)
    _forged(newest.read_bytes(), {"frames": 2, "tree": {"map": 1}, "checksums": {}}, newest)
    with pytest.warns(UserWarning, match="no tree of values - skipped, step_000000000001"):
        found = checkpoints.load_latest()
    assert found is not None
    assert found.frames == 1


@pytest.mark.parametrize("metadata", [{}, {"config": None}, {"config": [1]}, {"config": "x"}])
def test_metadata_that_lack_a_value_are_refused(metadata: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, 1, {}, metadata)
    with pytest.raises(CheckpointError, match="its metadata have no 'config'"):
        read(path).value("config", dict)
