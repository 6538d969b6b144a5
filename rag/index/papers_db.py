"""papers.sqlite: the papers of an index, and where their passages, sentences and tokens are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.index.folder import corrupt
from rag.index.passages import Bounds, passage_id
from rag.types import Paper

_TABLE = """
CREATE TABLE papers (
    row INTEGER PRIMARY KEY, paper_id TEXT UNIQUE NOT NULL, title TEXT NOT NULL, abstract TEXT NOT NULL,
    sources TEXT NOT NULL, date TEXT, author_count INTEGER, votes INTEGER, digest TEXT NOT NULL,
    passages TEXT NOT NULL, sentences TEXT NOT NULL, first_sentence INTEGER NOT NULL,
    first_token INTEGER NOT NULL, tokens INTEGER NOT NULL
);
"""
_COLUMNS = (
    "row, paper_id, title, abstract, sources, date, author_count, votes, digest, passages, sentences, first_sentence, "
    "first_token, tokens"
)
_MAX_VARIABLES = 500  # values in one query; SQLite limits them


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A paper as indexed.

    `passages` and `sentences` are (start, end) in characters of the abstract. `first_sentence` is a row of
    sentences.npy; `first_token` is the first of `tokens` rows of tokens.int8.
    """

    row: int
    paper: Paper
    passages: tuple[Bounds, ...]
    sentences: tuple[Bounds, ...]
    first_sentence: int
    first_token: int
    tokens: int
    digest: str

    def passage_id(self, ordinal: int) -> str:
        """Id of the passage `passages[ordinal]`."""
        return passage_id(self.paper.paper_id, ordinal)

    @property
    def passage_ids(self) -> list[str]:
        """Ids of all passages."""
        return [self.passage_id(n) for n in range(len(self.passages))]


class PapersDatabase:
    """The read side. Every method raises IndexCorruptError if the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _connect(path)

    def records(self, rows: Sequence[int] | None = None) -> list[Record]:
        """Papers by row number, in that order; all of them if `rows` is None."""
        if rows is None:
            return list(self._select(""))
        by_row = {record.row: record for record in self._where("row", rows)}
        return [by_row[row] for row in rows]

    def find(self, paper_ids: Sequence[str]) -> list[Record]:
        """Papers by id, in that order; unknown ids are left out."""
        by_id = {record.paper.paper_id: record for record in self._where("paper_id", paper_ids)}
        return [by_id[paper_id] for paper_id in paper_ids if paper_id in by_id]

    def _where(self, column: str, values: Sequence[object]) -> Iterator[Record]:
        for start in range(0, len(values), _MAX_VARIABLES):
            part = tuple(values[start : start + _MAX_VARIABLES])
            yield from self._select(f"WHERE {column} IN ({','.join('?' * len(part))})", part)

    def _select(self, where: str, values: tuple[object, ...] = ()) -> Iterator[Record]:
        try:
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM papers {where} ORDER BY row", values):
                yield _record(row)
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise corrupt(self._path, error) from error


def write_papers(path: Path, records: Iterable[Record]) -> None:
    """Write a new database of `records`."""
    connection = sqlite3.connect(path)
    with connection:
        connection.executescript(_TABLE)
        connection.executemany(f"INSERT INTO papers VALUES ({','.join('?' * 14)})", map(_row, records))
    connection.close()


def read_stored_papers(path: Path) -> list[Paper]:
    """The papers of a database of any schema, by the names of its columns. Raises IndexCorruptError."""
    connection = _connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [_stored_paper(dict(row)) for row in connection.execute("SELECT * FROM papers ORDER BY rowid")]
    except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
        raise corrupt(path, error) from error
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise corrupt(path, error) from error


def _row(r: Record) -> tuple[object, ...]:
    """The columns of `r`."""
    p = r.paper
    identity = (
        r.row,
        p.paper_id,
        p.title,
        p.abstract,
        json.dumps(p.sources),
        p.date,
        p.author_count,
        p.votes,
        r.digest,
    )
    return (*identity, json.dumps(r.passages), json.dumps(r.sentences), r.first_sentence, r.first_token, r.tokens)


def _record(row: tuple[Any, ...]) -> Record:
    number, paper_id, title, abstract, sources, date, authors, votes, digest, passages, sentences, *places = row
    paper = Paper(
        paper_id=paper_id,
        title=title,
        abstract=abstract,
        sources=tuple(json.loads(sources)),
        date=date,
        author_count=authors,
        votes=votes,
    )
    first_sentence, first_token, tokens = places
    return Record(
        row=number,
        paper=paper,
        passages=tuple((a, b) for a, b in json.loads(passages)),
        sentences=tuple((a, b) for a, b in json.loads(sentences)),
        first_sentence=first_sentence,
        first_token=first_token,
        tokens=tokens,
        digest=digest,
    )


def _stored_paper(columns: dict[str, Any]) -> Paper:
    return Paper(
        paper_id=str(columns["paper_id"]),
        title=str(columns["title"]),
        abstract=str(columns["abstract"]),
        sources=tuple(json.loads(columns.get("sources") or "[]")),
        date=columns.get("date"),
        author_count=columns.get("author_count"),
        votes=columns.get("votes"),
    )
