"""Change the files of run folders, for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml


def edit_scores(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Rewrite scores.csv."""
    change(pd.read_csv(folder / "scores.csv", dtype=str)).to_csv(folder / "scores.csv", index=False)


def edit_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite config.yaml."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def change_configs(folder: Path, pattern: str, change: Callable[[dict[str, Any]], Any]) -> None:
    for path in folder.glob(f"{pattern}/config.yaml"):
        config = yaml.safe_load(path.read_text())
        change(config)
        path.write_text(yaml.safe_dump(config))
