"""Replacements for parts of the assistant: each wraps the part that it replaces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from rag.encoders.protocols import TokenEmbeddings, TokenEncoder, Vectors
from rag.retrieval.protocols import Retriever, SentenceHit
from rag.types import Hit, Paper, SearchResult

_CACHED_TEXTS = 1024


class CachingEncoder:
    """Encodes each text once: a question is searched for several times, with other settings and without a paper."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self._encoder = encoder
        cached = lru_cache(maxsize=_CACHED_TEXTS)
        self._encode = cached(encoder.encode)
        self._encode_tokens = cached(encoder.encode_tokens)
        self._encode_with_tokens = cached(encoder.encode_with_tokens)

    def encode(self, text: str) -> Vectors:
        """See `TokenEncoder.encode`."""
        return self._encode(text)

    def encode_tokens(self, text: str) -> TokenEmbeddings:
        """See `TokenEncoder.encode_tokens`."""
        return self._encode_tokens(text)

    def encode_with_tokens(self, text: str) -> tuple[Vectors, TokenEmbeddings]:
        """See `TokenEncoder.encode_with_tokens`."""
        return self._encode_with_tokens(text)

    def is_vocabulary_word(self, word: str) -> bool:
        """See `TokenEncoder.is_vocabulary_word`."""
        return self._encoder.is_vocabulary_word(word)


class ExcludingRetriever:
    """Searches as `retriever` would if one paper were not in the corpus."""

    def __init__(self, retriever: Retriever, paper_id: str) -> None:
        self._retriever, self._paper_id = retriever, paper_id

    def search(self, question: str, *, query: str | None = None, k: int | None = None) -> SearchResult:
        """The `k` best other papers."""
        result = self._retriever.search(question, query=query, k=k)
        hits = self._others(result)
        if len(hits) < len(result.hits):  # one more takes the place of the paper
            result = self._retriever.search(question, query=query, k=len(result.hits) + 1)
            hits = self._others(result)
        return replace(result, hits=_ranked(hits))

    def sentences(self, search: SearchResult) -> list[SentenceHit]:
        """See `Retriever.sentences`."""
        return self._retriever.sentences(search)

    def similar(self, paper: Paper, n: int = 5) -> list[tuple[Paper, float]]:
        """See `Retriever.similar`."""
        return [pair for pair in self._retriever.similar(paper, n + 1) if pair[0].paper_id != self._paper_id][:n]

    def _others(self, result: SearchResult) -> list[Hit]:
        return [hit for hit in result.hits if hit.paper.paper_id != self._paper_id]


class WorstFirstRetriever:
    """Returns the worst of the `depth` best papers first, to simulate broken retrieval."""

    def __init__(self, retriever: Retriever, depth: int = 100) -> None:
        self._retriever, self._depth = retriever, depth

    def search(self, question: str, *, query: str | None = None, k: int | None = None) -> SearchResult:
        """The `k` worst of the best papers, the worst first."""
        count = k or len(self._retriever.search(question, query=query).hits)
        result = self._retriever.search(question, query=query, k=self._depth)
        return replace(result, hits=_ranked(reversed(result.hits[-count:])))

    def sentences(self, search: SearchResult) -> list[SentenceHit]:
        """See `Retriever.sentences`."""
        return self._retriever.sentences(search)

    def similar(self, paper: Paper, n: int = 5) -> list[tuple[Paper, float]]:
        """See `Retriever.similar`."""
        return self._retriever.similar(paper, n)


def _ranked(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    return tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1))
