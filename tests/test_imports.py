"""The architecture: every package imports only from those above it in the list, lazy imports included."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    "errors types settings text corpus encoders index retrieval llm answering verification assistant cli adapters"
).split()
FRONT_ENDS = {"ui": {"eval"}, "eval": {"ui"}}  # what each of them must not import
ENTRY_POINTS = {"__init__", "__main__"}  # the public names, and the start of the command line


def imported(path: Path) -> set[str]:
    """Dotted names that the file imports anywhere, except for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_layers_above(layer: str) -> None:
    files = list((ROOT / "rag" / layer).glob("*.py")) or [ROOT / "rag" / f"{layer}.py"]
    below = set(LAYERS[LAYERS.index(layer) + 1 :])
    for path in files:
        names = imported(path)
        layers = {name.split(".")[1] for name in names if name.startswith("rag.")}
        assert not layers & below, path
        assert not {name.split(".")[0] for name in names} & {"ui", "eval"}, path


def test_every_module_is_in_a_layer() -> None:
    modules = {path.stem for path in (ROOT / "rag").glob("*.py")} - ENTRY_POINTS
    assert modules | {path.parent.name for path in (ROOT / "rag").glob("*/__init__.py")} == set(LAYERS)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_front_ends_do_not_import_each_other(front_end: str) -> None:
    for path in (ROOT / front_end).rglob("*.py"):
        names = imported(path)
        assert not {name.split(".")[0] for name in names} & FRONT_ENDS[front_end], path
        assert "rag.cli.app" not in names, path


SOURCES = sorted(path for package in ("rag", "ui", "eval") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{path} has more than one job"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name} is too long"


def test_the_public_names_are_complete_and_importing_rag_loads_no_other_module() -> None:
    import rag

    public = {
        "Answer", "Assistant", "Paper", "SearchResult", "Settings", "Turn", "build_index", "__version__",
        "CorpusError", "EmbeddingModelError", "GenerationError", "IndexCorruptError", "IndexFolderError",
        "IndexLockedError", "IndexMismatchError", "IndexMissingError", "IndexWriteError", "LLMError",
        "LLMUnavailableError", "PromptTooLongError", "RagError", "SettingsError", "UsageError",
    }  # fmt: skip
    assert set(rag.__all__) == public and all(getattr(rag, name) for name in public)
    with pytest.raises(AttributeError):
        _ = rag.nonsense  # type: ignore[attr-defined]
    code = "import sys, rag; print([m for m in sys.modules if m.startswith('rag.') or m == 'numpy'])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
