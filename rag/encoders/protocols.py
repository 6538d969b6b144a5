"""The interfaces of encoders. Implement them to replace the default encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEmbeddings:
    """Contextual embeddings of the n tokens of one text, special tokens left out.

    `vectors` (n, dimension) has unit rows; `offsets` are the (start, end) of each token in characters.
    """

    offsets: Offsets
    vectors: Vectors


class Encoder(Protocol):
    """Encodes queries."""

    def encode(self, text: str) -> Vectors:
        """The unit vector of `text`, shape (dimension,), float32."""
        ...


class TokenEncoder(Encoder, Protocol):
    """Encodes queries, and embeds each of their tokens."""

    def encode_tokens(self, text: str) -> TokenEmbeddings:
        """The token embeddings of `text`."""
        ...

    def encode_with_tokens(self, text: str) -> tuple[Vectors, TokenEmbeddings]:
        """`encode` and `encode_tokens` of `text` in one pass."""
        ...

    def is_vocabulary_word(self, word: str) -> bool:
        """Whether the folded `word` is a single token: a common word, so not a misspelling."""
        ...


class DocumentEncoder(Protocol):
    """Encodes passages and sentences when an index is built."""

    max_tokens: int
    dimension: int

    def token_count(self, text: str) -> int:
        """Number of tokens of `text`, without special tokens."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimension), float32."""
        ...

    def encode_documents_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[TokenEmbeddings]]:
        """`encode_documents`, and the token embeddings of each text."""
        ...

    def describe(self) -> dict[str, str]:
        """How vectors are made, for the manifest: `pooling` and `prefix`."""
        ...


def unit_rows(x: Vectors) -> Vectors:
    """`x` (n, d) with every row scaled to length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), dtype=np.float32)
