"""BM25 over stems and stem bigrams: built by bm25s, saved as plain arrays, memory-mapped when read.

bm25s computes the score of every term in every document when the index is built (eager scoring, Lù 2024), in
compressed sparse columns. A query then only adds up columns, so reading needs only the arrays, not the library,
which takes 0.2 s to import. Terms are found by a 64-bit hash in a sorted array: nothing is parsed at start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from hashlib import blake2b
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.index.folder import corrupt
from rag.text.terms import bigrams, terms, words
from rag.types import Paper

FOLDER = "bm25"
_WORDS = "words.txt"
_PARTS = ("data", "rows", "starts", "hashes")


class _Postings:
    """One BM25 matrix on disk: rows are papers, columns are terms."""

    def __init__(self, folder: Path, name: str) -> None:
        self._data, self._rows, self._starts, self._hashes = (_map(folder / f"{name}.{part}.npy") for part in _PARTS)
        if len(self._starts) != len(self._hashes) + 1 or len(self._rows) != len(self._data):
            raise corrupt(folder / f"{name}.starts.npy", "its length does not match the other arrays")

    def column(self, term: str) -> slice:
        """Where the scores of `term` are in `_data` and `_rows`; empty if the corpus does not use it."""
        key = np.uint64(_hash(term))
        position = int(np.searchsorted(self._hashes, key))
        if position == len(self._hashes) or self._hashes[position] != key:
            return slice(0, 0)
        return slice(int(self._starts[position]), int(self._starts[position + 1]))

    def add_scores(self, query: Sequence[str], scores: NDArray[np.float32], weight: float) -> None:
        """Add the weighted scores of all `query` terms, repeats counted, to `scores` (papers,)."""
        for term, count in Counter(query).items():
            column = self.column(term)
            scores[self._rows[column]] += np.float32(weight * count) * self._data[column]


class BM25Index:
    """The read side: BM25 scores, inverse document frequencies and the words of the corpus.

    Raises IndexCorruptError if its files cannot be read.
    """

    def __init__(self, folder: Path, papers: int) -> None:
        self.papers = papers
        self.idf = lru_cache(maxsize=1 << 16)(self._idf)
        self._stems, self._bigrams = _Postings(folder, "stems"), _Postings(folder, "pairs")
        try:  # read now, because the folder may be removed while it is open
            self._words = (folder / _WORDS).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise corrupt(folder / _WORDS, error) from error

    def scores(self, query: str, bigram_weight: float) -> NDArray[np.float32]:
        """Exact BM25 of every paper for `query`, shape (papers,), float32."""
        scores = np.zeros(self.papers, dtype=np.float32)
        stems = terms(query)
        self._stems.add_scores(stems, scores, 1.0)
        if bigram_weight:
            self._bigrams.add_scores(bigrams(stems), scores, bigram_weight)
        return scores

    def document_frequency(self, stem: str) -> int:
        """Number of papers that use `stem`."""
        column = self._stems.column(stem)
        return int(column.stop - column.start)

    def _idf(self, stem: str) -> float:
        """Inverse document frequency in Lucene's form, ln(1 + (N - n + 0.5) / (n + 0.5))."""
        n = self.document_frequency(stem)
        return log(1 + (self.papers - n + 0.5) / (n + 0.5))

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every word of ASCII letters in the corpus, with the number of papers that use it."""
        lines = (line.partition(" ") for line in self._words.splitlines())
        return {word: int(count) for word, _, count in lines if count.isdecimal()}


def write_bm25(folder: Path, papers: Sequence[Paper], *, k1: float, b: float, title_repeat: int) -> None:
    """Write the BM25 arrays and the words of `papers`, whose order gives the row numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    paper_counts: Counter[str] = Counter()
    stems: list[list[str]] = []
    pairs: list[list[str]] = []
    for paper in papers:
        title, abstract = terms(paper.title), terms(paper.abstract)
        stems.append(title * title_repeat + abstract)
        pairs.append(bigrams(title) * title_repeat + bigrams(abstract))
        paper_counts.update({w for w in words(f"{paper.title} {paper.abstract}") if w.isascii() and w.isalpha()})
    _write_postings(folder, "stems", stems, k1, b)
    _write_postings(folder, "pairs", pairs, k1, b)
    lines = (f"{word} {paper_counts[word]}" for word in sorted(paper_counts))
    (folder / _WORDS).write_text("\n".join(lines), encoding="utf-8")


def _write_postings(folder: Path, name: str, documents: list[list[str]], k1: float, b: float) -> None:
    data, rows, starts, vocabulary = _scored(documents, k1, b)
    hashes = np.fromiter((_hash(term) for term in vocabulary), dtype=np.uint64, count=len(vocabulary))
    columns = np.fromiter(vocabulary.values(), dtype=np.int64, count=len(vocabulary))
    order = np.argsort(hashes, kind="stable")
    # The columns are written in the order of their hashes, so that the position of a hash is its column number.
    lengths = (starts[1:] - starts[:-1])[columns[order]]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    take = np.repeat(starts[:-1][columns[order]] - offsets[:-1], lengths) + np.arange(offsets[-1])
    arrays = (data[take], rows[take], offsets, hashes[order])
    for part, array in zip(_PARTS, arrays, strict=True):
        np.save(folder / f"{name}.{part}.npy", array)


def _scored(
    documents: list[list[str]], k1: float, b: float
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64], dict[str, int]]:
    """bm25s's scores as (data, rows, starts) of compressed sparse columns, and the column of each term."""
    if not any(documents):  # a corpus without a single term, which bm25s refuses
        return np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64), {}
    import bm25s

    model: Any = bm25s.BM25(k1=k1, b=b, method="lucene")
    model.index(documents, show_progress=False)
    scores, vocabulary = model.scores, {term: column for term, column in model.vocab_dict.items() if term}
    # Neither attribute is documented, so another release may change them.
    assert {"data", "indices", "indptr"} <= scores.keys(), "bm25s no longer keeps its scores as sparse columns"
    assert max(vocabulary.values()) < len(scores["indptr"]) - 1, "bm25s no longer numbers its columns by vocab_dict"
    return (
        np.asarray(scores["data"], dtype=np.float32),
        np.asarray(scores["indices"], dtype=np.int32),
        np.asarray(scores["indptr"], dtype=np.int64),
        vocabulary,
    )


def _map(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise corrupt(path, error) from error
    return array


def _hash(term: str) -> int:
    return int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "little")
