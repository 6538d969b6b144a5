"""Imports run one way: each room imports only from rooms above it in the README's list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "errors text settings papers interaction encoder index bibtex retrieval grounding answering assistant "
    "render chat options cli"
).split()
FACES = {"ui": {"eval"}, "eval": {"ui"}}  # what each of them leaves alone


def imported(path: Path) -> set[str]:
    """Dotted names that the file imports, wherever in it, type checking aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    return {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_above(room: str) -> None:
    files = list((ROOT / "rag" / room).glob("*.py")) or [ROOT / "rag" / f"{room}.py"]
    below = set(ROOMS[ROOMS.index(room) + 1 :]) | {"ui", "eval"}
    for path in files:
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("rag.")}
        rooms |= {name.split(".")[0] for name in imported(path)} & {"ui", "eval"}
        # The command line opens the other faces on demand.
        allowed = {"ui", "eval"} if room == "cli" else set()
        assert not rooms & below - allowed, path


def test_every_room_is_in_the_list() -> None:
    found = {path.stem for path in (ROOT / "rag").glob("[a-z]*.py")}
    found |= {path.parent.name for path in (ROOT / "rag").glob("*/__init__.py")}
    assert found == set(ROOMS)


@pytest.mark.parametrize("face", FACES)
def test_faces_keep_to_themselves(face: str) -> None:
    for path in (ROOT / face).glob("*.py"):
        top = {name.split(".")[0] for name in imported(path)}
        assert not top & FACES[face] and "rag.cli" not in imported(path), path
