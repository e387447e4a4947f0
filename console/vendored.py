"""The scripts and styles of other projects, in console/static/vendor, with their hashes in manifest.json.

`make vendor` fetches them from npm packages and writes the manifest; a test compares the hashes with the
files. Each page names the hash of what it loads, so a browser runs nothing else.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def manifest() -> dict[str, Any]:
    """Return manifest.json: for each file its package, version, licence, SHA-256 and integrity."""
    text = files("console").joinpath("static", "vendor", "manifest.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def integrity(name: str) -> str:
    """Return the value of the attribute `integrity` for a vendored file."""
    return str(manifest()["files"][name]["integrity"])
