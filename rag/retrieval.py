"""`Hit` and `Search`; hybrid retrieval: dense and lexical lists, fused by score."""

from __future__ import annotations

from dataclasses import dataclass

from rag.papers import Paper


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of whole sentences of one abstract: `text == paper.abstract[start:end]`."""

    passage_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved paper. `score` in [0, 1] is fused; `dense` is a cosine, `lexical` a BM25 score."""

    rank: int
    paper: Paper
    score: float
    dense: float
    lexical: float
    passage: Passage


@dataclass(frozen=True, slots=True)
class Search:
    """What was asked, what was searched for (after spelling and history), and what was found."""

    question: str
    query: str
    corrections: tuple[tuple[str, str], ...]
    hits: tuple[Hit, ...]
