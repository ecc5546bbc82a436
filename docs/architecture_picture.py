"""The picture of the architecture, drawn from the imports of the core: ``python docs/architecture_picture.py``.

Rows are the layers of the import contract in pyproject.toml. A box is a package with its modules, or a module. An arrow
means "imports"; those that follow from others are left out (the transitive reduction), and names that only a type
checker needs draw none. A test draws it again and compares, so the picture cannot go stale.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "gatepost"
PICTURE = ROOT / "docs" / "architecture.svg"

WIDTH, MARGIN, GAP, ROW_GAP = 1080, 20, 40, 34
LINE, PAD = 14, 8
CHARACTERS = 56
"""Characters of a line of module names in a box."""
SHIFT = 170
"""The offset of a row with one box: left of the middle, none, right, in turn, so that arrows do not run behind it."""


def layers() -> list[list[str]]:
    """Return the layers of the first import contract, from the top down."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return [re.split(r"\s*[|:]\s*", layer) for layer in contracts["contracts"][0]["layers"]]


def imports(name: str) -> set[str]:
    """Return the packages and modules of the core that ``name`` imports when it runs."""
    folder = CORE / name
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    found = {target for file in files for target in _imported(ast.parse(file.read_text(encoding="utf-8")))}
    return found - {name}


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the names below ``gatepost`` in the imports under ``node``, except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module == "gatepost":
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and child.module.startswith("gatepost."):
            yield child.module.split(".")[1]
        else:
            yield from _imported(child)


def reduced(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return ``arrows`` without those that follow from others. There must be no circle."""

    def reachable(name: str) -> set[str]:
        return arrows[name].union(*(reachable(target) for target in arrows[name]))

    return {
        name: {target for target in targets if not any(target in reachable(other) for other in targets - {target})}
        for name, targets in arrows.items()
    }


@dataclass(frozen=True, slots=True)
class Box:
    """A package or module in the picture; ``lines`` are the names of its modules."""

    name: str
    lines: list[str]
    x: float
    y: float
    width: float
    height: float

    def svg(self) -> str:
        """Return the box with its texts as SVG."""
        kind = "package" if (CORE / self.name).is_dir() else "module"
        texts = [f'<text class="name" x="{self.x + self.width / 2:.0f}" y="{self.y + 18:.0f}">{self.name}</text>']
        for number, line in enumerate(self.lines, 1):
            y = self.y + 18 + number * LINE
            texts.append(f'<text class="modules" x="{self.x + self.width / 2:.0f}" y="{y:.0f}">{line}</text>')
        place = f'x="{self.x:.0f}" y="{self.y:.0f}" width="{self.width:.0f}" height="{self.height:.0f}"'
        return f'<rect class="{kind}" {place} rx="5"/>' + "".join(texts)


def _modules(name: str) -> list[str]:
    folder = CORE / name
    if not folder.is_dir():
        return []
    inside = sorted(path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    return textwrap.wrap(" · ".join(each for each in inside if each != "__init__"), CHARACTERS)


def _width(name: str, lines: list[str]) -> float:
    return 2 * PAD + max(9.5 * len(name), *(6.5 * len(line) for line in ("", *lines)))


def boxes() -> dict[str, Box]:
    """Return all boxes with their places: a row for each layer, in the middle of the picture."""
    placed: dict[str, Box] = {}
    y = float(MARGIN)
    for number, row in enumerate(layers()):
        texts = {name: _modules(name) for name in row}
        widths = {name: _width(name, lines) for name, lines in texts.items()}
        x = (WIDTH - sum(widths.values()) - GAP * (len(row) - 1)) / 2
        if len(row) == 1:
            x += SHIFT * (number % 3 - 1)
        height = 2 * PAD + 12 + LINE * max(len(lines) for lines in texts.values())
        for name in row:
            placed[name] = Box(name, texts[name], x, y, widths[name], height)
            x += widths[name] + GAP
        y += height + ROW_GAP
    return placed


def _arrow(start: Box, end: Box) -> str:
    x1, y1 = start.x + start.width / 2, start.y + start.height
    x2, y2 = end.x + end.width / 2, end.y - 3
    bend = (y2 - y1) / 2
    return f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"/>'


STYLE = """\
text { text-anchor: middle; font-family: sans-serif; }
.name { font-size: 14px; font-weight: bold; }
.modules { font-size: 11px; fill: #444; }
.package { fill: #eaf2fb; stroke: #3b6ea5; }
.module { fill: #f6f2e7; stroke: #9a8347; }
path { fill: none; stroke: #8a8a8a; stroke-width: 1.2; marker-end: url(#head); }
"""


def draw() -> str:
    """Return the picture as SVG."""
    placed = boxes()
    arrows = reduced({name: imports(name) & set(placed) for name in placed})
    height = max(box.y + box.height for box in placed.values()) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        "<title>The layers of gatepost, and which imports which</title>",
        f"<style>\n{STYLE}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        '<marker id="head" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 6 3 0 6z" style="fill: #8a8a8a; stroke: none; marker-end: none"/></marker>',
        *(_arrow(placed[name], placed[target]) for name in placed for target in sorted(arrows[name])),
        *(box.svg() for box in placed.values()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    sys.stderr.write(f"Drew {PICTURE.relative_to(ROOT)}\n")
