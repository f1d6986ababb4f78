"""Run folders that the tests of reports share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrl import reporting
from hrl.reporting.figures.style import RC_PARAMS
from hrl.reporting.study import Study, study_of
from tests.hrl.synthetic_runs import position_suite, speed_suite, write_fixed, write_trained


@pytest.fixture(scope="package")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three flat runs, two with skills, and random play, on the point mass."""
    folder, suite = tmp_path_factory.mktemp("pristine"), position_suite()
    for seed in range(3):
        write_trained(folder / f"flat_{seed}", suite, method="flat", seed=seed, level=0.6)
    for seed in range(2):
        write_trained(
            folder / f"skills_{seed}",
            suite,
            method="skills",
            seed=seed,
            skills=4,
            agent={"skill_duration": 8},
        )
    write_fixed(folder / "random", suite)
    return folder


@pytest.fixture
def study(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "runs"))


@pytest.fixture(scope="package", autouse=True)
def _quick_images() -> Iterator[None]:
    """Fine PNGs take seconds to compress, and so does embedding TrueType fonts into PDFs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hrl.reporting.report.PNG_DPI", 50)
        patch.setitem(RC_PARAMS, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="package")
def positions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, three and two runs, with videos; random and zero."""
    folder, suite = tmp_path_factory.mktemp("positions"), position_suite()
    videos = {"000120000_train_0": b"not really a video"}
    for seed in range(3):
        write_trained(
            folder / f"flat_{seed}",
            suite,
            method="flat",
            seed=seed,
            level=0.6,
            episodes=2,
            videos=videos,
        )
    for seed in range(2):
        write_trained(
            folder / f"skills_{seed}",
            suite,
            method="skills",
            seed=seed,
            skills=4,
            episodes=2,
            agent={"skill_duration": 8},
        )
    write_fixed(folder / "random", suite, episodes=2)
    write_fixed(folder / "zero", suite, method="zero", score=0.1, episodes=2)
    return folder


@pytest.fixture(scope="package")
def speeds(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same without zero, on speeds."""
    folder, suite = tmp_path_factory.mktemp("speeds"), speed_suite()
    for seed in range(2):
        write_trained(folder / f"flat_{seed}", suite, method="flat", seed=seed, level=0.6)
        write_trained(folder / f"skills_{seed}", suite, method="skills", seed=seed, skills=4)
    write_fixed(folder / "random", suite)
    return study_of(reporting.load_runs([folder]))
