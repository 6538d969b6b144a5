"""Encoders on sentence-transformers: documents with any model, queries with a model that NumPy does not cover."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag.encoders.protocols import TokenEmbeddings, Vectors, unit_rows
from rag.encoders.weights import DEFAULT_MODEL, locate
from rag.errors import EmbeddingModelError
from rag.text.terms import mask_latex

_BATCH = 16


class SentenceTransformerEncoder:
    """Encodes documents on the device that sentence-transformers chooses.

    Raises EmbeddingModelError if `model` cannot be loaded.
    """

    def __init__(self, model: str, max_tokens: int) -> None:
        self.model: Any = _load(model)
        positions = getattr(getattr(self.model[0], "auto_model", None), "config", None)
        longest = int(getattr(positions, "max_position_embeddings", max_tokens) or max_tokens)
        # The stock limit (256 for the default model) cuts off text that the position embeddings cover.
        self.max_tokens = min(max_tokens, longest)
        self.model.max_seq_length = self.max_tokens
        self.dimension = int(self.model.get_embedding_dimension())

    def token_count(self, text: str) -> int:
        """Number of tokens of `text`, without special tokens."""
        return len(self.model.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimension), float32."""
        return self._encode(self.model.encode_document, texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """`encode_documents` with the model's prompt for queries, if it has one."""
        return self._encode(self.model.encode_query, texts)

    def encode_documents_with_tokens(self, texts: Sequence[str]) -> tuple[Vectors, list[TokenEmbeddings]]:
        """`encode_documents`, and the last-layer embeddings of each text's tokens."""
        masked = [mask_latex(text) for text in texts]
        outputs = self.model.encode_document(masked, batch_size=_BATCH, output_value=None, show_progress_bar=False)
        vectors = np.stack([unit_rows(o["sentence_embedding"].float().cpu().numpy()[None])[0] for o in outputs])
        encoded = self.model.tokenizer(
            masked, return_special_tokens_mask=True, return_offsets_mapping=True,
            truncation=True, max_length=self.max_tokens,
        )  # fmt: skip
        columns = zip(outputs, encoded["special_tokens_mask"], encoded["offset_mapping"], strict=True)
        return np.ascontiguousarray(vectors, dtype=np.float32), [_token_embeddings(*row) for row in columns]

    def describe(self) -> dict[str, str]:
        """The model's modules and pooling, and its prompts, for the manifest."""
        modules = "+".join(type(module).__name__ for module in self.model)
        pooling = next((str(m.pooling_mode) for m in self.model if type(m).__name__ == "Pooling"), "none")
        return {"pooling": f"{modules}:{pooling}", "prefix": json.dumps(self.model.prompts, sort_keys=True)}

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        masked = [mask_latex(text) for text in texts]
        vectors = encode(masked, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.ascontiguousarray(vectors, dtype=np.float32)


class SentenceTransformerQueryEncoder:
    """Encodes queries with sentence-transformers. Raises EmbeddingModelError if `model` cannot be loaded."""

    def __init__(self, model: str, max_tokens: int) -> None:
        self._documents = SentenceTransformerEncoder(model, max_tokens)

    def encode(self, text: str) -> Vectors:
        """The unit vector of `text`, shape (dimension,), float32."""
        return np.asarray(self._documents.encode_queries([text])[0], dtype=np.float32)

    def encode_tokens(self, text: str) -> TokenEmbeddings:
        """The token embeddings of `text`."""
        return self._documents.encode_documents_with_tokens([text])[1][0]

    def encode_with_tokens(self, text: str) -> tuple[Vectors, TokenEmbeddings]:
        """`encode` and `encode_tokens` of `text`."""
        return self.encode(text), self.encode_tokens(text)

    def is_vocabulary_word(self, word: str) -> bool:
        """Whether the folded `word` is a single token: a common word, so not a misspelling."""
        return len(self._documents.model.tokenizer.tokenize(word)) == 1


def _token_embeddings(output: Any, special_tokens_mask: Any, offsets: Any) -> TokenEmbeddings:
    rows = np.flatnonzero(np.asarray(special_tokens_mask) == 0)
    prompt = int(output["attention_mask"].sum()) - len(special_tokens_mask)  # the model's prompt comes first
    vectors = output["token_embeddings"].float().cpu().numpy()[rows + max(prompt, 0)]
    return TokenEmbeddings(offsets=[(int(offsets[i][0]), int(offsets[i][1])) for i in rows], vectors=unit_rows(vectors))


def _load(model: str) -> Any:
    folder = locate(model)
    if Path(folder).is_dir():  # read on import: without it every load asks the hub first
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # By default, waiting threads spin, which makes encoding eight times slower if another process is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import logging

    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        return SentenceTransformer(folder, local_files_only=Path(folder).is_dir())
    except Exception as error:  # the library raises many types for a bad name, path or network
        reason = str(error).splitlines()[0][:200]
        raise EmbeddingModelError(
            f"Cannot load the embedding model {model!r}: {reason}",
            f"Give a sentence-transformers name or folder as embedding_model, or use {DEFAULT_MODEL}.",
        ) from error
