"""Draw the charts of docs/performance.md and docs/development/performance.md from the figures of a run, as SVG.

A chart has one message, its title, and labels its data directly. gatepost is coloured, its peers are grey. Each chart
has a background of its own, which is dark if the reader's system is, so that it can be read on any page. The same
figures give the same files. A chart whose figures were not measured is left out.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from tests.bench.figures import Figures

INK, MUTED, PAPER = "#24292f", "#6a737d", "#fbfbfa"
OURS, OURS_TOO, PEER = "#c2410c", "#e59a73", "#b3bac2"
DARK = {INK: "#e8eaed", MUTED: "#9aa2ab", PAPER: "#1b1e22", OURS: "#fb8b4c", OURS_TOO: "#96542f", PEER: "#59616b"}
"""The colours for readers whose system is dark."""

NAMES = {
    "smtp-sink": "smtp-sink (C, no policy)",
    "gatepost-bare": "gatepost, discard only",
    "gatepost": "gatepost, default chain",
    "gatepost-forward": "gatepost, forwarding",
    "aiosmtpd": "aiosmtpd",
    "haraka": "Haraka",
    "postfix": "Postfix smtpd",
    "qpsmtpd": "qpsmtpd prefork",
}
"""Names of servers in charts. Servers without a name here are not drawn."""

WIDTH, MARGIN, LINE, NAMES_WIDTH = 8.6, 0.2, 0.32, 2.1
"""Inches: width of a chart, its margin, height of a server's line, and width of the column of servers' names."""
TITLE_LETTERS = 72
"""Longest line of a title, in characters."""

Medians: TypeAlias = Mapping[str, float]


class Panel(NamedTuple):
    """A panel of bars: its heading, the lengths of the bars, and the format in which these are written."""

    says: str
    medians: Medians
    form: str


STYLE: Any = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "gatepost",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Draw all charts that have figures into the folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, make in PICTURES.items():
        with mpl.rc_context(STYLE):
            picture = make(figures)
            if picture is not None:
                _sign(picture, figures)
                (folder / f"{name}.svg").write_text(_svg(picture))
                drawn.append(folder / f"{name}.svg")
    return drawn


def messages(figures: Figures) -> Picture | None:
    """Draw the CPU time of a message, on a new connection and on a reused one."""
    new, reused = (_medians(figures, work, "CPU") for work in ("messages-new", "messages-reused"))
    if not _comparable(new, reused):
        return None
    title = (
        f"A message on a new connection takes {_share(new)} of the CPU that it takes in Haraka, "
        f"and {_share(reused)} on a reused connection"
    )
    panels = (
        Panel("one per connection: µs of CPU", new, "{:,.0f}"),
        Panel("100 per connection: µs of CPU", reused, "{:,.0f}"),
    )
    return _bars(title, panels)


def large(figures: Figures) -> Picture | None:
    """Draw the CPU time of large messages, and how far memory rises."""
    cpu = _medians(figures, "large", "CPU")
    memory = _medians(figures, "large", "memory rise", row="{}, ten at once")
    if not _comparable(cpu, memory):
        return None
    title = (
        f"Ten large messages at once raise memory by {memory['gatepost']:.0f} MiB, in Haraka by "
        f"{memory['haraka']:.0f}; a MB takes {_share(cpu)} of the CPU that it takes there"
    )
    panels = (
        Panel("one by one: ms of CPU per MB", cpu, "{:.1f}"),
        Panel("ten at once: memory rise in MiB", memory, "{:.0f}"),
    )
    return _bars(title, panels)


def held(figures: Figures) -> Picture | None:
    """Draw the memory of a server by the number of clients that wait for its greeting."""
    each = _medians(figures, "held", "memory")
    for name, further in _medians(figures, "held", "memory, further").items():
        each[name] = max(each[name], further)
    if not _comparable(each):
        return None
    lines = {row: _by_size(figures, "held", row, "memory in all") for row in each}
    title = f"A client that waits for its greeting takes {each['gatepost']:.1f} KiB, in Haraka {each['haraka']:.1f} KiB"
    names = {**NAMES, "gatepost": "gatepost", "postfix": "Postfix postscreen"}
    labels = {row: f"{names[row]}: {kib:.1f} KiB each" for row, kib in each.items()}
    return _lines(title, "total memory in MiB, by number of waiting clients", labels, lines)


def latency(figures: Figures) -> Picture | None:
    """Draw the time that a message takes at half the highest rate: the median and the 99th percentile."""
    p50, p99 = (_medians(figures, "latency", name) for name in ("p50", "p99"))
    if "gatepost" not in p50:
        return None
    title = (
        f"At half of its highest rate gatepost takes {p50['gatepost']:.1f} ms for a message, "
        f"and less than {p99['gatepost']:.0f} ms for 99 of 100"
    )
    return _spans(title, "ms from connecting to the reply to the message, median to 99th percentile", p50, p99)


PICTURES: dict[str, Callable[[Figures], Picture | None]] = {
    "messages": messages,
    "held": held,
    "large": large,
    "latency": latency,
}
"""The charts by the names of their files."""


# Figures.


def _medians(figures: Figures, work: str, measure: str, *, row: str = "{}") -> dict[str, float]:
    """Return the medians by server, of those servers that were measured."""
    found = {name: figures.find(work, row.format(name), measure) for name in NAMES}
    return {name: figure.median for name, figure in found.items() if figure}


def _by_size(figures: Figures, work: str, row: str, measure: str) -> dict[int, float]:
    """Return the medians of one row by the size of the work."""
    return {
        figure.measure.at: figure.median
        for figure in figures.figures
        if (figure.work, figure.row, figure.measure.name) == (work, row, measure) and figure.measure.at is not None
    }


def _comparable(*several: Medians) -> bool:
    return all({"gatepost", "haraka"} <= medians.keys() for medians in several)


def _share(medians: Medians) -> str:
    return f"{medians['gatepost'] / medians['haraka']:.0%}"


# Drawing. Lengths are in inches, from the upper left of the chart.


def _paper(title: str, height: float) -> tuple[Picture, float]:
    """Return a chart with its title and room for a drawing of this height, and the distance from the top to it."""
    lines = textwrap.wrap(title, TITLE_LETTERS)
    top = MARGIN + 0.24 * len(lines) + 0.5
    picture = Picture(figsize=(WIDTH, top + height + 0.65))
    _say(picture, 1 - MARGIN / picture.get_figheight(), "\n".join(lines), size=12, weight="bold", va="top")
    return picture, top


def _say(picture: Picture, height: float, text: str, **how: Any) -> None:
    picture.text(MARGIN / WIDTH, height, text, linespacing=1.3, **how)


def _axes(picture: Picture, left: float, top: float, width: float, height: float) -> Axes:
    whole = picture.get_figheight()
    return picture.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))


def _bars(title: str, panels: Sequence[Panel]) -> Picture:
    """Draw panels side by side, with a bar for each server, in the order of the first panel."""
    names = sorted(panels[0].medians, key=lambda name: -panels[0].medians[name])
    height = LINE * len(names)
    picture, top = _paper(title, height)
    width = (WIDTH - NAMES_WIDTH - MARGIN) / len(panels)
    for number, panel in enumerate(panels):
        axes = _axes(picture, NAMES_WIDTH + number * width, top, width - 0.6, height)
        axes.set_title(panel.says)
        values = [panel.medians.get(name, 0) for name in names]
        axes.barh(range(len(names)), values, height=0.62, color=[_colour(name) for name in names])
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            if name in panel.medians:
                _word(axes, (value, place), panel.form.format(value), name)
        _bare(axes, names if number == 0 else [])
    return picture


def _spans(title: str, says: str, begins: Medians, ends: Medians) -> Picture:
    """Draw a span for each server, labelled with both ends."""
    names = sorted(begins, key=lambda name: -begins[name])
    height = LINE * len(names)
    picture, top = _paper(title, height)
    axes = _axes(picture, NAMES_WIDTH, top, WIDTH - NAMES_WIDTH - 1, height)
    axes.set_title(says)
    for place, name in enumerate(names):
        axes.plot(
            [begins[name], ends[name]], [place, place], color=_colour(name), linewidth=3, marker="o", clip_on=False
        )
        _word(axes, (ends[name], place), f"{begins[name]:.1f} to {ends[name]:.1f}", name, away=8)
    axes.set_xlim(left=0)
    axes.set_ylim(-0.6, len(names) - 0.4)
    _bare(axes, names)
    return picture


def _lines(title: str, says: str, labels: Mapping[str, str], lines: Mapping[str, Mapping[int, float]]) -> Picture:
    """Draw a line for each server, with its label at the end."""
    picture, top = _paper(title, 2.6)
    axes = _axes(picture, 0.6, top, WIDTH - 3.2, 2.4)
    axes.set_title(says)
    for name, line in lines.items():
        sizes = sorted(line)
        axes.plot(sizes, [line[size] for size in sizes], color=_colour(name), linewidth=2.5, marker="o", markersize=5)
        _word(axes, (sizes[-1], line[sizes[-1]]), labels[name], name, away=10)
    axes.set_xticks(sorted({size for line in lines.values() for size in line}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.tick_params(length=0, pad=6)
    return picture


def _bare(axes: Axes, names: Sequence[str]) -> None:
    """Remove frame and scale, since every value has a label, and write the servers' names at the left."""
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.tick_params(length=0, pad=8)
    for name, label in zip(names, axes.get_yticklabels(), strict=True):
        label.set(color=_ink(name), weight=_weight(name))


def _word(axes: Axes, at: tuple[float, float], text: str, name: str, *, away: float = 5) -> None:
    """Label a point of the server ``name`` at its right, ``away`` typographic points from it."""
    axes.annotate(text, at, (away, 0), textcoords="offset points", va="center", color=_ink(name), weight=_weight(name))


def _colour(name: str) -> str:
    return OURS if name == "gatepost" else OURS_TOO if name.startswith("gatepost") else PEER


def _ink(name: str) -> str:
    return OURS if name == "gatepost" else INK


def _weight(name: str) -> str:
    return "bold" if name == "gatepost" else "normal"


def _sign(picture: Picture, figures: Figures) -> None:
    """Write date and machine at the foot."""
    median = "a quick run" if figures.quick else f"medians of {figures.runs} runs"
    text = f"{figures.date[:10]}, {median}, server on one core of {figures.machine.processor}, {figures.interpreter}"
    _say(picture, MARGIN / picture.get_figheight(), text, size=8, color=MUTED, va="bottom")


def _svg(picture: Picture) -> str:
    """Return the text of the file, with the colours for dark systems added."""
    file = io.StringIO()
    picture.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    rules = (
        f'[style*="{kind}: {light}"] {{{kind}: {dark} !important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{{' '.join(rules)}}}</style>"
    return file.getvalue().replace("</defs>", f"{style}</defs>", 1)
