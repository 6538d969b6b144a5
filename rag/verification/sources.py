"""Papers prepared for matching: from the token embeddings of the index, or encoded on the fly."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from rag.encoders.protocols import TokenEncoder, Vectors
from rag.index.passages import passage_prefix
from rag.index.store import Index
from rag.index.tokens import token_sentences
from rag.text.sentences import sentence_spans
from rag.types import Paper
from rag.verification.support import Source, make_source

_CACHED_SOURCES = 64

SourceReader = Callable[[Paper], Source]


class IndexedSources:
    """Sources of papers in the index, made from their stored token embeddings; cached by paper id."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._by_id = lru_cache(maxsize=_CACHED_SOURCES)(self._read)

    def __call__(self, paper: Paper) -> Source:
        """The source of `paper`: title and abstract."""
        return self._by_id(paper.paper_id)

    def _read(self, paper_id: str) -> Source:
        (record,) = self._index.find([paper_id])
        prefix = passage_prefix(record.paper)
        return make_source(
            f"{prefix}{record.paper.abstract}",
            self._index.token_sentences(record),
            self._index.token_embeddings(record),
            abstract_start=len(prefix),
            paper_id=paper_id,
        )


class EncodedSources:
    """Sources of papers that are not in an index: title and text, encoded in as many windows as needed; cached.

    The projection and the IDF are those of `index`.
    """

    def __init__(self, index: Index, encoder: TokenEncoder) -> None:
        self._index, self._encoder = index, encoder
        self._by_paper = lru_cache(maxsize=_CACHED_SOURCES)(self._encode)

    def __call__(self, paper: Paper) -> Source:
        """The source of `paper`: title and abstract."""
        return self._by_paper(paper)

    def _encode(self, paper: Paper) -> Source:
        text = f"{paper.title}\n{paper.abstract}"
        offsets: list[tuple[int, int]] = []
        windows: list[Vectors] = []
        position = 0
        while (window := self._encoder.encode_tokens(text[position:])).offsets and window.offsets[-1][1]:
            offsets += [(position + start, position + end) for start, end in window.offsets]
            windows.append(window.vectors)
            position = offsets[-1][1]
        abstract_start = len(paper.title) + 1
        starts = [abstract_start + start for start, _ in sentence_spans(paper.abstract)]
        return make_source(
            text,
            token_sentences(offsets, starts),
            self._index.project(np.concatenate([*windows, window.vectors[:0]])),
            abstract_start=abstract_start,
            paper_id=paper.paper_id,
        )
