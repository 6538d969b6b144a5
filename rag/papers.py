"""`Paper`, and the readers that make papers from files.

Two formats are read: the text dump of a "Daily Papers" listing (`.txt`, grammar in corpus/README.md)
and JSON lines (`.jsonl`, optionally `.gz`) with `title` and `abstract` or `text`, in the field names of
BEIR (`_id`) or plain ones (`id`, `year` or `date`). A malformed record is returned as a `Problem` with
its file and line, and reading goes on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rag.errors import CorpusError
from rag.text import fold, words

CRAWL_YEAR = 2025  # the year of the listing, for the dates it prints without one
# A dump has no field names, so length tells its two fields apart: titles are at most 174 characters in
# the corpus, abstracts at least 406.
LONGEST_TITLE = 300
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH = "|".join(_MONTHS)
_HEADER = re.compile(
    r"new|Get trending papers in your email inbox(?: once a day)?!|Subscribe|Daily Papers|"
    rf"byAK and the research community|(?:{_MONTH}) \d{{1,2}}"
)
_AUTHORS = re.compile(r"•\s*(\d+)\s+authors?")
_DATE = re.compile(rf"({_MONTH}) (\d{{1,2}})(?:, (\d{{4}}))?(?: (\d+))?")


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper. `date` is ISO 8601 (a year, or a day); `sources` names every file it appeared in."""

    paper_id: str
    title: str
    abstract: str
    sources: tuple[str, ...] = ()
    date: str | None = None
    author_count: int | None = None
    votes: int | None = None

    @property
    def digest(self) -> str:
        """Hash of what is embedded and quoted: equal digests need no new vectors."""
        return hashlib.sha256(f"{self.title}\0{self.abstract}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that could not be read: where (1-based line), and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def make_paper_id(title: str) -> str:
    """A stable, readable id from a title: its first words and four hex digits of its hash."""
    key = " ".join(words(title)) or title.strip()
    slug = ""
    for word in words(title):
        if len(slug) + len(word) > 44 and slug:
            break
        slug = f"{slug}-{word}" if slug else word[:44]
    return f"{slug or 'paper'}-{hashlib.sha256(key.encode()).hexdigest()[:4]}"


def packaged_corpus() -> Path:
    """The folder of the corpus that ships with the program (in the wheel, or beside it in a checkout)."""
    here = Path(__file__).resolve().parent
    inside = here / "corpus"
    return inside if inside.is_dir() else here.parent / "corpus"


def read_papers(paths: Iterable[Path]) -> tuple[list[Paper], list[Problem]]:
    """Papers of all files (folders are searched for .txt, .jsonl, .jsonl.gz), repeats merged.

    Raises CorpusError for a path that is missing, unreadable or not UTF-8, and when no paper is found.
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
        seen = merged.get(paper.paper_id)
        if seen is None:
            merged[paper.paper_id] = paper
            continue
        merged[paper.paper_id] = replace(
            seen,
            sources=tuple(dict.fromkeys(seen.sources + paper.sources)),
            abstract=seen.abstract or paper.abstract,
            date=seen.date or paper.date,
            author_count=seen.author_count or paper.author_count,
            votes=seen.votes if seen.votes is not None else paper.votes,
        )
    return list(merged.values())


def read_dump(text: str, source: str, problems: list[Problem]) -> Iterator[Paper]:
    """Records of one listing dump, in order; malformed ones are appended to `problems`."""
    title, title_line = "", 0
    paper: Paper | None = None
    header = True
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip().removeprefix("\ufeff")
        if not line or line == "·":
            continue
        if header:
            if _HEADER.fullmatch(line):
                continue
            line = line.removeprefix("Subscribe")  # one dump glues its first title to this word
            header = False
        if match := _AUTHORS.fullmatch(line):
            if paper is None or title:
                problems.append(Problem(source, number, "an author count that follows no abstract"))
            else:
                paper = replace(paper, author_count=int(match[1]))
        elif paper is not None and paper.author_count and not paper.date and (match := _DATE.fullmatch(line)):
            month, day, year, votes = match.groups()
            date = f"{int(year or CRAWL_YEAR):04}-{_MONTHS.index(month) + 1:02}-{int(day):02}"
            paper = replace(paper, date=date, votes=int(votes) if votes else None)
        elif len(line) <= LONGEST_TITLE:
            if title:
                problems.append(Problem(source, title_line, f"no abstract follows the title {title[:60]!r}"))
            title, title_line = line, number
        elif title:
            if paper is not None:
                yield paper
            paper = Paper(make_paper_id(title), title, line, (source,))
            title = ""
        else:
            problems.append(Problem(source, number, f"no title precedes the abstract {line[:60]!r}"))
    if title:
        problems.append(Problem(source, title_line, f"no abstract follows the title {title[:60]!r}"))
    if paper is not None:
        yield paper


def read_jsonl(text: str, source: str, problems: list[Problem]) -> Iterator[Paper]:
    """Records of one JSON-lines file, in order; malformed ones are appended to `problems`."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            title = " ".join(_string(record.get("title")).split())
            abstract = _string(record.get("abstract") or record.get("text")).strip()
            if not title and not abstract:
                raise ValueError("neither title nor abstract")
            given = _string(record.get("_id", record.get("id", record.get("paper_id"))))
            date = _string(record.get("date") or record.get("published") or record.get("year"))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(source, number, str(error)))
            continue
        yield Paper(
            given or make_paper_id(title or abstract),
            title or abstract[:80],
            abstract,
            (source,),
            date or None,
        )


def find_papers(papers: Iterable[Paper], pattern: str) -> list[Paper]:
    """Papers whose id is `pattern`, else whose title or short name ("PROP" of "PROP: …") is, else whose
    title holds every word of it."""
    papers = list(papers)
    if exact := [p for p in papers if p.paper_id == pattern]:
        return exact
    if key := words(pattern):
        for cut in ("\0", ":"):
            if exact := [p for p in papers if words(p.title.partition(cut)[0]) == key]:
                return exact
    needles = fold(pattern).split()
    return [p for p in papers if all(needle in fold(p.title) or needle in p.paper_id for needle in needles)]


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            found = (f for f in path.rglob("*") if f.name.endswith((".txt", ".jsonl", ".jsonl.gz")))
            return sorted(f for f in found if f.is_file() and not f.name.startswith("."))
        path.stat()
    except OSError as error:
        raise CorpusError(f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions.") from error
    return [path]


def _string(value: object) -> str:
    """`value` as text. Raises ValueError for half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    text = "" if value is None else str(value)
    text.encode()
    return text


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
    reader = read_jsonl if path.name.endswith((".jsonl", ".jsonl.gz")) else read_dump
    yield from reader(read_text(path), path.name, problems)
