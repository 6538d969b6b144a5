"""Late interaction: how well the tokens of a text match those of a query or a claim.

Each content token of the query is matched with its most similar token of the text (MaxSim: Khattab & Zaharia 2020,
ColBERT), here with the untrained token embeddings of the sentence encoder and weighted by inverse document
frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rag.text.terms import content_words

if TYPE_CHECKING:
    from rag.encoders.protocols import Offsets, TokenEmbeddings, Vectors
    from rag.index.papers_db import Record
    from rag.index.store import Index

Idf = Callable[[str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTokens:
    """The m content tokens of a query or claim: `vectors` (m, d), unit rows; `weights` (m,), IDF, sum 1."""

    vectors: Vectors
    weights: Vectors


def normalized(weights: Sequence[float]) -> Vectors:
    """`weights` scaled to sum 1; all zeros stay zeros."""
    array = np.asarray(weights, dtype=np.float32)
    return array / array.sum() if array.sum() > 0 else array


def content_tokens(words: Sequence[tuple[int, int, str]], offsets: Offsets, vectors: Vectors, idf: Idf) -> QueryTokens:
    """The tokens of the content `words` (start, end, stem) of a text with tokens at `offsets`, `vectors` (n, d)."""
    rows: list[int] = []
    weights: list[float] = []
    at = 0
    for row, (start, end) in enumerate(offsets):
        while at < len(words) and words[at][1] <= start:
            at += 1
        if at < len(words) and words[at][0] < end:
            rows.append(row)
            weights.append(idf(words[at][2]))
    return QueryTokens(vectors=vectors[rows], weights=normalized(weights))


def max_similarities(tokens: QueryTokens, vectors: Vectors) -> Vectors:
    """For each of the m tokens, the highest cosine to any row of `vectors` (n, d); shape (m,)."""
    if not len(vectors) or not len(tokens.vectors):
        return np.zeros(len(tokens.vectors), dtype=np.float32)
    return np.asarray((tokens.vectors @ vectors.T).max(axis=1), dtype=np.float32)


def maxsim(tokens: QueryTokens, vectors: Vectors) -> float:
    """The weighted mean of `max_similarities`, in [-1, 1]; 0 without a content token."""
    return float(max_similarities(tokens, vectors) @ tokens.weights)


class LateInteractionReranker:
    """Reranks by MaxSim between the query and the token embeddings that the index stores."""

    def __init__(self, index: Index, encode_tokens: Callable[[str], TokenEmbeddings]) -> None:
        self._index, self._encode_tokens = index, encode_tokens
        self.query_tokens = lru_cache(maxsize=16)(self._query_tokens)

    def score(self, query: str, records: Sequence[Record]) -> list[float]:
        """The MaxSim of each of `records` with `query`."""
        tokens = self.query_tokens(query)
        return [maxsim(tokens, self._index.token_embeddings(record)) for record in records]

    def _query_tokens(self, query: str) -> QueryTokens:
        tokens = self._encode_tokens(query)
        vectors = self._index.project(tokens.vectors)
        return content_tokens(content_words(query), tokens.offsets, vectors, self._index.bm25.idf)
