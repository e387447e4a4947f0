"""How Sphinx builds this folder: `make docs`. Any warning is an error there, a broken link or anchor too."""

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]

project = "mini_pacs_edge"
version = release = _PROJECT["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"

# Anchors as GitHub makes them, so that a link works in both.
myst_heading_anchors = 4

# No link leaves the built pages for a font, a script or a picture: a hospital is offline.
html_theme = "alabaster"
html_theme_options = {
    "description": "A durable DICOM gateway for the edge of a hospital",
    "page_width": "70rem",
    "body_max_width": "60rem",  # the diagrams have up to 85 columns
    "sidebar_width": "16rem",
    "fixed_sidebar": False,
    "show_powered_by": False,
}
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
