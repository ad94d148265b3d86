"""All figures: curves, training panels and maps as PNG, SVG and PDF, and the same SVG for the page and the documents.

matplotlib is the only engine, because papers need PDF. In the SVG every curve is a group with `data-row`,
which a legend can hide, and every point has `data-x`, `data-y`, its band and a tooltip. In the page the colours are variables of the
page, so that dark mode works.
"""

import io
import math
import re
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path

from seqrec.config import digest
from seqrec.report.analysis import Table
from seqrec.report.committed import CLEAN, Results
from seqrec.report.documents import at_ratios
from seqrec.report.training import Map, Panel
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically

try:
    import matplotlib as mpl
except ModuleNotFoundError:
    raise UserError("pictures need matplotlib: pip install -e '.[plots]' in the folder of seqrec") from None

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex
from matplotlib.lines import Line2D

# the same picture is the same file: no date, and no random names in it
UNDATED = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
SOFT, RULE = "#5d6875", "#dfe3e8"
STYLE = {
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": RULE, "font.size": 9},
    **{"figure.constrained_layout.use": True, "savefig.dpi": 150, "svg.hashsalt": "seqrec", "svg.fonttype": "none"},
    **{"text.parse_math": False, "legend.frameon": False, "font.family": "sans-serif", "axes.facecolor": "none"},
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), SOFT),
}
COLOURS = ("#0b63c4", "#cc3d54", "#14804f", "#8044b8", "#b86a00", "#007a86", "#8f5c3f", "#5b6472")
DASHES = ("-", "--", ":", "-.")
VARIABLES = {SOFT: "--soft", RULE: "--rule", **{colour: f"--c{slot}" for slot, colour in enumerate(COLOURS)}}
PANELS_ACROSS = 4
LONGEST_BESIDE = 40  # letters of a label beside the curves; longer ones stand below
CURVE = re.compile(r'<g id="(curve|band):([^"]*)">(.*?)(?=<g id=)', re.DOTALL)


@dataclass
class Series:
    """A curve; `low` and `high` are the ends of its band."""

    label: str
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


def lines(series: list[Series], x_label: str, y_label: str, ratios: list[float], stem: Path | None) -> str:
    """Draw curves against the noise ratio, from 0 up; returns the SVG, and writes `stem`.png, .svg and .pdf if it is given."""
    with plt.rc_context(STYLE):
        long = any(len(one.label) > LONGEST_BESIDE for one in series)
        figure, axis = plt.subplots(figsize=(6.8, 3.6 + long * 0.18 * len(series)))
        for slot, one in enumerate(series):
            colour, dash = look(slot)
            axis.plot(one.x, one.y, dash, color=colour, marker="o", ms=3.5, label=one.label, gid=f"curve:{one.label}")
            if one.low:
                band = {"color": colour, "alpha": 0.13, "linewidth": 0, "gid": f"band:{one.label}"}
                axis.fill_between(one.x, one.low, one.high, **band)
        axis.set(xlabel=x_label, ylabel=y_label, xticks=ratios)
        axis.set_ylim(bottom=0)
        if series:
            figure.legend(loc="outside lower left" if long else "outside right upper")
        return save(figure, stem, {one.label: one for one in series})


def look(slot: int) -> tuple[str, str]:
    """Return colour and dashes of the curve with this number."""
    return COLOURS[slot % len(COLOURS)], DASHES[slot // len(COLOURS) % len(DASHES)]


def curves(table: Table, metric: str, stem: Path | None) -> str:
    """Draw a metric against the ratio, with bootstrap bands over users, a curve per row; returns the SVG."""
    cells = table.cells.xs(metric, level="metric")
    series = [
        Series(row.label, list(found.index), *(found[name].tolist() for name in ("mean", "low", "high")))
        for row in table.rows  # one without the metric keeps its place, and so the others their colours
        for found in [cells[cells.index.get_level_values("row") == row.label].droplevel("row")]
    ]
    return lines(series, f"noise ratio ({table.label})", f"{metric} (test)", table.ratios, stem)


def of_ratios(results: Results, spec: dict) -> str:
    """Return the curves of a document's table of ratios as an SVG; settings with fewer than two ratios are left out."""
    series = []
    for row in spec["rows"]:
        found = {ratio: float(values.mean()) for ratio, values in at_ratios(results, spec, row).items() if len(values)}
        if len(found) > 1:
            series.append(Series(row["label"], list(found), list(found.values())))
    return lines(series, f"noise ratio ({spec['noise']})", f"{spec['metric']} (test)", spec["ratios"], None)


def of_gains(results: Results, spec: dict) -> str:
    """Return the relative gains of a document's table of runs as an SVG: a point with its interval for each comparison."""
    named = {row["setting"]: row["label"] for row in spec["rows"]}
    found = {
        f"{row['label']} against {named.get(other['setting'], other['label'])}": gain
        for row in spec["rows"]
        for other in row["against"]
        if (gain := results.gain(row["setting"], other["setting"], CLEAN, "NDCG@10"))
    }
    ends = ("gain", "low", "high")
    series = [
        Series(label, [place], *([100 * float(gain[end])] for end in ends))
        for place, (label, gain) in enumerate(found.items())
    ]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.8, 0.7 + 0.3 * len(series)))
        axis.axvline(0, color=SOFT, linewidth=0.8)
        for one in series:
            axis.plot(one.y, one.x, color=COLOURS[0], marker="o", ms=4, gid=f"curve:{one.label}")
            axis.hlines(one.x, one.low, one.high, color=COLOURS[0], linewidth=1.2)
        axis.set(xlabel="NDCG@10 (test), % above, with 95 % interval", yticks=range(len(series)))
        axis.set_yticklabels([one.label for one in series], fontsize=7)
        axis.invert_yaxis()
        return save(figure, None, {one.label: one for one in series})


PICTURES = {"ratios": of_ratios, "runs": of_gains}  # by kind of table


def training(panels: list[Panel], conditions: list[str], stem: Path) -> str:
    """Draw values against the epoch or position: a panel per row and value, a line per run, coloured by its noise.

    The SVG that is returned is for the page: it mixes the page's own colours.
    """
    shares = [n / max(1, len(conditions) - 1) for n in range(len(conditions))]
    scale = LinearSegmentedColormap.from_list("conditions", COLOURS[:2])
    colours = {name: to_hex(scale(share)) for name, share in zip(conditions, shares, strict=True)}
    with plt.rc_context(STYLE):
        figure, axes = _sheet(len(panels))
        for axis, panel in zip(axes.flat, panels, strict=False):
            for condition, x, values in panel.lines:
                axis.plot(x, values, color=colours[condition], linewidth=0.9, alpha=0.8)
            axis.set_title(f"{panel.row}\n{panel.value}", fontsize=8)
            axis.set_xlabel(panel.x)
        keys = [Line2D([], [], color=colour) for colour in colours.values()]
        figure.legend(keys, list(colours), loc="outside lower center", ncols=min(8, len(keys)))
        svg = save(figure, stem)
    for colour, share in zip(colours.values(), shares, strict=True):
        svg = svg.replace(colour, f"color-mix(in srgb,{COLOURS[1]} {share:.0%},{COLOURS[0]})")
    return svg


def maps(drawn: list[Map], stem: Path) -> str:
    """Draw values by pairs of positions, newest at the lower right; the colour scale emphasises small values."""
    with plt.rc_context(STYLE):
        figure, axes = _sheet(len(drawn))
        for axis, entry in zip(axes.flat, drawn, strict=False):
            size = len(entry.values)
            ends = (size - 0.5, -0.5, -0.5, size - 0.5)
            image = axis.imshow(entry.values, cmap="viridis", norm=PowerNorm(0.4, 0, 1), extent=ends)
            axis.set_title(f"{entry.row}\n{entry.value}, {entry.condition}", fontsize=8)
            axis.set(xlabel="from position", ylabel="to position")
            axis.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.6)
        return save(figure, stem)


def _sheet(count: int):
    across = min(PANELS_ACROSS, count)
    down = math.ceil(count / across)
    figure, axes = plt.subplots(down, across, figsize=(3.3 * across, 2.5 * down), squeeze=False, layout="constrained")
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, axes


def save(figure, stem: Path | None, series: dict[str, Series] | None = None) -> str:
    """Write a figure as `stem`.png, .svg and .pdf, unless there is no stem, and close it; returns the SVG."""
    figure.draw_without_rendering()  # computes the layout once instead of once per format
    figure.set_layout_engine("none")
    figure.patch.set_gid("paper")
    written = {}
    for ending, metadata in UNDATED.items():
        if stem or ending == "svg":
            stream = io.BytesIO()
            figure.savefig(stream, format=ending, metadata=metadata)
            written[ending] = stream.getvalue()
    plt.close(figure)
    svg = CURVE.sub(lambda match: _with_data(match, series or {}), written["svg"].decode())
    written["svg"] = svg.encode()
    for ending, content in written.items() if stem else ():
        write_atomically(stem.with_name(f"{stem.name}.{ending}"), content)
    return svg


def _with_data(group: re.Match, series: dict[str, Series]) -> str:
    kind, label, drawn = group.groups()
    one = series[unescape(label)]
    label = escape(one.label)
    numbers = iter(zip(one.x, one.y, *((one.low, one.high) if one.low else ()), strict=True))

    def point(use: re.Match) -> str:
        values = dict(zip(("x", "y", "low", "high"), map(float, next(numbers)), strict=False))
        data = "".join(f' data-{name}="{value!r}"' for name, value in values.items())
        return f"<use {use[1]}{data}><title>{label}, {values['x']:g}: {values['y']:.4f}</title></use>"

    drawn = re.sub(r"<use ([^>]*)/>", point, drawn) if kind == "curve" else drawn
    return f'<g class="{kind}" data-row="{label}">{drawn}'


def inline(svg: str, title: str) -> str:
    """Return an SVG as an element of the page, in the page's colours and with ids of its own; screen readers say its title."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>s{digest(svg)}-", svg)
    width, box = re.match(r'<svg [^>]*?width="([^"]*)"[^>]*(viewBox="[^"]*")', svg).groups()
    start = f'<svg class="chart" role="img" aria-label="{escape(title)}" width="{width}" {box}>'
    return themed(start + svg[svg.index(">") + 1 :])


def themed(text: str) -> str:
    """Return SVG or HTML with the colours of figures as the page's variables."""
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
