"""The NumPy query encoder against sentence-transformers, and the weights they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rag import encoder
from rag.encoder import DEFAULT_MODEL, DocumentEncoder, QueryEncoder, locate, reproduces, verify_weights, weights_hash
from rag.errors import ModelError
from rag.papers import Paper
from rag.text import sentence_spans

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
    documents: DocumentEncoder, queries: QueryEncoder, corpus: list[Paper]
) -> None:
    sentences = [p.abstract[a:b] for p in corpus[::60] for a, b in sentence_spans(p.abstract)[:2]]
    texts = [*QUESTIONS, *sentences, *(p.title for p in corpus[::60]), *(p.abstract * 3 for p in corpus[:2])]
    assert documents.token_count(texts[-1]) > 512
    exact = documents.encode(texts, query=True)
    cosines = [float(queries.encode(text) @ vector) for text, vector in zip(texts, exact, strict=True)]
    assert min(cosines) > 0.9999


def test_vectors_are_unit_float32_of_the_models_dimension(documents: DocumentEncoder, queries: QueryEncoder) -> None:
    one, many = queries.encode("forgetting"), documents.encode(["forgetting", "remembering"])
    assert one.shape == (384,) and many.shape == (2, 384) and one.dtype == many.dtype == np.float32
    np.testing.assert_allclose([np.linalg.norm(v) for v in (one, *many)], 1.0, atol=1e-5)


def test_text_beyond_the_stock_256_pieces_is_seen_by_both_encoders(
    documents: DocumentEncoder, queries: QueryEncoder
) -> None:
    start = "the quick brown fox jumps over the lazy dog " * 35
    texts = [start + "quantum chromodynamics " * 20, start + "sourdough bread baking " * 20]
    assert 300 < documents.token_count(texts[0]) < 510
    for one, other in (documents.encode(texts), [queries.encode(text) for text in texts]):
        assert float(one @ other) < 0.99


def test_a_limit_beyond_the_models_positions_is_lowered_to_them() -> None:
    assert DocumentEncoder(DEFAULT_MODEL, 100_000).max_tokens == 512


def test_token_states_point_into_the_text(queries: QueryEncoder) -> None:
    text = "It mitigates forgetting."
    states = queries.token_states(text)
    assert [text[a:b] for a, b in states.offsets][:2] == ["It", "mit"]
    assert states.states.shape == (len(states.offsets), 384)
    np.testing.assert_allclose(np.linalg.norm(states.states, axis=1), 1.0, atol=1e-5)


def test_parity_is_measured_and_not_assumed(documents: DocumentEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reproduces(documents, DEFAULT_MODEL, ["what mitigates forgetting?"])
    monkeypatch.setattr(encoder, "_gelu", lambda x: np.maximum(x, 0))
    assert not reproduces(documents, DEFAULT_MODEL, ["what mitigates forgetting?"])


def test_the_default_model_is_on_disk_with_the_published_weights() -> None:
    assert Path(locate(DEFAULT_MODEL)).is_dir()
    verify_weights(DEFAULT_MODEL)


def test_other_weights_than_the_published_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(encoder, "locate", lambda model: str(tmp_path))
    assert weights_hash(str(tmp_path)) != weights_hash(locate(DEFAULT_MODEL))
    with pytest.raises(ModelError, match="sha256"):
        verify_weights(DEFAULT_MODEL)


def test_a_folder_that_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        QueryEncoder(str(tmp_path), 512)
    with pytest.raises(ModelError, match="Cannot load"):
        DocumentEncoder(str(tmp_path), 512)
