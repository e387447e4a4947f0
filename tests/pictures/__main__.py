"""`python -m pictures [status] [viewer] [console] [gallery]`: make the pictures that are named.

Without a name all but `gallery`, which is for those who change the design of the console.

Exit codes: 0 made; 1 a picture cannot be made here, the message says why; 2 usage.
"""

import argparse
import sys
from pathlib import Path

from support.launcher import REPOSITORY

from pictures import console, status, viewer

FOLDER = REPOSITORY / "docs" / "pictures"
MAKERS = {
    "status": (status.make, "status.svg"),
    "viewer": (viewer.make, "viewer.png"),
    "console": (console.make, "console"),
    "gallery": (console.gallery, str(console.GALLERY)),
}
DEFAULT = ("status", "viewer", "console")


def main() -> int:
    """Make the pictures; return the exit code."""
    parser = argparse.ArgumentParser(prog="pictures", description="make the pictures of the documentation")
    parser.add_argument(
        "names", nargs="*", metavar="picture", help=f"of {', '.join(MAKERS)}; {', '.join(DEFAULT)}"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder for the pictures")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MAKERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in arguments.names or DEFAULT:
        make, file_name = MAKERS[name]
        complaint = make(arguments.output / file_name)
        failed += complaint is not None
        sys.stdout.write(f"{name}: {complaint or arguments.output / file_name}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
