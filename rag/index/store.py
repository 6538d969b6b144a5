"""The read side of an index: papers, passages, sentences, cosines and BM25 scores."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.encoder import Vectors
from rag.errors import REBUILD, IndexDamaged, IndexMissing
from rag.index.chroma import Reader
from rag.index.lexical import Lexical
from rag.index.passport import NAME, Passport
from rag.papers import Paper
from rag.settings import Settings

CURRENT, GENERATIONS, TOKENS, OWNERS = "current", "generations", "tokens.int8", "tokens.sentence.int16"

SCHEMA_SQL = """
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


@dataclass(frozen=True, slots=True)
class Record:
    """A paper as indexed: its row, and the (start, end) spans of its passages and sentences."""

    row: int
    paper: Paper
    passages: tuple[tuple[int, int], ...]
    sentences: tuple[tuple[int, int], ...]
    first_sentence: int
    first_token: int
    tokens: int
    digest: str

    def passage_id(self, ordinal: int) -> str:
        """Id in Chroma of the passage `passages[ordinal]`."""
        return passage_id(self.paper.paper_id, ordinal)

    @property
    def passage_ids(self) -> list[str]:
        """Ids in Chroma of all passages."""
        return [self.passage_id(n) for n in range(len(self.passages))]


def passage_id(paper_id: str, ordinal: int) -> str:
    """Id in Chroma of a paper's n-th passage."""
    return f"{paper_id}#{ordinal}"


def generation(folder: Path) -> Path:
    """The generation in use of the index in `folder`.

    Raises IndexMissing if there is none yet, IndexDamaged if the folder holds something else.
    """
    try:
        name = (folder / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        require_index_folder(folder)
        raise IndexMissing(f"There is no index in {folder}.", "Run `rag index`.") from None
    except (OSError, UnicodeDecodeError) as error:
        require_index_folder(folder)
        raise IndexDamaged(f"Cannot read the index in {folder}: {error}.", "Check --index or RAG_INDEX_DIR.") from error
    path = folder / GENERATIONS / name
    if not name or not (path / NAME).is_file():
        raise IndexDamaged(f"The index in {folder} is incomplete.", REBUILD)
    return path


def require_index_folder(folder: Path) -> None:
    """Raises IndexDamaged if `folder` is a file, cannot be read, or is full of something else."""
    try:
        if folder.exists() and not folder.is_dir():
            raise IndexDamaged(f"{folder} is a file, not an index folder.", "Give a folder: --index or RAG_INDEX_DIR.")
        names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise IndexDamaged(f"Cannot read {folder}: {error.strerror}.", "Check --index or RAG_INDEX_DIR.") from error
    if names and not names & {CURRENT, GENERATIONS, "lock"}:
        raise IndexDamaged(f"{folder} holds other files and is no index.", "Choose an empty folder with --index.")


class Index:
    """An open index generation. Reading only; safe to keep open while a new generation is built."""

    def __init__(self, folder: Path, passport: Passport) -> None:
        self.folder, self.passport = folder, passport
        try:
            self._papers = sqlite3.connect(
                f"{(folder / 'papers.sqlite').as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self.lexical = Lexical(folder / "lexical", passport.papers)
            self._sentences = np.load(folder / "sentences.npy", mmap_mode="r")
            self.projection: Vectors = np.load(folder / "projection.npy")
            self._tokens = np.memmap(folder / TOKENS, dtype=np.int8, mode="r").reshape(-1, self.projection.shape[1])
            self._owners = np.memmap(folder / OWNERS, dtype=np.int16, mode="r")
        except (OSError, EOFError, ValueError, sqlite3.Error) as error:
            raise IndexDamaged(f"The index cannot be read: {error}.", REBUILD) from error
        if self._sentences.shape != (passport.sentences, passport.dimension):
            raise IndexDamaged("sentences.npy has another shape than the passport says.", REBUILD)
        if len(self._owners) != len(self._tokens):
            raise IndexDamaged(f"{TOKENS} and {OWNERS} do not belong together.", REBUILD)

    @classmethod
    def open(cls, settings: Settings) -> Index:
        """The index the settings name.

        Raises IndexMissing, IndexDamaged, or IndexUnfit naming the field that differs.
        """
        folder = generation(settings.index_path)
        passport = Passport.read(folder)
        passport.require(settings)
        return cls(folder, passport)

    @cached_property
    def vectors(self) -> Reader:
        """The passages' vectors in Chroma."""
        return Reader(self.folder / "chroma", self.passport.dimension)

    def __len__(self) -> int:
        return self.passport.papers

    def records(self, rows: Sequence[int] | None = None) -> list[Record]:
        """Papers as indexed, by row number; all of them if `rows` is None."""
        if rows is None:
            return list(self._select(""))
        found = {
            record.row: record for at in range(0, len(rows), 500) for record in self._in("row", rows[at : at + 500])
        }
        return [found[row] for row in rows]

    def find(self, paper_ids: Sequence[str]) -> list[Record]:
        """Papers as indexed, by id; unknown ids are left out."""
        found = {
            record.paper.paper_id: record
            for at in range(0, len(paper_ids), 500)
            for record in self._in("paper_id", paper_ids[at : at + 500])
        }
        return [found[paper_id] for paper_id in paper_ids if paper_id in found]

    def papers(self) -> list[Paper]:
        """All papers, in the order of the corpus."""
        return [record.paper for record in self.records()]

    def sentence_vectors(self, record: Record) -> Vectors:
        """Unit vectors of the sentences of `record`, shape (len(record.sentences), dimension), float32."""
        first = record.first_sentence
        return np.asarray(self._sentences[first : first + len(record.sentences)], dtype=np.float32)

    def token_states(self, record: Record) -> Vectors:
        """States of a paper's word pieces, title first, projected to p dimensions: (record.tokens, p), unit rows.

        `project` brings other states into the same space.
        """
        raw = np.asarray(self.raw_token_states(record), dtype=np.float32)
        return np.asarray(raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1.0), dtype=np.float32)

    def project(self, states: Vectors) -> Vectors:
        """`states` (n, dimension) of the encoder in the space of `token_states`: (n, p), unit rows."""
        projected = states @ self.projection
        norms = np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        return np.asarray(projected / norms, dtype=np.float32)

    def token_sentences(self, record: Record) -> NDArray[np.int64]:
        """Which sentence of the abstract each row of `token_states` belongs to, -1 for the title: (record.tokens,)."""
        return np.asarray(self._owners[record.first_token : record.first_token + record.tokens], dtype=np.int64)

    def raw_token_states(self, record: Record) -> NDArray[np.int8]:
        """The same as stored: int8 rows, each scaled to its largest value."""
        return self._tokens[record.first_token : record.first_token + record.tokens]

    def _in(self, column: str, values: Sequence[object]) -> Iterator[Record]:
        return self._select(f"WHERE {column} IN ({','.join('?' * len(values))})", values)

    def _select(self, where: str, values: Sequence[object] = ()) -> Iterator[Record]:
        try:
            for row in self._papers.execute(f"SELECT {_COLUMNS} FROM papers {where} ORDER BY row", tuple(values)):
                yield _record(row)
        except sqlite3.Error as error:
            raise IndexDamaged(f"papers.sqlite cannot be read: {error}.", REBUILD) from error


def _record(row: tuple[object, ...]) -> Record:
    number, paper_id, title, abstract, sources, date, authors, votes, digest, passages, sentences, *places = row
    paper = Paper(
        str(paper_id), str(title), str(abstract), tuple(json.loads(str(sources))),
        date, authors, votes,  # type: ignore[arg-type]  # typed by the table
    )  # fmt: skip
    spans = [tuple((a, b) for a, b in json.loads(str(text))) for text in (passages, sentences)]
    first_sentence, first_token, tokens = (int(str(place)) for place in places)
    return Record(int(str(number)), paper, spans[0], spans[1], first_sentence, first_token, tokens, str(digest))
