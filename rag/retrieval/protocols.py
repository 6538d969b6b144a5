"""The interfaces of retrievers and rerankers. Implement one to replace a default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rag.types import Hit, Paper, SearchResult, Span

if TYPE_CHECKING:
    from rag.encoders.protocols import Vectors
    from rag.index.papers_db import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceHit:
    """One sentence of a hit's abstract, with the features that choose sentences for an answer.

    `late_interaction` is MaxSim with the query's tokens; `coverage` in [0, 1] is the IDF-weighted share of the
    query's terms, those of the title left out, that the sentence holds; `position` in [0, 1] is 0 for the first
    sentence and 1 for the last; `vector` (dimension,) has length 1.
    """

    hit: Hit
    span: Span
    late_interaction: float
    coverage: float
    position: float
    vector: Vectors = field(repr=False, compare=False)


class Reranker(Protocol):
    """Scores the best candidates of a search; higher is better."""

    def score(self, query: str, records: Sequence[Record]) -> Sequence[float]:
        """The relevance of each of `records` to `query`."""
        ...


class Retriever(Protocol):
    """Finds papers for a question."""

    def search(self, question: str, *, query: str | None = None, k: int | None = None) -> SearchResult:
        """The `k` best papers for `query` (the question itself by default), best first."""
        ...

    def sentences(self, search: SearchResult) -> list[SentenceHit]:
        """Every sentence of the hits' abstracts, in reading order."""
        ...

    def similar(self, paper: Paper, n: int = 5) -> list[tuple[Paper, float]]:
        """The `n` papers most similar to `paper`, with their cosines, best first."""
        ...
