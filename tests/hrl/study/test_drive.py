"""Cells are started as there is room, continued after a stop, and never stop each other."""

import json
from dataclasses import replace

import pytest

from hrl.run.errors import CONTINUE, FolderError
from hrl.run.folder import RunFolder
from hrl.study.cells import last_lines
from hrl.study.drive import StudyRunner, failure_text
from hrl.study.status import cell_state
from tests.hrl.study.fake_cells import FakeExecutor, advance, cell


def run(cells, script, stop=(), room=2):
    executor = FakeExecutor(script, room)
    lines = []
    runner = StudyRunner(cells, executor, lines.append, interval=0)
    runner.run(stop)
    return executor, runner, lines


def test_the_codes_after_which_a_cell_continues_are_those_of_a_saved_run():
    assert CONTINUE == (75, 129, 138, 140, 143)


@pytest.mark.parametrize("code", CONTINUE)
def test_a_stopped_cell_continues_until_it_is_finished(code, tmp_path):
    one = cell(tmp_path, "one")
    executor, runner, _ = run([one], {"one": [(30, code), (60, code), (100, 0)]})
    assert executor.starts == ["one"] * 3
    assert not runner.failures
    assert cell_state(one) == "finished"


@pytest.mark.parametrize("code", [1, 2, 130, 137])
def test_a_failed_cell_is_not_started_again_and_stops_no_other(code, tmp_path):
    cells = [cell(tmp_path, name) for name in ("bad", "good", "other")]
    script = {"bad": [(10, code)], "good": [(100, 0)], "other": [(100, 0)]}
    executor, runner, lines = run(cells, script)
    assert sorted(executor.starts) == ["bad", "good", "other"]
    assert runner.failures["bad"].exit_code == code
    assert list(runner.failures) == ["bad"]
    assert any(f"failed    bad (exit code {code})" in line for line in lines)
    assert [cell_state(one) for one in cells] == ["failed", "finished", "finished"]


def test_a_cell_that_never_gets_on_is_given_up_and_one_that_does_is_not(tmp_path):
    stuck, slow = cell(tmp_path, "stuck"), cell(tmp_path, "slow")
    script = {"stuck": [(0, 75)] * 9, "slow": [(20 * (i + 1), 75) for i in range(4)] + [(100, 0)]}
    advance(stuck, 0)
    executor, runner, _ = run([stuck, slow], script)
    assert executor.starts.count("stuck") == 3
    assert executor.starts.count("slow") == 5
    assert list(runner.failures) == ["stuck"]


def test_success_without_a_finished_run_is_a_failure(tmp_path):
    _, runner, _ = run([cell(tmp_path, "short")], {"short": [(50, 0)]})
    assert runner.failures["short"].exit_code == 70


def test_finished_cells_are_not_started(tmp_path):
    done, missing = cell(tmp_path, "done"), cell(tmp_path, "missing")
    advance(done, 120)  # a rollout may overshoot
    executor, _, _ = run([done, missing], {"missing": [(100, 0)]})
    assert executor.starts == ["missing"]


def test_cells_wait_for_what_they_need_and_are_named_where_it_failed(tmp_path):
    source = cell(tmp_path, "source")
    tuned = cell(tmp_path, "tuned", after=("source",))
    bad = cell(tmp_path, "bad")
    blocked = cell(tmp_path, "blocked", after=("bad",))
    script = {"source": [(40, 75), (100, 0)], "tuned": [(100, 0)], "bad": [(0, 2)]}
    executor, runner, _ = run([tuned, source, blocked, bad], script, room=9)
    assert executor.starts.index("tuned") > max(
        i for i, name in enumerate(executor.starts) if name == "source"
    )
    assert runner.failures["blocked"].because == "bad"
    text = failure_text(runner.failures, lambda one: last_lines(one.log))
    assert "blocked: not started, because bad failed" in text


def test_a_failure_shows_the_end_of_its_log(tmp_path):
    bad = cell(tmp_path, "bad")
    bad.log.parent.mkdir(parents=True)
    bad.log.write_text("\n".join(f"line {i}" for i in range(50)) + "\nerror: no such suite\n")
    _, runner, _ = run([bad], {"bad": [(0, 2)]})
    text = failure_text(runner.failures, lambda one: last_lines(one.log))
    assert "exit code 2" in text
    assert "error: no such suite" in text
    assert "line 10" not in text


def test_the_pool_is_never_fuller_than_the_executor_has_room(tmp_path):
    cells = [cell(tmp_path, str(i)) for i in range(7)]
    executor, _, _ = run(cells, {one.name: [(100, 0)] for one in cells}, room=3)
    assert executor.most == 3


def test_a_study_whose_folder_is_taken_away_stops_its_cells_and_makes_no_new_one(tmp_path):
    study = tmp_path / "study"
    cells = [cell(study, str(i)) for i in range(4)]
    executor = FakeExecutor({one.name: [(50, None)] for one in cells})
    with RunFolder(study).lock() as lock:

        def take_away(line):
            if "started   1" in line:
                study.rename(tmp_path / "elsewhere")

        runner = StudyRunner(cells, executor, take_away, interval=0, check=lock.check)
        with pytest.raises(FolderError, match="study was removed, moved or replaced"):
            runner.run([])
    assert sorted(executor.stopped) == ["0", "1"] == executor.starts
    assert not list(study.glob("logs"))


def test_a_signal_stops_the_running_cells_and_starts_no_more(tmp_path):
    cells = [cell(tmp_path, str(i)) for i in range(4)]
    executor = FakeExecutor({one.name: [(50, None)] for one in cells})
    stop = []
    runner = StudyRunner(cells, executor, lambda line: stop.append(15), interval=0)
    runner.run(stop)
    assert sorted(executor.stopped) == ["0", "1"] == executor.starts
    assert not runner.failures
    assert [cell_state(one) for one in cells] == ["stopped", "stopped", "missing", "missing"]
    assert json.loads(cells[0].log.with_suffix(".json").read_text()) == {"exit_code": 138}


def test_a_run_that_is_trained_on_is_evaluated_again(tmp_path):
    """Its evaluation counts as finished when the study starts."""
    trained = cell(tmp_path, "trained")
    evaluated = replace(
        cell(tmp_path, "trained"),
        name="evaluated",
        command="evaluate",
        frames=0,
        episodes=1,
        splits=("train",),
        after=("trained",),
    )
    advance(trained, 50)
    files = RunFolder(trained.folder)
    files.scores.write_text("split\ntrain\n")
    files.evaluation.write_text('{"frames": 50, "episodes": 1}')
    assert evaluated.is_finished()
    executor, runner, _ = run([trained, evaluated], {"trained": [(100, 0)], "evaluated": [(0, 0)]})
    assert executor.starts == ["trained", "evaluated"]
    assert runner.failures["evaluated"].exit_code == 70, "this fake evaluation played nothing"


def test_what_is_finished_is_not_missing_because_its_source_failed(tmp_path):
    trained = cell(tmp_path, "trained")
    tuned = cell(tmp_path, "tuned", after=("trained",))
    advance(tuned, 100)
    _, runner, _ = run([trained, tuned], {"trained": [(10, 1)]})
    assert list(runner.failures) == ["trained"]
