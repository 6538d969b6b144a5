"""The default encoders of documents and queries. Register a new kind of encoder here."""

from __future__ import annotations

from collections.abc import Iterable

from rag.encoders.numpy_bert import NumpyBertEncoder
from rag.encoders.protocols import TokenEncoder
from rag.encoders.sentence_transformer import SentenceTransformerEncoder, SentenceTransformerQueryEncoder
from rag.encoders.weights import locate
from rag.errors import EmbeddingModelError

_MIN_COSINE = 0.9999  # between the vectors of two encoders that count as equivalent


def document_encoder(model: str, max_tokens: int) -> SentenceTransformerEncoder:
    """The encoder of documents. Raises EmbeddingModelError if the model cannot be loaded."""
    return SentenceTransformerEncoder(model, max_tokens)


def query_encoder(model: str, max_tokens: int, numpy: bool) -> TokenEncoder:
    """The encoder of queries: the NumPy pass if `numpy`, else sentence-transformers.

    Raises EmbeddingModelError if the model cannot be loaded.
    """
    return NumpyBertEncoder(locate(model), max_tokens) if numpy else SentenceTransformerQueryEncoder(model, max_tokens)


def is_equivalent(documents: SentenceTransformerEncoder, model: str, texts: Iterable[str]) -> bool:
    """Whether the NumPy pass reproduces the query vectors of `model`: every cosine above 0.9999."""
    try:
        fast = NumpyBertEncoder(locate(model), documents.max_tokens)
        sample = list(texts)
        exact = documents.encode_queries(sample)
        return all(float(fast.encode(text) @ vector) > _MIN_COSINE for text, vector in zip(sample, exact, strict=True))
    except (EmbeddingModelError, KeyError, OSError, ValueError):
        return False
