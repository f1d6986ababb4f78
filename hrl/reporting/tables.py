"""Read the files of a run folder as typed tables: CSV and JSON lines, checked column by column."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hrl.reporting.suite_record import RunFolderError

SHUFFLES = ("high_level_action_shuffle", "task_shuffle")
TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}

EPISODE = ["method", "seed", "split", "task", "frames", "episode"]

Reader = Callable[[pd.Series, Path], pd.Series]


def read_scores(path: Path) -> pd.DataFrame:
    """Read scores.csv: one row an undisturbed episode, columns SCORE_COLUMNS.

    The columns of LAYOUT_COLUMNS are there where the file has them, with missing values where
    episodes have none.

    Raises:
        RunFolderError: it names the file, column and line of what is missing or malformed.
    """
    table = _read_csv(path, SCORE_COLUMNS)
    _check_no_duplicates(path, table, EPISODE)
    return table


def read_shuffled_scores(path: Path) -> pd.DataFrame:
    """Read shuffled_scores.csv: one row an episode, with the column `intervention`.

    It is empty without the file.

    Raises:
        RunFolderError: it names the file, column and line of what is missing or malformed.
    """
    if not path.exists():
        return _empty(SHUFFLED_COLUMNS)
    table = _read_csv(path, SHUFFLED_COLUMNS)
    unknown = ~table["intervention"].isin(SHUFFLES)
    if unknown.any():
        raise _cell_error(path, table["intervention"], unknown, f"none of {list(SHUFFLES)}")
    _check_no_duplicates(path, table, [*EPISODE, "intervention"])
    return table


def read_skill_usage(path: Path) -> pd.DataFrame:
    """Read skill_usage.csv: the mean weight of each skill over a task's episodes.

    The columns are task, split, skill, weight. The table is empty without the file.
    """
    if not path.exists():
        return _empty(SKILL_COLUMNS)
    table = _read_csv(path, SKILL_COLUMNS)
    if (table["weight"] < 0).any():
        raise _cell_error(path, table["weight"], table["weight"] < 0, "negative: no weight")
    return table


def read_json_lines(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """Read one row an object, columns the union of their keys, ordered by `frames`.

    The table is empty without the file. Where a continued run wrote the same `frames` again, the
    later line counts.
    """
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=np.float64) for name in required})
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RunFolderError(f"{path}: is not text ({error})") from error
    rows = [
        _json_object(line, path, number, required)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    table = pd.DataFrame(rows, columns=None if rows else list(required))
    return table.drop_duplicates("frames", keep="last").sort_values("frames", ignore_index=True)


def read_learning_curves(path: Path) -> pd.DataFrame:
    """Read learning_curves.csv, the thinned logs of an archived run (see `archive`).

    One row a point: `frames`, `seconds` of training, metrics; missing where nothing was logged.
    """
    try:
        table = pd.read_csv(path, dtype=np.float64)
    except ValueError as error:  # pandas' own errors and those of text are such
        raise RunFolderError(
            f"{path}: no table of numbers ({' '.join(str(error).split())})"
        ) from error
    for column in ("frames", "seconds"):
        if column not in table:
            raise RunFolderError(f"{path}: column {column!r} is missing")
    if not np.isfinite(table["frames"]).all():
        raise RunFolderError(f"{path}: column 'frames' has a row that is not a finite number")
    return table.astype({"frames": np.int64})


def read_mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Read a YAML or JSON file that holds one mapping.

    Raises:
        RunFolderError: it names the file and what is wrong with it.
    """
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path}: no such file") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path}: holds no mapping of keys to values")
    return content


def is_number(value: object) -> bool:
    """Return whether a value of a JSON or YAML file is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _empty(columns: Mapping[str, Reader]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})


def _check_no_duplicates(path: Path, table: pd.DataFrame, key: list[str]) -> None:
    twice = table.duplicated(key)
    if twice.any():
        row = table[twice].iloc[0]
        named = ", ".join(f"{column} {row[column]}" for column in key)
        raise RunFolderError(f"{path}: the same episode stands there twice ({named})")


def _read_csv(path: Path, columns: Mapping[str, Reader]) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise RunFolderError(f"{path}: no such file") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path}: no CSV table ({' '.join(str(error).split())})") from error
    missing = [name for name in columns if name not in raw.columns]
    if missing:
        raise RunFolderError(
            f"{path}: column {missing[0]!r} is missing; it has {list(raw.columns)}"
        )
    if raw.empty:
        raise RunFolderError(f"{path}: has a header but no rows")
    present = {name: read for name, read in LAYOUT_COLUMNS.items() if name in raw}
    readers = {**columns, **present}
    return pd.DataFrame({name: read(raw[name], path) for name, read in readers.items()})


def _text(column: pd.Series, path: Path) -> pd.Series:
    if (column == "").any():
        raise _cell_error(path, column, column == "", "empty")
    return column


def _number(column: pd.Series, path: Path) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    if not np.isfinite(values).all():
        raise _cell_error(path, column, values.isna() | np.isinf(values), "not a finite number")
    return values


def _number_or_none(column: pd.Series, path: Path) -> pd.Series:
    given = column != ""
    return _number(column.where(given, "0"), path).where(given)


def _text_or_none(column: pd.Series, path: Path) -> pd.Series:
    return column.where(column != "", None)


def _integer(column: pd.Series, path: Path) -> pd.Series:
    values = _number(column, path)
    if (values % 1 != 0).any():
        raise _cell_error(path, column, values % 1 != 0, "not a whole number")
    return values.astype(np.int64)


def _truth(column: pd.Series, path: Path) -> pd.Series:
    values = column.str.strip().str.lower().map(TRUTH)
    if values.isna().any():
        raise _cell_error(path, column, values.isna(), f"none of {sorted(TRUTH)}")
    return values.astype(bool)


def _cell_error(path: Path, column: pd.Series, bad: pd.Series, complaint: str) -> RunFolderError:
    row = int(np.flatnonzero(bad.to_numpy())[0])
    return RunFolderError(
        f"{path}: column {column.name!r}, line {row + 2}: {column.iloc[row]!r} is {complaint}"
    )


def _json_object(line: str, path: Path, number: int, required: tuple[str, ...]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: line {number} is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise RunFolderError(f"{path}: line {number} is not an object")
    for key in required:
        if not is_number(row.get(key)):
            raise RunFolderError(
                f"{path}: line {number}: key {key!r} is missing or not a finite number"
            )
    for key, value in row.items():
        if value is not None and not isinstance(value, int | float):
            raise RunFolderError(f"{path}: line {number}: key {key!r} is {value!r}, not a number")
    return row


SCORE_COLUMNS: dict[str, Reader] = {
    "method": _text,
    "seed": _integer,
    "split": _text,
    "task": _text,
    "frames": _integer,
    "episode": _integer,
    "return": _number,
    "success": _truth,
    "length": _integer,
}
LAYOUT_COLUMNS: dict[str, Reader] = {"layout": _text_or_none, "path_length": _number_or_none}
SHUFFLED_COLUMNS: dict[str, Reader] = {**SCORE_COLUMNS, "intervention": _text}
SKILL_COLUMNS: dict[str, Reader] = {
    "task": _text,
    "split": _text,
    "skill": _integer,
    "weight": _number,
}
