"""Pictures as PNG, SVG and PDF; the only module that needs matplotlib."""

import io
import math
from collections.abc import Callable
from pathlib import Path

from seqrec.report.analysis import Table
from seqrec.report.training import Map, Panel
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically

try:
    import matplotlib as mpl
except ModuleNotFoundError:
    raise UserError("pictures need matplotlib: pip install -e '.[plots]' in the folder of seqrec") from None

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import PowerNorm
from matplotlib.lines import Line2D

# the same picture is the same file: no date, and no random names in it
UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
STYLE = {
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "font.size": 9},
    **{"figure.constrained_layout.use": True, "savefig.dpi": 150, "svg.hashsalt": "seqrec", "legend.frameon": False},
}
COLOURS = ("#0b63c4", "#cc3d54", "#14804f", "#8044b8", "#b86a00", "#007a86", "#8f5c3f", "#5b6472")
DASHES = ("-", "--", ":", "-.")
PANELS_ACROSS = 4


def curves(table: Table, metric: str, stem: Path) -> None:
    """Draw a metric against the ratio, with bootstrap bands over users, a curve per row."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.8, 3.6))
        for slot, row in enumerate(table.rows):
            places = [(ratio, table.cells.get((row.label, ratio, metric))) for ratio in table.ratios]
            found = [(ratio, cell) for ratio, cell in places if cell]
            ratios = [ratio for ratio, _ in found]
            colour, dash = COLOURS[slot % len(COLOURS)], DASHES[slot // len(COLOURS) % len(DASHES)]
            axis.plot(ratios, [cell.mean for _, cell in found], dash, color=colour, marker="o", ms=3.5, label=row.label)
            low, high = ([getattr(cell, end) for _, cell in found] for end in ("low", "high"))
            axis.fill_between(ratios, low, high, color=colour, alpha=0.13, linewidth=0)
        axis.set(xlabel=f"noise ratio ({table.label})", ylabel=f"{metric} (test)", xticks=table.ratios)
        axis.set_ylim(bottom=0)
        figure.legend(loc="outside right upper")
        save(figure, stem)


def training(panels: list[Panel], conditions: list[str], stem: Path) -> None:
    """Draw values against the epoch or the place: a panel per row and value, a line per run, coloured by its noise."""
    colours = dict(zip(conditions, _scale(len(conditions)), strict=True))
    with plt.rc_context(STYLE):
        figure, axes = _sheet(len(panels))
        for axis, panel in zip(axes.flat, panels, strict=False):
            for condition, _, epochs, values in panel.lines:
                axis.plot(epochs, values, color=colours[condition], linewidth=0.9, alpha=0.8)
            axis.set_title(f"{panel.row}\n{panel.value}", fontsize=8)
            axis.set_xlabel(panel.x)
        lines = [Line2D([], [], color=colour) for colour in colours.values()]
        figure.legend(lines, list(colours), loc="outside lower center", ncols=min(8, len(lines)))
        save(figure, stem)


def maps(drawn: list[Map], stem: Path) -> None:
    """Draw values by pairs of places, newest at the lower right; the colours bring out what is small."""
    with plt.rc_context(STYLE):
        figure, axes = _sheet(len(drawn))
        for axis, entry in zip(axes.flat, drawn, strict=False):
            size = len(entry.values)
            ends = (size - 0.5, -0.5, -0.5, size - 0.5)
            image = axis.imshow(entry.values, cmap="viridis", norm=PowerNorm(0.4, 0, 1), extent=ends)
            axis.set_title(f"{entry.row}\n{entry.value}, {entry.condition}", fontsize=8)
            axis.set(xlabel="from place", ylabel="to place")
            axis.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.6)
        save(figure, stem)


def _sheet(count: int):
    across = min(PANELS_ACROSS, count)
    down = math.ceil(count / across)
    figure, axes = plt.subplots(down, across, figsize=(3.3 * across, 2.5 * down), squeeze=False, layout="constrained")
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, axes


def _scale(count: int) -> list:
    scale: Callable = mpl.colormaps["viridis"]
    return [scale(0.9 * slot / max(1, count - 1)) for slot in range(count)]


def save(figure, stem: Path) -> None:
    """Write a figure as `stem`.png, .svg and .pdf, and close it."""
    figure.draw_without_rendering()  # settles the layout, which would else be sought anew for each format
    figure.set_layout_engine("none")
    for ending, metadata in UNDATED.items():
        stream = io.BytesIO()
        figure.savefig(stream, format=ending, metadata=metadata)
        write_atomically(stem.with_name(f"{stem.name}.{ending}"), stream.getvalue())
    plt.close(figure)
