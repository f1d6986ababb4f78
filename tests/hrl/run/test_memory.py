"""What cannot fit is refused with its numbers, in a container too."""

from pathlib import Path

import psutil
import pytest

from hrl.run.memory import MemoryEstimate, MemoryEstimateError, available_memory, human_size

GIB = 2**30


@pytest.fixture
def budget() -> MemoryEstimate:
    budget = MemoryEstimate()
    for name, size in [
        ("model", GIB // 4),
        ("replay", 9 * GIB),
        ("worlds", GIB),
        ("replay", 3 * GIB),
        ("rest", 10),
    ]:
        budget.add(name, size)
    return budget


def test_the_table_is_ordered_by_size_and_ends_with_the_sum(budget: MemoryEstimate) -> None:
    assert str(budget).splitlines() == [
        "replay    12.0 GiB",
        "worlds     1.0 GiB",
        "model    256.0 MiB",
        "rest          10 B",
        "sum       13.3 GiB",
    ]
    assert budget.total == 13 * GIB + GIB // 4 + 10


def test_what_does_not_fit_is_refused_with_its_largest_parts(budget: MemoryEstimate) -> None:
    with pytest.raises(MemoryEstimateError) as caught:
        budget.check(available=14 * GIB)
    message = str(caught.value)
    assert "needs 13.3 GiB" in message
    assert "may take 12.6 GiB (90% of the 14.0 GiB available)" in message
    assert message.endswith("replay 12.0 GiB, worlds 1.0 GiB, model 256.0 MiB")
    assert isinstance(caught.value, MemoryError)


def test_the_limit_is_a_fraction_of_what_is_there(budget: MemoryEstimate) -> None:
    budget.check(available=15 * GIB)
    budget.check(available=14 * GIB, limit_fraction=1.0)
    exact = MemoryEstimate()
    exact.add("all", 900)
    exact.check(available=1000)
    exact.add("all", 1)
    with pytest.raises(MemoryEstimateError):
        exact.check(available=1000)


def test_by_default_this_machine_is_asked() -> None:
    budget = MemoryEstimate()
    budget.check()
    budget.add("replay", psutil.virtual_memory().total)
    with pytest.raises(MemoryEstimateError):
        budget.check()


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="'replay' must not be negative"):
        MemoryEstimate().add("replay", -1)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * GIB, "5.0 GiB"), (2**54, "16384.0 TiB")],
)
def test_sizes_are_said_in_the_unit_that_fits(size: int, text: str) -> None:
    assert human_size(size) == text


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("memory_", "memory.", 1)).write_text(f"{content}\n")


def membership(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "membership"
    path.write_text(text)
    return path


def test_a_control_group_limits_what_is_available(tmp_path: Path) -> None:
    groups, own = tmp_path / "cgroup", tmp_path / "cgroup" / "jobs" / "job 7"
    member = membership(tmp_path, "0::/jobs/job 7\n")
    group(groups / "jobs", memory_max="max", memory_current=3_000_000)
    group(
        own,
        memory_max=8_000_000,
        memory_current=3_000_000,
        memory_stat="anon 5\ninactive_file 500000",
    )
    assert available_memory(groups, member) == 5_500_000
    group(groups / "jobs", memory_max=4_000_000)
    assert available_memory(groups, member) == 1_000_000, "a group above ours is the narrower one"
    group(groups / "jobs", memory_current=5_000_000)
    assert available_memory(groups, member) == 0


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", memory_max=8_000_000, memory_current=0)
    member = membership(tmp_path, "0::/kubepods/pod1/container2\n")
    assert available_memory(tmp_path / "cgroup", member) == 8_000_000


def test_control_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    own = tmp_path / "cgroup" / "memory" / "job"
    group(
        own,
        memory_limit_in_bytes=6_000_000,
        memory_usage_in_bytes=2_000_000,
        memory_stat="total_inactive_file 1000",
    )
    member = membership(tmp_path, "8:pids:/other\n4:cpu,memory:/job\n1:name=systemd:/job\n0::/\n")
    assert available_memory(tmp_path / "cgroup", member) == 4_001_000


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    own = tmp_path / "cgroup" / "memory" / "job"
    group(own, memory_limit_in_bytes=2**63 - 4096, memory_usage_in_bytes=2_000_000)
    member = membership(tmp_path, "4:memory:/job\n")
    near = pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert available_memory(tmp_path / "cgroup", member) == near
    assert available_memory(tmp_path / "none", tmp_path / "none") == near
