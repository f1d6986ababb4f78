"""A plan names every cell, says what it costs, and refuses what could not work."""

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from envs.resources import config_files
from hrl.cli import main
from hrl.config import ConfigError, load
from hrl.config_field import ConfigValueError
from hrl.reporting import RunFolderError
from hrl.run.errors import FolderError
from hrl.run.finetune import compose_finetune, read_request
from hrl.run.finetune_source import planned_source
from hrl.run.folder import RunFolder, study_record
from hrl.run.memory import DiskEstimateError, human_size
from hrl.run.provenance import code_revision
from hrl.run.recorded_cells import recorded_cells
from hrl.study import reuse
from hrl.study import run as study_run
from hrl.study.config import load_study, with_seeds
from hrl.study.cost import (
    check_disk,
    cost_rows,
    finetuning_disk,
    measured_rates,
    plan_text,
    rate_of,
)
from hrl.study.errors import FailedCellsError
from hrl.study.plan import make_plan
from hrl.study.status import status_text
from tests.hrl.study.fake_cells import advance

CONFIG_ERRORS = (ConfigError, ConfigValueError)
TUNED = "finetuning.x.tasks=[train]"


@pytest.fixture
def plan(study):
    return make_plan(study())


def named(plan, name):
    return next(cell for cell in plan.cells if cell.name == name)


def test_a_plan_trains_then_evaluates_every_method_seed_and_control(plan):
    assert [cell.name for cell in plan.cells] == [
        *("train debug/ppo/seed_3", "train debug/ppo/seed_4"),
        *("train debug/skills/seed_3", "train debug/skills/seed_4"),
        "train debug/k1/seed_3",
        *("evaluate debug/ppo/seed_3", "evaluate debug/ppo/seed_4"),
        *("evaluate debug/skills/seed_3", "evaluate debug/skills/seed_4"),
        "evaluate debug/k1/seed_3",
        "evaluate debug/random",
    ]
    evaluated = named(plan, "evaluate debug/k1/seed_3")
    assert evaluated.after == ("train debug/k1/seed_3",)
    assert evaluated.folder == plan.folder / "debug" / "k1" / "seed_3"


def test_processes_of_several_gpus_share_a_cells_cores_and_evaluations_take_one(study):
    cells = make_plan(study("resources.gpus=2", "resources.cores=4")).cells
    gpus = {cell.command: cell.resources.gpus for cell in cells}
    assert gpus == {"train": 2, "evaluate": 1}
    assert load(cells[0].arguments).config.threads == 2


def test_environments_that_several_gpus_cannot_share_are_refused(study):
    with pytest.raises(
        CONFIG_ERRORS, match=r"method ppo on suite debug: num_envs is 8.* num_envs="
    ):
        make_plan(study("resources.gpus=4"))


def test_a_cell_is_a_command_that_makes_its_run(plan):
    cell = named(plan, "train debug/k1/seed_3")
    config = load(cell.arguments).config
    assert (config.method, config.seed, config.frames) == ("k1", 3, 512)
    assert config.agent.skill_duration == 1
    assert config.folder == str(cell.folder)
    assert config.threads == 1
    planned = next(run for run in plan.runs if run.method == "k1")
    assert planned.composed.plain == {
        **load(cell.arguments).plain,
        "tracking": planned.composed.plain["tracking"],
    }


def test_only_keeps_what_matches_and_what_it_needs(plan):
    assert [cell.name for cell in plan.only(["evaluate*skills*seed_4"]).cells] == [
        "train debug/skills/seed_4",
        "evaluate debug/skills/seed_4",
    ]
    expected = r"--only=bogus matches no cell; they are train debug.* and 3 more, which --status"
    with pytest.raises(ConfigError, match=expected):
        plan.only(["random", "bogus"])


def test_patterns_with_a_star_are_beginnings_of_names(study):
    """A fine-tuning run to the split `train` is none that trains."""
    plan = make_plan(study(TUNED, "finetuning.x.methods=[skills]"))
    assert {cell.command for cell in plan.only(["train*"]).cells} == {"train"}
    assert {cell.command for cell in plan.only(["train"]).cells} == {
        "train",
        "finetune",
        "evaluate",
    }
    assert [cell.name for cell in plan.only(["*k1*"]).cells] == [
        "train debug/k1/seed_3",
        "evaluate debug/k1/seed_3",
    ]


def test_the_record_and_the_report_are_of_the_whole_study(study, monkeypatch):
    """Whichever cells or seeds were chosen to run; a method that is no longer asked for is not."""
    reported = []
    monkeypatch.setattr(study_run, "load_runs", lambda folders, controls: list(folders))
    monkeypatch.setattr(
        study_run, "write_report", lambda runs, folder, command: reported.append(runs) or folder
    )
    whole = make_plan(study())
    for run in whole.runs:
        run.folder.mkdir(parents=True)
        RunFolder(run.folder).scores.touch()
    study_run._write_record(whole, "first")
    for plan in (
        whole.only(["train*ppo*seed_3"]),
        make_plan(with_seeds(study(), 1)),
        make_plan(study("controls={}")),
    ):
        study_run._write_record(plan, "again")
        assert list(study_run._write_reports(plan, "again", {}))
        recorded = {cell.name for cell in recorded_cells(plan.folder)}
        expected = {
            cell.name
            for cell in whole.cells
            if "k1" in str(plan.every_cell) or "k1" not in cell.name
        }
        assert recorded == expected
        folders = {
            run.folder
            for run in whole.runs
            if f"train debug/{run.method}/seed_{run.seed}" in recorded
        }
        assert set(reported.pop()) == folders


@pytest.mark.parametrize("copied", [False, True])
def test_a_study_elsewhere_keeps_the_runs_of_seeds_that_are_not_asked_for(study, tmp_path, copied):
    """Its record has the paths of before; of a copy both paths are there."""
    whole = make_plan(study())
    for run in whole.runs:
        run.folder.mkdir(parents=True)
    study_run._write_record(whole, "first")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(whole.folder, elsewhere)
    if not copied:
        shutil.rmtree(whole.folder)
    few = make_plan(replace(with_seeds(study(), 1), folder=str(elsewhere)))
    known = {cell.folder for cell in study_run._known_cells(few) if cell.name.startswith("train")}
    assert known == {elsewhere / run.folder.relative_to(whole.folder) for run in whole.runs}


def test_a_report_that_cannot_be_written_is_an_error(study, monkeypatch):
    def refuse(folders, controls):
        raise RunFolderError("two suites")

    monkeypatch.setattr(study_run, "load_runs", refuse)
    plan = make_plan(study())
    plan.runs[0].folder.mkdir(parents=True)
    RunFolder(plan.runs[0].folder).scores.touch()
    missing = {}
    assert list(study_run._write_reports(plan, "command", missing)) == []
    with pytest.raises(FailedCellsError, match="no report on debug: two suites"):
        study_run._raise_failures({}, missing, [])


def test_seeds_are_the_first_ones_and_counted_on(study):
    assert with_seeds(study(), 1).seeds == [3]
    assert with_seeds(study(), 4).seeds == [3, 4, 5, 6]
    controls = [run for run in make_plan(with_seeds(study(), 4)).runs if run.method == "k1"]
    assert [run.seed for run in controls] == [3]  # as many as the control asks for


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["suites=[nope]"], "method ppo on suite nope: .*nope"),
        (["methods.ppo.overrides=['agent=nope']"], "method ppo on suite debug: .*nope"),
        (["methods.ppo.overrides=['agent=zero']"], "method ppo .*agent zero learns nothing"),
        (["controls.k1.overrides=['agent=skills','agent.k=1']"], "method k1 on suite debug: .*k"),
        (["controls.k1.suites=[walker]"], r"controls.k1.suites is 'walker'; choose from debug"),
        (["evaluation.splits=[far]"], "suite debug has no split 'far'; choose from train"),
        (["evaluation.baselines=[best]"], "baselines is .*; choose from random, zero"),
        (["executor=pbs"], "executor is 'pbs'; choose from local, slurm, ray"),
        (["frame=3"], "frame: .*valid keys: .*frames"),
        (["seeds=[1,1]"], "seeds is .*; each may be named once"),
        (["methods.random.overrides=['agent=ppo']"], "share a name"),
        (["controls.ppo.overrides=['agent=ppo']"], "share a name: two cells would have the same"),
        (["finetuning.x.tasks=[nope]"], "finetuning x from ppo: task is 'nope'; suite debug has"),
        (["finetuning.x.tasks=[]"], "finetuning.x.tasks is .*at least one"),
        (["finetuning.x.tasks=[train]", "finetuning.x.methods=[no]"], "methods is 'no'; choose"),
        (["finetuning.x.tasks=[train]", "finetuning.x.parts=[all,all]"], "the same folder"),
        ([TUNED, "finetuning.x.parts=[all,'all  ']"], "finetuning.x: .* both be method 'ppo-all'"),
        ([TUNED, "finetuning.x.parts=[all,full]"], "finetuning.x: .* both be method 'ppo-all'"),
        ([TUNED, "finetuning.y.tasks=[train]"], "finetuning.y: .* both be method 'ppo-all'"),
        (
            ["methods.zero.overrides=['agent=ppo']", "evaluation.baselines=[random]"],
            "method is 'zero'; reports take it for the reference scores of agent=zero",
        ),
        ([TUNED, "finetuning.x.parts=[half]"], "finetuning x from ppo: parts is 'half'; agent ppo"),
        ([TUNED, "finetuning.x.parts=['']"], r"finetuning\.x\.parts is \[''\]; each must name a"),
        ([TUNED, "finetuning.x.parts=['all parts.eye=frozen']"], "parts.eye: agent ppo has no"),
        ([TUNED, "finetuning.x.parts=['all ../../y']"], "cannot read '../../y': give KEY=VALUE"),
        ([TUNED, "finetuning.x.parts=['all agent.clip=0.1,0.2']"], "0.2 asks for several runs"),
        ([TUNED, "finetuning.x.parts=['all frames=64']"], "x.parts is 'frames=64'; the study sets"),
        ([TUNED, "finetuning.x.parts=[{a: b}]"], r"x\.parts\[0\] is {'a': 'b'}; it must be"),
        (["overrides=['seed=7']"], "overrides is 'seed=7'; the study sets seed, by seeds"),
        (["methods.ppo.overrides=['++method=x']"], "the study sets method, by the method's name"),
        (
            ["methods.ppo.overrides=[{agent: ppo}]"],
            r"s\[0\] is {'agent': 'ppo'}; .* no colon",
        ),
        (["overrides=[[a]]"], r"overrides\[0\] is \['a'\]; it must be a single value"),
        (["reuse=[{a: 1}]"], r"reuse\[0\] is {'a': 1}; it must be a single"),
        (["slurm.setup=[{a: b}]"], r"slurm\.setup\[0\] is {'a': 'b'}"),
        (["seeds=5"], "seeds is 5; it must be a list"),
        (
            ["methods.ppo.overrides='[agent=ppo]'"],
            r"overrides is '\[agent=ppo\]'; it must be a list",
        ),
        (["evaluation.baselines=[random,random]"], "baselines is .*; each may be named once"),
        (["evaluation.baselines=[]"], "baselines leaves out random, and nothing .* suite debug"),
        (
            ["finetuning.x.tasks=[interpolation]", "evaluation.splits=[train]"],
            "x.tasks has interpolation of split interpolation, which evaluation.splits leaves out",
        ),
        (
            [
                *("suites=[debug,point_mass]", "controls.k1.suites=[point_mass]", TUNED),
                *("finetuning.x.methods=[k1]", "finetuning.x.from_suites=[debug]"),
            ],
            "finetuning.x: method k1 has no run on debug to start from",
        ),
        (
            [TUNED, "finetuning.x.parts=['all agent.learning_rate=nan']"],
            "learning_rate is nan; it must be a finite number",
        ),
        (
            ["finetuning.x.tasks=[interpolation]", "finetuning.x.suite=walker_speed"],
            "a policy of suite debug does not fit suite walker_speed",
        ),
        (["methods=5"], "methods: Cannot assign int"),
        (["controls=[a]"], "controls"),
    ],
)
def test_what_cannot_work_is_refused_by_name(overrides, message, study):
    with pytest.raises(CONFIG_ERRORS, match=f"(?s){message}"):
        make_plan(study(*overrides))


@pytest.mark.parametrize("group", ["methods", "controls", "finetuning"])
def test_no_name_leads_out_of_the_folder_of_the_study(group, study, config_dir, tmp_path):
    """Names of methods, controls and fine-tunings are parts of paths."""
    text = (config_dir / "study" / "tiny.yaml").read_text()
    node = "{tasks: [train]}" if group == "finetuning" else "{overrides: [agent=ppo]}"
    tree = yaml.safe_load(text)
    tree[group] = {**tree.get(group, {}), "../../../x": yaml.safe_load(node)}
    path = config_dir / "study" / "leads_out.yaml"
    path.write_text(yaml.safe_dump(tree))
    try:
        with pytest.raises(CONFIG_ERRORS, match=r"is '\.\./\.\./\.\./x'; a name has letters"):
            make_plan(load_study("leads_out"))
    finally:
        path.unlink()


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"\x00", b"- a", b"5", b"a: [", b"a: &x [*x]", b"a: !!python/none x"],
    ids=str,
)
def test_a_damaged_experiment_is_named_in_one_line(content, study, config_dir, capsys):
    path = config_dir / "study" / "damaged.yaml"
    path.write_bytes(content)
    try:
        assert main(["study", "experiment=damaged", "--dry-run"]) == 2
    finally:
        path.unlink()
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith(f"error: {path} holds no experiment: ")


def test_an_unknown_experiment_is_refused_with_the_choices(study):
    with pytest.raises(ConfigError, match=r"experiment is 'nope'; choose from .*quick.*tiny"):
        load_study("nope")


def test_fine_tuning_starts_from_each_run_and_is_evaluated(study):
    tuned = ["finetuning.x.tasks=[train]", "finetuning.x.methods=[skills]", "finetuning.x.seeds=1"]
    parts = "finetuning.x.parts=[all,'manager_value parts.manager=reinitialised']"
    plan = make_plan(study(*tuned, parts, "finetuning.x.frames=256"))
    cells = [cell for cell in plan.cells if cell.command == "finetune"]
    place = "debug/finetune/x/train/skills-{}/seed_3"
    assert [cell.name for cell in cells] == [
        f"finetune {place.format('all')}",
        f"finetune {place.format('manager_value-parts.manager-reinitialised')}",
    ]
    source = named(plan, "train debug/skills/seed_3")
    assert cells[1].after == (source.name,)
    assert cells[1].arguments[:4] == (
        f"from={source.folder}",
        "task=train",
        "parts=manager_value",
        "parts.manager=reinitialised",
    )
    evaluated = named(plan, cells[0].name.replace("finetune", "evaluate", 1))
    assert evaluated.after == (cells[0].name,)
    advance(cells[0], 256)
    assert not cells[0].is_finished()  # what was forgotten is still to be measured
    RunFolder(cells[0].folder).forgetting.touch()
    assert cells[0].is_finished()


def test_fine_tuning_with_other_settings_is_another_method(study):
    """Of the report too, which would take both for runs of one setting."""
    parts = "finetuning.x.parts=[all,'all agent.learning_rate=1e-5','all parts.manager=frozen']"
    plan = make_plan(study(TUNED, "finetuning.x.methods=[skills]", "finetuning.x.seeds=1", parts))
    cells = [cell for cell in plan.cells if cell.command == "finetune"]
    named = [[one for one in cell.arguments if one.startswith("method=")] for cell in cells]
    assert named == [[], ["method=skills-all-agent.learning_rate-1e-5"], []]
    assert len({cell.folder for cell in cells}) == 3


def test_a_name_of_the_users_stays(study):
    parts = "finetuning.y.parts=['all method=mine agent.learning_rate=1e-5','all method=other']"
    methods = ["finetuning.x.methods=[skills]", "finetuning.y.methods=[skills]"]
    plan = make_plan(study(TUNED, "finetuning.y.tasks=[train]", *methods, parts))
    cells = [cell for cell in plan.cells if cell.name.startswith("finetune debug/finetune/y")]
    named = {one for cell in cells for one in cell.arguments if one.startswith("method=")}
    assert named == {"method=mine", "method=other"}


def test_a_folder_with_another_study_is_refused(study, plan):
    """Its record says which runs are controls and what they are for."""
    plan.folder.mkdir(parents=True)
    study_run._write_record(plan, "first")
    before = study_record(plan.folder).read_text()
    other = make_plan(study("name=other", f"folder={plan.folder}"))
    with pytest.raises(FolderError, match=f"holds the study '{plan.study.name}', not 'other'"):
        study_run.run_study(other, None, "second")
    assert study_record(plan.folder).read_text() == before


def write_run(folder, plain, **changes):
    folder.mkdir(parents=True)
    RunFolder(folder).write_config({**plain, **changes})


def planned_finetuning(plan):
    """The first fine-tuning cell, the cell of its source, and its configuration."""
    cell = next(cell for cell in plan.cells if cell.command == "finetune")
    source = named(plan, "train debug/skills/seed_3")
    run = next(run for run in plan.runs if run.folder == source.folder)
    own = [argument for argument in cell.arguments if not argument.startswith("-")]
    return (
        cell,
        source,
        compose_finetune(read_request(own), planned_source(run.composed, run.tasks)),
    )


def test_a_folder_that_holds_a_run_of_other_settings_is_refused(study, plan):
    """It would count as finished. Budget and tracking may differ, and keys of another version."""
    run = plan.runs[0]
    agent = dict(run.composed.plain["agent"])
    del agent["clip"]
    write_run(run.folder, run.composed.plain, frames=9, agent=agent, physics="mujoco")
    assert make_plan(study()).runs[0].folder == run.folder
    RunFolder(run.folder).write_config({**run.composed.plain, "agent": {**agent, "discount": 0.5}})
    expected = rf"{run.folder} holds a run of other settings \(agent.discount is 0.5 there and 0.99"
    with pytest.raises(ConfigError, match=expected):
        make_plan(study())


def test_a_fine_tuning_run_to_another_suite_or_from_another_checkpoint_is_refused(study):
    tuned = [TUNED, "finetuning.x.methods=[skills]", "finetuning.x.seeds=1"]
    cell, source, composed = planned_finetuning(make_plan(study(*tuned)))
    record = composed.plain["finetune"]
    checkpoints = RunFolder(source.folder).checkpoints
    checkpoints.mkdir(parents=True)
    (checkpoints / "step_000000000512.policy.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    write_run(cell.folder, composed.plain, finetune={**record, "source_sha256": digest})
    make_plan(study(*tuned))
    other = {**record, "source_sha256": digest, "target": "interpolation"}
    RunFolder(cell.folder).write_config({**composed.plain, "finetune": other})
    with pytest.raises(ConfigError, match=r"finetune\.target is 'interpolation' there and 'train'"):
        make_plan(study(*tuned))
    RunFolder(cell.folder).write_config({**composed.plain, "finetune": {**record}})
    with pytest.raises(ConfigError, match=r"was fine-tuned from another checkpoint of .*seed_3"):
        make_plan(study(*tuned))


def test_a_fine_tuning_run_whose_source_is_to_be_trained_on_is_refused_before(study):
    tuned = [TUNED, "finetuning.x.methods=[skills]", "finetuning.x.seeds=1"]
    cell, source, composed = planned_finetuning(make_plan(study(*tuned)))
    policy = RunFolder(source.folder).checkpoints / "step_000000000512.policy.safetensors"
    policy.parent.mkdir(parents=True)
    policy.write_bytes(b"weights")
    record = {
        **composed.plain["finetune"],
        "source_sha256": hashlib.sha256(b"weights").hexdigest(),
        "source_frames": 512,
    }
    write_run(cell.folder, composed.plain, finetune=record)
    make_plan(study(*tuned))
    with pytest.raises(ConfigError, match=r"from .*seed_3 at 512 frames, .* trained for 1,024"):
        make_plan(study(*tuned, "frames=1024"))


def test_a_run_of_more_frames_is_refused_and_one_of_fewer_is_trained_on(study, plan):
    run = plan.runs[0]
    cell = named(plan, f"train debug/{run.method}/seed_{run.seed}")
    write_run(run.folder, run.composed.plain)
    advance(cell, 512)
    assert make_plan(study("frames=1024")).runs[0].folder == run.folder
    with pytest.raises(ConfigError, match=r"seed_3 holds a run of 512 frames, and 256 are planned"):
        make_plan(study("frames=256"))


def test_keys_may_refer_to_each_other_and_to_defaults(study):
    chosen = study(
        "folder='runs/${name}_${executor}'",
        "local.cores='${resources.cores}'",
        "overrides=['agent.clip=${rate_seconds}']",
    )
    assert (chosen.folder, chosen.local.cores) == ("runs/tiny_local", 1)
    assert chosen.overrides == ["agent.clip=0.0"]


def test_random_play_may_be_stored_in_the_users_folder(study, config_dir):
    overrides = ["evaluation.baselines=[zero]"]
    stored = config_dir / "reference_scores" / "debug.csv"
    with pytest.raises(ConfigError, match=rf"or measure it into {stored}"):
        make_plan(study(*overrides))
    stored.parent.mkdir()
    try:
        stored.touch()
        make_plan(study(*overrides))
    finally:
        shutil.rmtree(stored.parent)


def test_a_folder_that_is_a_file_is_refused(study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="file is a file, not a folder"):
        make_plan(study("folder=file/study"))


def test_a_damaged_configuration_stops_no_study(study, plan):
    folder = plan.runs[0].folder
    folder.mkdir(parents=True)
    RunFolder(folder).config.write_text("[1]")
    assert make_plan(study()).runs[0].folder == folder


def test_nothing_takes_a_part_of_a_study_out(study):
    assert study("controls={}").controls == {}
    assert study(TUNED, "finetuning={}").finetuning == {}
    assert study("controls.k1.seeds=2").controls["k1"].overrides, "the rest of it stays"


def write_timing(folder, rate):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"frames": frames, "seconds": 9 + frames / rate} for frames in range(100, 600, 100)]
    RunFolder(folder).timing.write_text("\n".join(map(json.dumps, lines)) + '\n{"cut')


def test_the_cost_comes_from_measured_speed_and_what_is_missing(plan):
    skills = named(plan, "train debug/skills/seed_3")
    write_timing(skills.folder, rate=0.1)
    advance(skills, 512)
    assert rate_of(skills.folder) == pytest.approx(0.1)
    rates = measured_rates(plan)
    assert rates == {("debug", "skills"): pytest.approx(0.1)}
    row = next(row for row in cost_rows(plan, rates) if row.method == "skills")
    assert (row.runs, row.finished) == (2, 1)
    assert row.hours == pytest.approx(512 / 0.1 / 3600)
    text = plan_text(plan, rates, slots=2)
    assert "speed not measured: ppo on debug, k1 on debug" in text
    assert "about 0.7 hours with 2 at once" in text
    assert "k1: no abstraction" in text


DAMAGE = [
    '{"frames": NaN, "seconds": 1}',
    "",
    "[1]",
    "\0",
    "{}",
    '{"frames": NaN}',
    '{"frames": [1], "seconds": {}}',
    "[" * 10**5,
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda text: text[:20])
def test_damaged_files_of_runs_stop_no_study(damage, plan, tmp_path, other):
    """A lost timing.jsonl, scores of nobody knows what, a reused run without a record."""
    cell = named(plan, "evaluate debug/k1/seed_3")
    files = RunFolder(cell.folder)
    files.path.mkdir(parents=True)
    files.timing.write_text(f"{damage}}}\n" * 9)
    assert rate_of(files.path) is None
    files.scores.write_text("split\ntrain\n")
    files.evaluation.write_text(damage)
    assert not cell.is_finished()
    cell.log.parent.mkdir(parents=True)
    cell.log.with_suffix(".json").write_text(damage)
    assert "missing" in status_text(plan)
    RunFolder(other()).environment.write_text(damage)
    assert reuse.FinishedRuns([tmp_path / "runs"], plan.folder).find(plan.runs[0].composed) is None


def test_a_study_that_does_not_fit_onto_the_disk_is_refused(plan, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(DiskEstimateError, match="the largest parts: ppo on debug"):
        check_disk(plan, cost_rows(plan, {}))


def test_checkpoints_of_fine_tuning_need_disk_too(study):
    plan = make_plan(
        study(TUNED, "finetuning.x.methods=[skills]", "finetuning.x.parts=[all,heads]")
    )
    rows = cost_rows(plan, {})
    of_skills = next(row for row in rows if row.method == "skills")
    assert finetuning_disk(plan) == {"skills on debug": 2 * of_skills.disk}
    total = sum(row.disk for row in rows) + 2 * of_skills.disk
    text = plan_text(plan, {}, slots=2)
    assert f"weights left out: {human_size(total)}" in text
    assert "still to be trained: hours unknown; evaluations on top" in text


def test_speed_is_measured_once_where_no_run_shows_it(plan):
    measured = []

    def measure(run, folder):
        measured.append(run.method)
        write_timing(folder, rate=50.0)

    assert list(measured_rates(plan, measure).values()) == [pytest.approx(50.0)] * 3
    assert measured == ["ppo", "skills", "k1"]
    measured_rates(plan, measure)
    assert measured == ["ppo", "skills", "k1"]


def test_a_measurement_that_shows_no_speed_is_not_repeated_for_every_seed(plan):
    measured = []
    assert measured_rates(plan, lambda run, folder: measured.append(run.method)) == {}
    assert measured == ["ppo", "skills", "k1"]


def test_status_names_every_cell(plan):
    advance(named(plan, "train debug/ppo/seed_3"), 512)
    advance(named(plan, "train debug/ppo/seed_4"), 256)
    failed = named(plan, "train debug/k1/seed_3")
    failed.log.parent.mkdir(parents=True)
    failed.log.with_suffix(".json").write_text('{"exit_code": 2}')
    with RunFolder(named(plan, "train debug/skills/seed_3").folder).lock():
        lines = status_text(plan).splitlines()
    assert lines[:5] == [
        "finished  100% train debug/ppo/seed_3",
        "stopped    50% train debug/ppo/seed_4",
        "running     0% train debug/skills/seed_3",
        "missing     0% train debug/skills/seed_4",
        "failed      0% train debug/k1/seed_3",
    ]
    assert lines[-1] == "11 cells: 1 finished, 1 stopped, 1 running, 7 missing, 1 failed"


@pytest.fixture
def other(plan, tmp_path, monkeypatch):
    """Makes a finished run of another study, for the first cell, from the given facts."""
    monkeypatch.setattr(reuse, "code_revision", lambda: ("abc", False))

    def make(revision="abc", dirty=False, frames=512, **changes):
        run = next(run for run in plan.runs if run.method == "ppo")
        files = RunFolder(tmp_path / "runs" / "elsewhere" / "a_run")
        files.path.mkdir(parents=True)
        resolved = {"folder": str(files.path), "physics": "mujoco"}
        saved = {**run.composed.plain, **resolved, **changes}
        files.write_config(saved)
        facts = {"revision": revision, "dirty": dirty}
        files.environment.write_text(json.dumps(facts))
        files.checkpoints.mkdir()
        (files.checkpoints / f"step_{frames:012d}.training.safetensors").touch()
        return files.path

    return make


def reused(study):
    plan = make_plan(replace(study(), reuse=["runs"]))
    return {run.seed: run.folder for run in plan.runs if run.reused}


def test_a_finished_run_of_another_study_is_reused(other, study):
    assert reused(study) == {3: other()} or reused(study)
    plan = make_plan(replace(study(), reuse=["runs"]))
    assert named(plan, "train debug/ppo/seed_3").is_finished()
    assert next(row for row in cost_rows(plan, {}) if row.method == "ppo").reused == 1


def test_a_choice_stands_whatever_the_code_is_later(other, study, monkeypatch):
    """Fine-tuning has begun from it, and evaluations of it are there."""
    chosen = other()
    plan = make_plan(replace(study(), reuse=["runs"]))
    plan.folder.mkdir(parents=True)
    study_run._write_record(plan, "command")
    for revision, dirty in (("def", False), ("abc", True)):
        monkeypatch.setattr(reuse, "code_revision", lambda now=(revision, dirty): now)
        assert reused(study) == {3: chosen}
    saved = RunFolder(chosen).read_config()
    RunFolder(chosen).write_config({**saved, "num_envs": 4})
    assert reused(study) == {}


@pytest.mark.parametrize(
    "facts",
    [
        {"revision": "def"},
        {"dirty": True},
        {"frames": 256},
        {"seed": 9},
        {"method": "other"},
        {"num_envs": 4},
        {"image_size": 48},
    ],
    ids=str,
)
def test_a_run_that_differs_is_not_reused(facts, other, study):
    other(**facts)
    assert reused(study) == {}


def test_code_that_is_not_committed_reuses_nothing(other, study, monkeypatch):
    other()
    monkeypatch.setattr(reuse, "code_revision", lambda: ("abc", True))
    assert reused(study) == {}
    assert len(code_revision()) == 2


@pytest.mark.parametrize("executor", ["slurm", "ray"])
def test_a_study_for_a_cluster_is_planned_on_a_machine_outside_it(
    executor, study, config_dir, capsys, monkeypatch
):
    monkeypatch.setattr("hrl.study.executors.base.find_spec", lambda package: None)
    arguments = ["study", "experiment=tiny", "folder=here", f"executor={executor}"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "train" in capsys.readouterr().out
    assert main(arguments) == 2
    assert f"executor={executor} needs the extra" in capsys.readouterr().err


def test_a_dry_run_shows_the_plan_and_starts_nothing(study, config_dir, capsys, tmp_path):
    arguments = ["study", "experiment=tiny", "--dry-run", "folder=here", "--seeds=1"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "study tiny: the whole program in seconds" in shown
    assert not (tmp_path / "here").exists()
    assert main([*arguments, "local.memory_gib=0.1"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: train debug/ppo/seed_3 needs")
    assert "may take 102.4 MiB" in message
    assert main(["study"]) == 2
    assert "give one experiment=NAME" in capsys.readouterr().err


SHIPPED = [
    *("quick", "locomotion", "maze", "manipulation", "ablation_task_conditioning"),
    *("ablation_encoder_gradient", "controls", "controls_world_model", "finetuning", "transfer"),
]


def test_the_experiments_are_there():
    assert set(SHIPPED) <= set(config_files("study"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_experiment_composes_and_is_planned(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hrl.study.run.check_disk", lambda *costs: None)  # of a larger machine
    arguments = [f"experiment={name}", "reuse=[]", "rate_seconds=0", "local.memory_gib=1000"]
    code = main(["study", *arguments, "--dry-run"])
    shown = capsys.readouterr()
    if "is not installed" in shown.err:
        pytest.skip(shown.err.strip())
    assert code == 0, shown.err
    assert f"study {name}: " in shown.out
    study = load_study(name)
    assert all(method in shown.out for method in study.columns)
    assert not list(tmp_path.iterdir())


def test_the_speed_of_a_world_model_is_measured_where_everything_learns(
    study, monkeypatch, tmp_path
):
    """At first only the model learns, several times as fast as most of a run goes."""
    started = []

    class Process:
        def __init__(self, cell, gpus, seconds):
            started.append(cell.arguments)

        def wait(self):
            return 0

    monkeypatch.setattr(study_run, "CellProcess", Process)
    world_model = "methods.skills.overrides=['agent=director']"
    plan = make_plan(study(world_model, "controls={}"))
    measure = study_run._Measurement(plan.study, ())
    for run in plan.runs[::2]:
        measure(run, tmp_path / "rate")
    asked = ["agent.actor_critic_start=0" in arguments for arguments in started]
    assert asked == [False, True]
    assert all(load(arguments) for arguments in started)
