"""Papers from files: which files are read, by which reader, and how repeated papers are merged.

A malformed record is returned as a `Problem` with its file and line, and reading continues.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rag.corpus.dump import read_dump
from rag.corpus.jsonl import read_jsonl
from rag.corpus.records import Problem
from rag.errors import CorpusError
from rag.text.terms import fold, words
from rag.types import Paper

# The reader of each file format, by the ending of the file's name; add a format here.
_READERS: dict[str, Callable[[str, str, list[Problem]], Iterator[Paper]]] = {
    ".txt": read_dump,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
}


def packaged_corpus() -> Path:
    """The folder of the corpus that ships with the program (in the wheel, or beside it in a checkout)."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "data"
    return installed if installed.is_dir() else package.parent / "corpus"


def read_papers(paths: Iterable[Path]) -> tuple[list[Paper], list[Problem]]:
    """Papers of all files (folders are searched for .txt, .jsonl, .jsonl.gz), repeats merged.

    Raises CorpusError for a path that is missing, unreadable or not UTF-8, or if no paper is found.
    """
    problems: list[Problem] = []
    files = [file for path in paths for file in _files(path)]
    records = (paper for file in files for paper in _read_file(file, problems))
    papers = merge(records)
    if not papers:
        first = f" First problem: {problems[0]}." if problems else ""
        raise CorpusError(
            f"No paper found in {', '.join(f.name for f in files[:3]) or 'the given folder'}.{first}",
            "Give a listing dump (.txt) or JSON lines with title and abstract (.jsonl, .jsonl.gz).",
        )
    return papers, problems


def merge(records: Iterable[Paper]) -> list[Paper]:
    """One paper per id, in order of first appearance; sources united, missing metadata filled in."""
    merged: dict[str, Paper] = {}
    for paper in records:
        earlier = merged.get(paper.paper_id)
        if earlier is None:
            merged[paper.paper_id] = paper
            continue
        merged[paper.paper_id] = replace(
            earlier,
            sources=tuple(dict.fromkeys(earlier.sources + paper.sources)),
            abstract=earlier.abstract or paper.abstract,
            date=earlier.date or paper.date,
            author_count=earlier.author_count or paper.author_count,
            votes=earlier.votes if earlier.votes is not None else paper.votes,
        )
    return list(merged.values())


def find_papers(papers: Iterable[Paper], pattern: str) -> list[Paper]:
    """The papers that `pattern` names: by id; else by title or short name ("PROP" of "PROP: …"); else by words.

    In the last case, every word must occur in the title or the id.
    """
    papers = list(papers)
    if exact := [p for p in papers if p.paper_id == pattern]:
        return exact
    if key := words(pattern):
        for separator in ("\0", ":"):  # the whole title, then the part before a colon
            if exact := [p for p in papers if words(p.title.partition(separator)[0]) == key]:
                return exact
    needles = fold(pattern).split()
    return [p for p in papers if all(needle in fold(p.title) or needle in p.paper_id for needle in needles)]


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            files = (f for f in path.rglob("*") if f.name.endswith(tuple(_READERS)) and not f.name.startswith("."))
            return sorted(f for f in files if f.is_file())
        path.stat()
    except OSError as error:
        raise CorpusError(f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions.") from error
    return [path]


def read_text(path: Path) -> str:
    """The text of a file, unpacked if its name ends in `.gz`. Raises CorpusError if it cannot be read."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a complete gzip file"
        raise CorpusError(f"Cannot read {path}: {reason}.", "Check the path and its permissions.") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}).", "Convert the file to UTF-8 first."
        ) from error


def _read_file(path: Path, problems: list[Problem]) -> Iterator[Paper]:
    reader = next((read for ending, read in _READERS.items() if path.name.endswith(ending)), read_dump)
    yield from reader(read_text(path), path.name, problems)
