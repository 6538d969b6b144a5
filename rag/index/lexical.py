"""BM25 over stems and stem pairs: built by bm25s, saved as plain arrays, mapped when read.

bm25s computes every term's score in every document when the index is built (eager scoring, Lù 2024), in
compressed sparse columns. A query then only adds up columns, so reading needs the arrays and nothing of
the library's import time. Terms are found by a 64-bit hash in a sorted array: nothing is parsed at start.
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

from rag.papers import Paper
from rag.text import bigrams, terms, words

SHORTEST_CORRECTED = 5  # letters; shorter words have too many neighbours at distance 1


class _Columns:
    """One BM25 matrix on disk: rows are papers, columns are terms."""

    def __init__(self, folder: Path, name: str) -> None:
        self.data, self.rows, self.starts, self.hashes = (
            np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("data", "rows", "starts", "hashes")
        )

    def column(self, term: str) -> slice:
        """Where the scores of `term` lie in `data` and `rows`; empty if the corpus never uses it."""
        key = np.uint64(_hash(term))
        at = int(np.searchsorted(self.hashes, key))
        if at == len(self.hashes) or self.hashes[at] != key:
            return slice(0, 0)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    def add(self, query: Sequence[str], out: NDArray[np.float32], weight: float) -> None:
        """Add the weighted scores of all `query` terms, repeats counted, to `out` (papers,)."""
        for term, count in Counter(query).items():
            where = self.column(term)
            out[self.rows[where]] += np.float32(weight * count) * self.data[where]


class Lexical:
    """The read side: BM25 scores, inverse document frequencies and the corpus's words."""

    def __init__(self, folder: Path, papers: int) -> None:
        self.papers = papers
        self.idf = lru_cache(maxsize=1 << 16)(self._idf)
        self.stems, self.pairs = _Columns(folder, "stems"), _Columns(folder, "pairs")
        self._words = (folder / "words.txt").read_text(encoding="utf-8")  # now: the folder may go while it is open

    def scores(self, query: str, bigram_weight: float) -> NDArray[np.float32]:
        """Exact BM25 of every paper for `query`, shape (papers,), float32."""
        out = np.zeros(self.papers, dtype=np.float32)
        stems = terms(query)
        self.stems.add(stems, out, 1.0)
        if bigram_weight:
            self.pairs.add(bigrams(stems), out, bigram_weight)
        return out

    def document_frequency(self, stem: str) -> int:
        """Number of papers that use `stem`."""
        where = self.stems.column(stem)
        return int(where.stop - where.start)

    def _idf(self, stem: str) -> float:
        """Inverse document frequency in Lucene's form, ln(1 + (N - n + 0.5) / (n + 0.5))."""
        n = self.document_frequency(stem)
        return log(1 + (self.papers - n + 0.5) / (n + 0.5))

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        """Every word of letters the corpus uses, with the number of papers that use it."""
        lines = (line.partition(" ") for line in self._words.splitlines())
        return {word: int(count) for word, _, count in lines if count.isdecimal()}

    def correct(self, word: str) -> str | None:
        """The corpus's most used word at edit distance 1 (optimal string alignment) from an unknown word.

        None if the corpus uses `word`, if it is too short or not letters only, or if nothing is near.
        """
        if len(word) < SHORTEST_CORRECTED or not (word.isascii() and word.isalpha()) or word in self._vocabulary:
            return None
        if any(self.document_frequency(stem) for stem in terms(word)):
            return None  # another form of a known word
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        extract: Any = process.extract  # its overloads do not know integer distances
        near: list[tuple[str, int, int]] = extract(
            word, list(self._vocabulary), scorer=OSA.distance, score_cutoff=1, limit=None
        )
        known = [candidate for candidate, _, _ in near if len(candidate) >= SHORTEST_CORRECTED - 1]
        return min(known, key=lambda w: (-self._vocabulary[w], w), default=None)


def build(folder: Path, papers: Sequence[Paper], k1: float, b: float, title_repeat: int) -> None:
    """Write the BM25 arrays and the word list of `papers`, whose order gives the row numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    stems: list[list[str]] = []
    pairs: list[list[str]] = []
    for paper in papers:
        title, abstract = terms(paper.title), terms(paper.abstract)
        stems.append(title * title_repeat + abstract)
        pairs.append(bigrams(title) * title_repeat + bigrams(abstract))
        seen.update({w for w in words(f"{paper.title} {paper.abstract}") if w.isascii() and w.isalpha()})
    _save(folder, "stems", stems, k1, b)
    _save(folder, "pairs", pairs, k1, b)
    (folder / "words.txt").write_text("\n".join(f"{w} {seen[w]}" for w in sorted(seen)), encoding="utf-8")


def _save(folder: Path, name: str, documents: list[list[str]], k1: float, b: float) -> None:
    if any(documents):
        import bm25s

        model = bm25s.BM25(k1=k1, b=b, method="lucene")
        model.index(documents, show_progress=False)
        scores: dict[str, Any] = model.scores
        vocabulary: dict[str, int] = {t: c for t, c in model.vocab_dict.items() if t}
    else:  # a corpus without a single index term
        scores = {"data": np.zeros(0, np.float32), "indices": np.zeros(0, np.int32), "indptr": np.zeros(1, np.int64)}
        vocabulary = {}
    hashes = np.fromiter((_hash(term) for term in vocabulary), dtype=np.uint64, count=len(vocabulary))
    columns = np.fromiter(vocabulary.values(), dtype=np.int64, count=len(vocabulary))
    order = np.argsort(hashes, kind="stable")
    starts = np.asarray(scores["indptr"], dtype=np.int64)
    # The columns are laid down again in the order of their hashes, so that neighbours need no second table.
    lengths = (starts[1:] - starts[:-1])[columns[order]]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    take = np.repeat(starts[:-1][columns[order]] - offsets[:-1], lengths) + np.arange(offsets[-1])
    for part, array in {
        "data": np.asarray(scores["data"], dtype=np.float32)[take],
        "rows": np.asarray(scores["indices"], dtype=np.int32)[take],
        "starts": offsets,
        "hashes": hashes[order],
    }.items():
        np.save(folder / f"{name}.{part}.npy", array)


def _hash(term: str) -> int:
    return int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "little")
