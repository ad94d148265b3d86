"""Line charts as SVG inside the page: colours come from its style, and every point can be read by a program."""

import math
from dataclasses import dataclass, field
from html import escape


@dataclass
class Series:
    """One line; `low` and `high` are the ends of its band."""

    label: str
    style: str  # of the group, as CSS
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)  # data-* of the group
    dots: bool = False  # circles with data-x and data-y


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`, about `wanted` of them."""
    raw = (high - low) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _ends(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1
    return low - pad, high + pad


class Axes:
    """Where numbers stand on the paper."""

    def __init__(self, size: tuple[int, int], x: tuple[float, float], y: tuple[float, float]):
        self.width, self.height = size
        self.left, self.right, self.top, self.bottom = 52, self.width - 12, 10, self.height - 36
        self.x_ends, self.y_ends = x, y

    def x(self, value: float) -> float:
        """Return the place of an abscissa."""
        low, high = self.x_ends
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 2)

    def y(self, value: float) -> float:
        """Return the place of an ordinate."""
        low, high = self.y_ends
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 2)

    def path(self, x: list[float], y: list[float]) -> str:
        """Return the points of a line."""
        return " ".join(f"{self.x(a)},{self.y(b)}" for a, b in zip(x, y, strict=True))


def line_chart(
    series: list[Series], title: str, x_label: str, size: tuple[int, int], x_ticks: list[float] | None, from_zero: bool
) -> str:
    """Return a chart as an <svg> element; `from_zero` starts the ordinate at 0, None for `x_ticks` takes round numbers."""
    heights = [value for s in series for value in (*s.y, *s.low, *s.high)] or [0, 1]
    widths = [value for s in series for value in s.x] or [0, 1]
    low, high = _ends(heights)
    axes = Axes(size, _ends(x_ticks or widths), (0 if from_zero else low, high))
    parts = [
        f'<svg class="chart" viewBox="0 0 {axes.width} {axes.height}" role="img" aria-label="{escape(title)}">',
        *_frame(axes, x_ticks or ticks(min(widths), max(widths) if max(widths) > min(widths) else min(widths) + 1)),
        f'<text class="label" x="{(axes.left + axes.right) / 2}" y="{axes.height - 4}">{escape(x_label)}</text>',
        *(_curve(axes, s) for s in series),
        "</svg>",
    ]
    return "".join(parts)


def _frame(axes: Axes, x_ticks: list[float]) -> list[str]:
    parts = []
    for value in ticks(*axes.y_ends):
        at = axes.y(value)
        parts.append(f'<line class="grid" x1="{axes.left}" x2="{axes.right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="y" x="{axes.left - 6}" y="{at + 3.5}">{value:g}</text>')
    for value in x_ticks:
        parts.append(f'<text class="x" x="{axes.x(value)}" y="{axes.bottom + 15}">{value:g}</text>')
    parts.append(f'<line class="axis" x1="{axes.left}" x2="{axes.right}" y1="{axes.bottom}" y2="{axes.bottom}"/>')
    return parts


def _curve(axes: Axes, series: Series) -> str:
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in series.attributes.items())
    parts = [f'<g class="curve" style="{series.style}"{attributes}><title>{escape(series.label)}</title>']
    if series.low:
        outline = axes.path(series.x, series.high) + " " + axes.path(series.x[::-1], series.low[::-1])
        parts.append(f'<polygon class="band" points="{outline}"/>')
    parts.append(f'<polyline points="{axes.path(series.x, series.y)}"/>')
    if series.dots:
        for slot, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            band = f' data-low="{series.low[slot]!r}" data-high="{series.high[slot]!r}"' if series.low else ""
            parts.append(
                f'<circle cx="{axes.x(x)}" cy="{axes.y(y)}" r="3.2" data-x="{x!r}" data-y="{y!r}"{band}>'
                f"<title>{escape(series.label)}, {x:g}: {y:.4f}</title></circle>"
            )
    return "".join([*parts, "</g>"])


def cells(values: list[list[float]], title: str, x_label: str, y_label: str) -> str:
    """Return shares [N, N] as squares in an <svg> element, the last place being 0 and those before it 1, 2, ...; strong colours
    come early (power .4), and shares below .0005 have no square."""
    count, side, left, top = len(values), 14, 40, 4
    size = left + side * count + 8
    bottom = top + side * count
    parts = [f'<svg class="chart" viewBox="0 0 {size} {bottom + 36}" role="img" aria-label="{escape(title)}">']
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{side * count}" height="{side * count}"/>')
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value >= 0.0005:
                name = f"{count - 1 - column} to {count - 1 - row}: {value:.4f}"
                place = f'x="{left + side * column}" y="{top + side * row}" width="{side}" height="{side}"'
                parts.append(f'<rect class="cell" {place} fill-opacity="{value**0.4:.2f}"><title>{name}</title></rect>')
    for place in range(0, count, 5):
        at = side * (count - 1 - place) + side / 2
        parts.append(f'<text class="x" x="{left + at}" y="{bottom + 14}">{place}</text>')
        parts.append(f'<text class="y" x="{left - 5}" y="{top + at + 4}">{place}</text>')
    parts.append(f'<text class="label" x="{left + side * count / 2}" y="{bottom + 31}">{escape(x_label)}</text>')
    middle = top + side * count / 2
    parts.append(
        f'<text class="label" transform="rotate(-90 12 {middle})" x="12" y="{middle}">{escape(y_label)}</text></svg>'
    )
    return "".join(parts)
