"""Count successes by the length of the path, where episodes have one: in drawn mazes."""

import numpy as np
import pandas as pd

from hrl.reporting import statistics
from hrl.reporting.page import Folded, Part, Table, number, quantity, share, text
from hrl.reporting.study import Study, words
from hrl.reporting.summary import generator

BIN = 4
"""Cells of path length that are counted together: rooms are two cells apart."""


def path_length_tables(study: Study) -> list[Part]:
    """Return a table of all splits and methods, to be opened on demand."""
    table = success_by_length(study)
    if table.empty:
        return []
    methods = [method for method in study.runs.methods if method in set(table["method"])]
    by_place = {
        (row["split"], row["longest"], row["method"]): row for row in table.to_dict("records")
    }
    places = list(dict.fromkeys(zip(table["split"], table["longest"], strict=True)))
    places.sort(key=lambda place: (study.runs.splits.index(place[0]), place[1]))
    rows = []
    for split, longest in places:
        found = [by_place.get((split, longest, method)) for method in methods]
        episodes = sum(row["episodes"] for row in found if row)
        cells = [share(row["success"]) if row else quantity(None) for row in found]
        length = text(f"{longest - BIN + 1} to {longest}")
        rows.append([text(words(split)), length, *cells, quantity(episodes, 0)])
    header = [text("split"), text("cells"), *map(number, methods), number("episodes")]
    breaks = [i for i in range(1, len(places)) if places[i][0] != places[i - 1][0]]
    name = "success_by_path_length"
    return [Folded("Success by path length", [Table(name, header, rows, breaks)])]


def success_by_length(study: Study) -> pd.DataFrame:
    """Return the share of successful episodes of each split, method and bin of path lengths.

    Returns:
        Columns split, method, longest (cells, the largest length in the bin), success (mean over
        runs), low, high (95 % bootstrap interval over runs), episodes (of all runs). It is empty
        where no episode has a path length.
    """
    columns = ["split", "method", "longest", "success", "low", "high", "episodes"]
    scores = study.runs.scores
    if "path_length" not in scores or scores["path_length"].isna().all():
        return pd.DataFrame(columns=columns)
    played = scores.dropna(subset="path_length")
    played = played.assign(longest=(np.ceil(played["path_length"] / BIN) * BIN).astype(int))
    rows = []
    for split in study.runs.splits:
        for method in study.methods_on(split):
            own = played[(played["split"] == split) & (played["method"] == method)]
            for longest, episodes in own.groupby("longest"):
                of_runs = episodes.groupby("run")["success"].mean().to_numpy(dtype=np.float64)
                ends = statistics.interval(
                    of_runs[:, None],
                    statistics.mean_score,
                    generator(method, split, str(longest)),
                    resamples=2000,
                )
                mean = float(of_runs.mean())
                low, high = float(ends.low), float(ends.high)
                rows.append((split, method, longest, mean, low, high, len(episodes)))
    return pd.DataFrame(rows, columns=columns)
