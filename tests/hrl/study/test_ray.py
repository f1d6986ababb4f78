"""A real Ray cluster of two nodes, one of which is killed while it trains."""

from importlib.util import find_spec

import psutil
import pytest

from hrl.config import ConfigError
from hrl.study.cells import CellResources
from hrl.study.config import RayConfig
from hrl.study.drive import StudyRunner
from tests.hrl.study.real_cells import assert_as_if_never_stopped, in_the_middle, real_cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]
NODE = {"memory": 2 * 2**30, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    yield cluster
    import ray

    ray.shutdown()
    cluster.shutdown()


def runs_the_cell(node) -> bool:
    """Whether a cell is a process below the node's own."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return any("hrl.cli" in child.cmdline() for child in raylet.children(recursive=True))


def test_the_cell_of_a_killed_node_continues_on_another_to_the_bit(cluster, tmp_path):
    from hrl.study.executors.ray import RayExecutor

    nodes = [cluster.add_node(num_cpus=1, **NODE) for _ in range(2)]
    executor = RayExecutor(RayConfig(address=cluster.address))
    cell = real_cell(tmp_path, checkpoint_every=1024)
    executor.check([cell])

    def kill():
        cluster.remove_node(next(filter(runs_the_cell, nodes)), allow_graceful=False)

    # A lost node saves nothing: the run goes on from its last checkpoint.
    thread = in_the_middle(cell, kill, ready=lambda cell: cell.done_frames > 0)
    runner = StudyRunner([cell], executor, lambda line: None)
    runner.run(())
    thread.join()
    log = cell.log.read_text()
    assert not runner.failures, log
    assert log.count(f"continuing {cell.folder} at") == 1
    executor.close()
    assert_as_if_never_stopped(cell, tmp_path / "reference")


def test_a_cell_that_no_node_can_hold_is_refused_by_name(cluster, tmp_path):
    from dataclasses import replace

    from hrl.study.executors.ray import RayExecutor

    executor = RayExecutor(RayConfig(address=cluster.address))
    large = replace(real_cell(tmp_path), resources=CellResources(1, 64 * 2**30, 0))
    with pytest.raises(ConfigError, match=r"train debug/ppo/seed_0 needs 1 cores, 0 GPUs and 64.0"):
        executor.check([large])
    executor.close()
