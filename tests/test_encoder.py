"""The NumPy query encoder against sentence-transformers, and the weights they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rag.encoders import numpy_bert, weights
from rag.encoders.factory import is_equivalent
from rag.encoders.numpy_bert import NumpyBertEncoder
from rag.encoders.sentence_transformer import SentenceTransformerEncoder, SentenceTransformerQueryEncoder
from rag.encoders.weights import DEFAULT_MODEL, locate, verify_weights, weights_hash
from rag.errors import EmbeddingModelError
from rag.text.sentences import sentence_spans
from rag.types import Paper

QUESTIONS = [
    "what mitigates forgetting?",
    'How does T\\"ULU 3 verify rewards?',
    "By how much does RedOne reduce harmful content?",
    "日本語の質問",
    "ما الذي يخفف من النسيان؟",
    "🔥 🙂",
    "[CLS] [SEP] [MASK]",
    "",
    " ",
    "a",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 4,
    "word " * 900,
]


def test_numpy_vectors_are_those_of_sentence_transformers(
    documents: SentenceTransformerEncoder, queries: NumpyBertEncoder, corpus: list[Paper]
) -> None:
    sentences = [p.abstract[a:b] for p in corpus[::60] for a, b in sentence_spans(p.abstract)[:2]]
    texts = [*QUESTIONS, *sentences, *(p.title for p in corpus[::60]), *(p.abstract * 3 for p in corpus[:2])]
    assert documents.token_count(texts[-1]) > 512
    exact = documents.encode_queries(texts)
    cosines = [float(queries.encode(text) @ vector) for text, vector in zip(texts, exact, strict=True)]
    assert min(cosines) > 0.9999


def test_vectors_are_unit_float32_of_the_models_dimension(
    documents: SentenceTransformerEncoder, queries: NumpyBertEncoder
) -> None:
    one, many = queries.encode("forgetting"), documents.encode_documents(["forgetting", "remembering"])
    assert one.shape == (384,) and many.shape == (2, 384) and one.dtype == many.dtype == np.float32
    np.testing.assert_allclose([np.linalg.norm(v) for v in (one, *many)], 1.0, atol=1e-5)


def test_both_encoders_see_text_beyond_the_default_256_tokens(
    documents: SentenceTransformerEncoder, queries: NumpyBertEncoder
) -> None:
    start = "the quick brown fox jumps over the lazy dog " * 35
    texts = [start + "quantum chromodynamics " * 20, start + "sourdough bread baking " * 20]
    assert 300 < documents.token_count(texts[0]) < 510
    for one, other in (documents.encode_documents(texts), [queries.encode(text) for text in texts]):
        assert float(one @ other) < 0.99


@pytest.mark.slow
def test_a_token_limit_is_at_most_the_positions_of_the_model() -> None:
    assert SentenceTransformerEncoder(DEFAULT_MODEL, 100_000).max_tokens == 512


def test_token_embeddings_point_into_the_text(queries: NumpyBertEncoder) -> None:
    text = "It mitigates forgetting."
    tokens = queries.encode_tokens(text)
    assert [text[a:b] for a, b in tokens.offsets][:2] == ["It", "mit"]
    assert tokens.vectors.shape == (len(tokens.offsets), 384)
    np.testing.assert_allclose(np.linalg.norm(tokens.vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
def test_both_query_encoders_agree_on_tokens(queries: NumpyBertEncoder) -> None:
    other = SentenceTransformerQueryEncoder(DEFAULT_MODEL, 512)
    (vector, tokens), (exact, exact_tokens) = (e.encode_with_tokens(QUESTIONS[1]) for e in (queries, other))
    assert list(tokens.offsets) == list(exact_tokens.offsets)
    np.testing.assert_allclose(tokens.vectors, exact_tokens.vectors, atol=1e-3)
    np.testing.assert_allclose(vector, exact, atol=1e-3)
    assert [e.is_vocabulary_word("phone") for e in (queries, other)] == [True, True]
    assert [e.is_vocabulary_word("catastrophik") for e in (queries, other)] == [False, False]


def test_the_equivalence_of_the_encoders_is_measured(
    documents: SentenceTransformerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_equivalent(documents, DEFAULT_MODEL, ["what mitigates forgetting?"])
    monkeypatch.setattr(numpy_bert, "_gelu", lambda x: np.maximum(x, 0))
    assert not is_equivalent(documents, DEFAULT_MODEL, ["what mitigates forgetting?"])


def test_the_default_model_is_on_disk_with_the_published_weights() -> None:
    assert Path(locate(DEFAULT_MODEL)).is_dir()
    verify_weights(DEFAULT_MODEL)


def test_weights_other_than_the_published_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(weights, "locate", lambda model: str(tmp_path))
    assert weights_hash(str(tmp_path)) != weights_hash(locate(DEFAULT_MODEL))
    with pytest.raises(EmbeddingModelError, match="sha256"):
        verify_weights(DEFAULT_MODEL)


@pytest.mark.slow
def test_a_folder_without_a_model_is_an_embedding_model_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingModelError):
        NumpyBertEncoder(str(tmp_path), 512)
    with pytest.raises(EmbeddingModelError, match="Cannot load"):
        SentenceTransformerEncoder(str(tmp_path), 512)
