"""Show how success falls with the length of the path, where episodes have one: in drawn mazes."""

from matplotlib.ticker import MultipleLocator

from hrl.reporting.figures.style import ReportFigure, band, method_legend, panels
from hrl.reporting.path_lengths import BIN, success_by_length
from hrl.reporting.study import Study, evidence, note_on, words


def path_length_figures(study: Study) -> list[ReportFigure]:
    """Draw success against path length, a panel a split; nothing where no episode has a length."""
    table = success_by_length(study)
    if table.empty:
        return []
    splits = list(dict.fromkeys(table["split"]))
    figure, axes = panels(len(splits), 3, 2.6, sharex=True, sharey=True)
    for axis, split in zip(axes, splits, strict=True):
        of_split = table[table["split"] == split]
        for method, rows in of_split.groupby("method", sort=False):
            style = study.styles[str(method)]
            x, success, low, high = rows[["longest", "success", "low", "high"]].to_numpy(float).T
            axis.plot(x, success, color=style.colour, ls=style.line, marker=style.marker, ms=4)
            band(axis, x, low, high, style.colour)
        axis.set_title(words(split))
        axis.set_ylim(-0.03, 1.03)
        axis.xaxis.set_major_locator(MultipleLocator(BIN))
        axis.set_xlabel(f"path length, cells (up to, in steps of {BIN})")
    axes[0].set_ylabel("share of successful episodes")
    methods = [method for method in study.runs.methods if method in set(table["method"])]
    method_legend(figure, study, methods)
    caption = (
        "One panel per split. x: cells of the shortest path from an episode's start to its goal, "
        f"in bins of {BIN}. y: share of successful episodes, mean over runs; bands: 95 % bootstrap "
        "interval over runs. All methods meet the same episodes. "
        + evidence(study, methods, splits)
    )
    title = "Success against path length"
    return [ReportFigure("success_by_path_length", title, caption, figure, note_on(study, methods))]
