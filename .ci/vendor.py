"""Fetch the scripts and styles of console/static/vendor from npm packages, and write their manifest.

npm decides from its own configuration which registry it asks. The versions are fixed here; the manifest has
version, licence, SHA-256 and integrity of each file, and the licence of each package is beside it.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TARGET = Path(__file__).parent.parent / "console" / "static" / "vendor"
PACKAGES = {
    "htmx.org": ("2.0.11", ["dist/htmx.min.js"]),
    "idiomorph": ("0.8.0", ["dist/idiomorph-ext.min.js"]),
    "uplot": ("1.6.32", ["dist/uPlot.iife.min.js", "dist/uPlot.min.css"]),
}
LICENCES = {"htmx.org": "0BSD", "idiomorph": "0BSD", "uplot": "MIT"}


def main() -> None:
    """Replace the files and manifest.json."""
    TARGET.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for package, (version, wanted) in PACKAGES.items():
            unpacked = _fetch(Path(folder) / package, f"{package}@{version}")
            licence = json.loads((unpacked / "package.json").read_text("utf-8"))["license"]
            if licence != LICENCES[package]:
                raise SystemExit(f"{package} {version} has the licence {licence}, not {LICENCES[package]}")
            shutil.copyfile(unpacked / "LICENSE", TARGET / f"{package}.LICENSE")
            for path in wanted:
                name = Path(path).name
                shutil.copyfile(unpacked / path, TARGET / name)
                files[name] = {
                    "package": package,
                    "version": version,
                    "licence": licence,
                    "path": path,
                    **hashes(TARGET / name),
                }
    text = json.dumps({"files": files}, indent=2, sort_keys=True)
    (TARGET / "manifest.json").write_text(f"{text}\n", encoding="utf-8")
    print("\n".join(f"{name} {one['package']} {one['version']}" for name, one in sorted(files.items())))


def hashes(file: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, and what a page names as its integrity."""
    content = file.read_bytes()
    sri = base64.b64encode(hashlib.sha384(content).digest()).decode()
    return {"sha256": hashlib.sha256(content).hexdigest(), "integrity": f"sha384-{sri}"}


def _fetch(folder: Path, package: str) -> Path:
    folder.mkdir()
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
    )
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


if __name__ == "__main__":
    main()
