"""Find the files that are installed with the code, and those of folders that a user adds.

The project's own files lie in `configs/` of the repository, which is installed as the package
`pixel_hrl_configs`. A user's folder has the same structure: `suite/NAME.yaml`,
`experiment/NAME.yaml`, `size/NAME.yaml`, `agent/NAME.yaml`, `study/NAME.yaml`; and
`reference_scores/SUITE.csv`, what random play earns.
"""

from importlib import resources
from pathlib import Path

CONFIG_DIR = Path(str(resources.files("pixel_hrl_configs"))).resolve()
REFERENCE_SCORES = CONFIG_DIR / "reference_scores"

_added: list[Path] = []


def add_config_dir(folder: Path) -> None:
    """Add a user's folder of configuration files, for the rest of this process.

    Raises:
        ValueError: the folder does not exist, or has a file that the project or another added
            folder has too, so that it would be unclear which one counts.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise ValueError(f"configuration folder {folder} does not exist")
    if folder in config_dirs():
        return
    for path in sorted(folder.glob("*/*.yaml")):
        name = path.relative_to(folder)
        twice = [other for other in config_dirs() if (other / name).exists()]
        if twice:
            raise ValueError(f"{path} has the name of {twice[0] / name}; rename it")
    _added.append(folder)


def reference_scores(suite: str, folder: Path | None = None) -> Path:
    """Return the file with the scores of random play on a suite, whether it exists or not.

    Args:
        suite: its name.
        folder: of SUITE.csv; by default `reference_scores` of the configuration folders, of which
            the first that has the file counts.
    """
    folders = [folder] if folder else [path / REFERENCE_SCORES.name for path in config_dirs()]
    files = [path / f"{suite}.csv" for path in folders]
    return next((path for path in files if path.exists()), files[-1])


def config_dirs() -> tuple[Path, ...]:
    """Return the project's folder of configuration files, then the added ones."""
    return (CONFIG_DIR, *_added)


def config_files(group: str) -> dict[str, Path]:
    """Return the files of a configuration group, such as "suite", by name, in sorted order."""
    found = [path for folder in config_dirs() for path in (folder / group).glob("*.yaml")]
    return {path.stem: path for path in sorted(found, key=lambda path: path.stem)}
