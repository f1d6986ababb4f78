"""A cell of several GPUs is trained by torchrun; here by two processes on a CPU."""

from dataclasses import replace

import pytest

from hrl.study.cells import CellResources
from hrl.study.executors.base import CellProcess, cell_command
from tests.hrl.study.real_cells import real_cell, trains
from tests.hrl.study.slurm_cluster import wait_for


@pytest.fixture
def of_two(tmp_path):
    cell = real_cell(tmp_path)
    return replace(cell, resources=CellResources(cores=2, memory=2**30, gpus=2))


def test_torchrun_starts_a_process_a_gpu_for_what_trains_and_nothing_else(of_two):
    module = ["-m", "hrl.study.torchrun", "2", "train"]
    command = cell_command(of_two, time_limit=60)
    start = command.index("-m")
    assert command[start : start + 4] == module
    assert command[-1] == "time_limit=60"
    for other in (
        replace(of_two, command="evaluate"),
        replace(of_two, resources=CellResources(cores=2, memory=1, gpus=1)),
    ):
        assert "hrl.study.torchrun" not in cell_command(other)


@pytest.mark.slow
def test_a_cell_of_two_processes_saves_and_says_by_its_exit_code_why_it_left(of_two):
    process = CellProcess(of_two)
    wait_for(lambda: trains(of_two) or process.exit_code() is not None, 600)
    process.stop()
    assert process.wait() == 138, of_two.log.read_text()
    saved = of_two.done_frames
    assert saved > 0
    assert not of_two.is_running()
    assert CellProcess(of_two, time_limit=1).wait() == 75, of_two.log.read_text()
    assert of_two.done_frames > saved
