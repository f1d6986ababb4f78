"""Success against the length of the path: counted by hand, drawn, and only where there is one."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from hrl import reporting
from hrl.reporting.figures.path_length import path_length_figures
from hrl.reporting.figures.style import RC_PARAMS
from hrl.reporting.path_lengths import path_length_tables, success_by_length
from hrl.reporting.study import Study, study_of
from hrl.reporting.suite_record import RunFolderError
from hrl.reporting.tables import read_scores
from tests.hrl.reporting.scored import scored_study

# Success, by run, of the episodes in which a path has this many cells.
PLAYED = {
    2: ([1, 1], [1, 0]),
    4: ([1], [1]),
    6: ([0, 1], [0, 0]),
    12: ([0], [0]),
}


@pytest.fixture(scope="module")
def mazes(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two runs of one method whose episodes are those of PLAYED, for each of two tasks."""
    folder = tmp_path_factory.mktemp("mazes")
    scored_study(folder, {"flat": [0.5, 0.5]})
    for run in range(2):
        path = folder / f"flat_{run}" / "scores.csv"
        first = pd.read_csv(path)
        rows = [
            {**task, "episode": episode, "success": bool(success), "layout": f"maze_{cells}"}
            | {"path_length": cells}
            for task in first.to_dict("records")
            for episode, (cells, success) in enumerate(
                (cells, success) for cells, of_runs in PLAYED.items() for success in of_runs[run]
            )
        ]
        pd.DataFrame(rows).to_csv(path, index=False)
    return study_of(reporting.load_runs([folder]))


def test_successes_are_counted_by_length(mazes: Study) -> None:
    table = success_by_length(mazes).set_index("longest")
    # Up to 4 cells: all three episodes a task in the first run, two of three in the second.
    assert table["success"].to_dict() == pytest.approx({4: (1 + 2 / 3) / 2, 8: 0.25, 12: 0.0})
    assert table["episodes"].to_dict() == {4: 12, 8: 8, 12: 4}
    assert (table["low"] <= table["success"]).all()
    assert (table["success"] <= table["high"]).all()
    assert (table.loc[4, "low"], table.loc[4, "high"]) == pytest.approx((2 / 3, 1))


def test_the_figure_and_the_table_show_these_numbers(mazes: Study) -> None:
    with mpl.rc_context(RC_PARAMS):
        (figure,) = path_length_figures(mazes)
    (line,) = figure.drawing.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [4, 8, 12])
    np.testing.assert_allclose(line.get_ydata(), success_by_length(mazes)["success"])
    (folded,) = path_length_tables(mazes)
    rows = [[cell.text for cell in row] for row in folded.parts[0].rows]  # type: ignore[union-attr]
    assert rows == [
        ["train", "1 to 4", "83 %", "12"],
        ["train", "5 to 8", "25 %", "8"],
        ["train", "9 to 12", "0 %", "4"],
    ]


def test_a_study_without_layouts_has_neither(speeds: Study) -> None:
    assert path_length_figures(speeds) == []
    assert path_length_tables(speeds) == []


def test_a_length_that_is_no_number_is_named_and_none_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    header = "method,seed,split,task,frames,episode,return,success,length,layout,path_length\n"
    path.write_text(header + "a,1,train,t,9,0,1.0,1,10,,\na,1,train,t,9,1,1.0,1,10,m,8\n")
    assert read_scores(path)["path_length"].tolist()[1] == 8
    assert read_scores(path)[["layout", "path_length"]].isna().all(axis=1).tolist() == [True, False]
    path.write_text(header + "a,1,train,t,9,0,1.0,1,10,,\na,1,train,t,9,1,1.0,1,10,m,far\n")
    with pytest.raises(RunFolderError, match="'path_length', line 3: 'far' is not a finite number"):
        read_scores(path)
