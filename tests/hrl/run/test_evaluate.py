"""Tables of scores in a run folder: filled split by split, never a mixture, and never more memory
than there is."""

import json
import os
import re
import tempfile

import pandas as pd
import pytest

from hrl.run import evaluate as evaluate_module
from hrl.run.errors import FolderError, MixedScoresError, UnevaluatedRunsError
from hrl.run.evaluate import evaluate_all, evaluate_run
from hrl.run.folder import RunFolder, find_run_folders
from hrl.run.load import LoadedRun, load_scripted
from hrl.run.memory import MemoryEstimateError
from tests.hrl.evaluation.test_episodes import Recorder

SPLITS = ["train", "interpolation", "extrapolation_far"]


def hierarchy(frames: int = 512, **eval_config: object) -> LoadedRun:
    """A manager whose high-level action is its task, as if trained."""
    changes = [f"evaluation.{key}={value}" for key, value in eval_config.items()]
    run = load_scripted(["agent=zero", "suite=debug", "size=debug", "threads=1", *changes])
    return LoadedRun(Recorder(), run.composed, run.suite, frames)


def written(folder) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".csv", ".json")
    }


def started(folder, run: LoadedRun) -> None:
    """The file that training leaves, which a scored policy with frames is expected to have."""
    folder.mkdir(parents=True)
    RunFolder(folder).write_config(run.plain)


def test_a_mean_over_the_scores_is_of_no_shuffled_episode(tmp_path):
    started(tmp_path / "run", hierarchy())
    played = evaluate_run(hierarchy(), tmp_path / "run", "a test", episodes=2, videos=0)
    plain = played[played["intervention"] == "none"]
    scores = pd.read_csv(tmp_path / "run" / "scores.csv")
    assert "intervention" not in scores
    assert len(scores) == len(plain) < len(played)
    assert scores["return"].mean() == pytest.approx(plain["return"].mean())


@pytest.mark.parametrize(
    "order",
    [
        SPLITS[::-1],
        pytest.param(["interpolation", "train", "extrapolation_far"], marks=pytest.mark.slow),
    ],
)
def test_splits_evaluated_one_by_one_make_the_files_of_all_at_once(tmp_path, order):
    for name in ("whole", "parts"):
        started(tmp_path / name, hierarchy())
    evaluate_run(hierarchy(), tmp_path / "whole", "a test", episodes=2, videos=0)
    for split in order:
        evaluate_run(
            hierarchy(), tmp_path / "parts", "a test", episodes=2, splits=[split], videos=0
        )
    assert written(tmp_path / "parts") == written(tmp_path / "whole")
    shuffled = pd.read_csv(tmp_path / "whole" / "shuffled_scores.csv")
    assert set(shuffled["intervention"]) == {"high_level_action_shuffle", "task_shuffle"}
    assert set(pd.read_csv(tmp_path / "whole" / "skill_usage.csv")["split"]) == set(SPLITS)


def test_rows_of_a_split_are_replaced_and_the_others_stay(tmp_path):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    evaluate_run(hierarchy(), folder, "a test", episodes=2, videos=0)
    before = written(folder)
    table = pd.read_csv(folder / "scores.csv", dtype=str)
    table.loc[table["split"] == "interpolation", "return"] = "-1.0"
    table.to_csv(folder / "scores.csv", index=False)
    fresh = evaluate_run(
        hierarchy(), folder, "a test", episodes=2, splits=["interpolation"], videos=0
    )
    assert set(fresh["split"]) == {"interpolation"}, "what is returned is what was played"
    assert written(folder) == before


@pytest.mark.parametrize(
    ("run", "episodes", "named"),
    [
        (hierarchy(frames=1024), 2, "frames 512 there and 1024 now"),
        (hierarchy(), 3, "episodes 2 there and 3 now"),
        (hierarchy(seed=9), 2, r"seed 20240 there and 9 now"),
    ],
)
def test_another_checkpoint_or_eval_config_is_never_mixed_in(tmp_path, run, episodes, named):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    evaluate_run(hierarchy(), folder, "a test", episodes=2, videos=0)
    before = written(folder)
    with pytest.raises(
        MixedScoresError, match=named + ".*evaluate every split, or remove scores.csv"
    ):
        evaluate_run(run, folder, "a test", episodes=episodes, splits=["train"], videos=0)
    assert written(folder) == before
    evaluate_run(
        run, folder, "a test", episodes=episodes, videos=0
    )  # of everything: nothing would stay
    assert json.loads((folder / "evaluation.json").read_text())["episodes"] == episodes
    assert len(pd.read_csv(folder / "scores.csv")["frames"].unique()) == 1


def test_a_full_disk_keeps_the_scores_before_and_those_just_played(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    evaluate_run(hierarchy(), folder, "a test", episodes=2, videos=0)
    before = written(folder)
    sync = os.fsync

    def full(descriptor):
        if str(folder) in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=r"No space left .*played are in (\S+)\): '.*\.(csv|json)'"):
        evaluate_run(hierarchy(), folder, "a test", episodes=1, videos=0)
    assert written(folder) == before
    (rescued,) = tmp_path.glob("scores-*")
    assert set(pd.read_csv(rescued / "scores.csv")["split"]) == set(SPLITS)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_taken_away_meanwhile_is_not_made_again_nor_another_s_overwritten(
    replaced, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    play = evaluate_module._play

    def take_away(*arguments):
        folder.rename(tmp_path / "elsewhere")
        if replaced:
            started(folder, hierarchy())
        return play(*arguments)

    monkeypatch.setattr(evaluate_module, "_play", take_away)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(FolderError, match=r"run was removed, moved or replaced .*played are in"):
        evaluate_run(hierarchy(), folder, "a test", episodes=1)
    assert [path.name for path in tmp_path.glob("run/*")] == ["config.yaml"] * replaced
    (rescued,) = tmp_path.glob("scores-*")
    assert set(pd.read_csv(rescued / "scores.csv")["split"]) == set(SPLITS)


def test_what_a_killed_evaluation_left_is_removed_by_the_next(tmp_path):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    (folder / "videos").mkdir()
    for name in (".scores.csv.0123abcd.tmp", "videos/.000_a.mp4.tmp"):
        (folder / name).touch()
    evaluate_run(hierarchy(), folder, "a test", episodes=1, splits=["train"], videos=0)
    assert not list(folder.rglob("*.tmp"))


def test_scores_of_unknown_origin_are_not_added_to(tmp_path):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    evaluate_run(hierarchy(), folder, "a test", episodes=2, videos=0)
    (folder / "evaluation.json").unlink()
    with pytest.raises(MixedScoresError, match=r"no evaluation\.json says"):
        evaluate_run(hierarchy(), folder, "a test", episodes=2, splits=["train"], videos=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores.csv", b""),
        ("scores.csv", b"\xff\xfe\x81"),
        ("scores.csv", b"a,b\n1,2\n"),
        ("evaluation.json", b"{"),
        ("evaluation.json", b"[1]"),
    ],
)
def test_damaged_tables_are_named(tmp_path, name, content):
    folder = tmp_path / "run"
    started(folder, hierarchy())
    evaluate_run(hierarchy(), folder, "a test", episodes=1, videos=0)
    (folder / name).write_bytes(content)
    with pytest.raises(MixedScoresError, match=f"{name} cannot be read"):
        evaluate_run(hierarchy(), folder, "a test", episodes=1, splits=["train"], videos=0)


def test_a_policy_without_a_folder_of_its_own_is_not_mixed_with_another(tmp_path):
    """Scripted policies write their configuration beside their scores."""
    overrides = ["agent=random", "suite=debug", "size=debug", "threads=1"]
    evaluate_run(load_scripted(overrides), tmp_path, "a test", videos=0)
    with pytest.raises(FolderError, match="holds a run of agent random, not of zero"):
        evaluate_run(
            load_scripted(["agent=zero", *overrides[1:]]),
            tmp_path,
            "a test",
            splits=["train"],
            videos=0,
        )


def test_what_does_not_fit_is_refused_before_a_world_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "hrl.evaluation.episodes.make_vec", lambda *a, **b: pytest.fail("a world was made")
    )
    with pytest.raises(MemoryEstimateError, match=r"TiB of memory.*simulation and rendering"):
        evaluate_run(hierarchy(), tmp_path / "run", "a test", episodes=10**8, videos=0)
    assert "simulation and rendering" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, capsys):
    folders = {name: tmp_path / name for name in ("first", "broken", "last")}
    for name in ("first", "last"):
        started(folders[name], hierarchy())

    def fail():
        raise FolderError(f"{folders['broken']} has no checkpoint yet")

    loaders = {folders["first"]: hierarchy, folders["broken"]: fail, folders["last"]: hierarchy}
    with pytest.raises(UnevaluatedRunsError, match=r"1 of 3 runs.*\n.*broken: .*no checkpoint yet"):
        evaluate_all(loaders, "a test", episodes=1, videos=0)
    for name in ("first", "last"):
        assert (folders[name] / "scores.csv").exists()
    printed = capsys.readouterr().out
    assert f"{folders['last']}  (3 of 3)" in printed
    assert re.search(r"(\d+)/\1 episodes \(100\.0%\)", printed)
    with pytest.raises(FolderError, match="no checkpoint yet"):
        evaluate_all({folders["broken"]: fail}, "a test")


def test_run_folders_are_found_by_name_glob_and_parent(tmp_path):
    for name in ("study/ppo/seed_0", "study/ppo/seed_1", "study/skills/seed_0", "other"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    (tmp_path / "study" / ".hydra").mkdir()
    (tmp_path / "study" / ".hydra" / "config.yaml").touch()

    def found(*paths):
        return [str(path.relative_to(tmp_path)) for path in find_run_folders(paths)]

    assert found(tmp_path / "study") == [
        "study/ppo/seed_0",
        "study/ppo/seed_1",
        "study/skills/seed_0",
    ]
    assert found(tmp_path / "other", tmp_path / "study/*/seed_0") == [
        "other",
        "study/ppo/seed_0",
        "study/skills/seed_0",
    ]
    assert found(tmp_path / "study/ppo/seed_1", f"{tmp_path}/study/ppo") == [
        "study/ppo/seed_1",
        "study/ppo/seed_0",
    ]
    with pytest.raises(FolderError, match="nothing_here: no run folder there"):
        found(tmp_path / "nothing_here")
    with pytest.raises(FolderError, match="no run folder was given"):
        found()
