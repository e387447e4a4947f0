"""Class names: each exists once, so that a search for a name finds one class."""

import ast
from collections import defaultdict

from support.documents import tracked
from support.launcher import REPOSITORY

FOLDERS = ("gateway", "actors", "cli", "console", "worker_app", ".ci")


def test_each_class_name_exists_once() -> None:
    """Nested and private classes count, too."""
    places = defaultdict(list)
    for path in tracked(*(f"{folder}/**.py" for folder in FOLDERS)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    searched = {place.split("/")[0] for found in places.values() for place in found}
    assert searched == set(FOLDERS), "a folder without a class: were its files found?"
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
