"""Configuration of Sphinx, which builds the manual from this folder: offline, every warning an error (scripts/docs)."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import reference_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "gatepost"
copyright = "the gatepost authors"  # noqa: A001 - Sphinx reads this name
version = release = installed_version("gatepost")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["performance/figures.md", "examples"]
# Readers copy commands from the manual, so double hyphens and straight quotation marks must stay as they are.
smartquotes = False

html_theme = "furo"
html_title = f"gatepost {release}"
html_copy_source = False
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    """Generate the reference from the code before the pages are read."""
    app.connect("builder-inited", lambda app: reference_pages.write(Path(app.srcdir, "reference")))
