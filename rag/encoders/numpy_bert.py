"""Queries encoded without importing torch: a NumPy forward pass over the model's own weights.

The safetensors file is memory-mapped, so that a cold process pays milliseconds instead of the seconds that torch
takes to import. The pass covers BERT encoders with mean or CLS pooling (all-MiniLM-L6-v2 and its relatives).
Whether it reproduces a model is measured when an index is built (`rag.encoders.factory.is_equivalent`).
"""

from __future__ import annotations

import json
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from rag.encoders.protocols import TokenEmbeddings, Vectors, unit_rows
from rag.errors import EmbeddingModelError
from rag.text.terms import mask_latex


class NumpyBertEncoder:
    """NumPy forward pass of a BERT encoder (Devlin et al. 2019) on its mapped safetensors weights.

    Raises EmbeddingModelError if the folder holds no such model.
    """

    def __init__(self, folder: str, max_tokens: int) -> None:
        self.folder, self.max_tokens = Path(folder), max_tokens
        try:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            pooling = json.loads((self.folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
            modules = json.loads((self.folder / "modules.json").read_text(encoding="utf-8"))
            self.weights = _map_safetensors(self.folder / "model.safetensors")
        except (OSError, ValueError) as error:
            raise EmbeddingModelError(f"{folder} holds no model the NumPy encoder can read: {error}") from error
        kinds = {str(m["type"]).rpartition(".")[2] for m in modules}
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu" or kinds - {
            "Transformer", "Pooling", "Normalize",
        }:  # fmt: skip
            raise EmbeddingModelError(f"{folder} is not a plain BERT sentence encoder.")
        self.mean_pooling = bool(pooling.get("pooling_mode_mean_tokens") or pooling.get("pooling_mode") == "mean")
        self.layers, self.heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))

    @cached_property
    def tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()  # the file asks for 128 tokens, padded and truncated
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    def encode(self, text: str) -> Vectors:
        """The unit vector of `text`, shape (dimension,), float32."""
        return self._pooled(self._forward(self._tokenize(text).ids))

    def encode_tokens(self, text: str) -> TokenEmbeddings:
        """The last-layer embeddings of the tokens of `text`."""
        return self.encode_with_tokens(text)[1]

    def encode_with_tokens(self, text: str) -> tuple[Vectors, TokenEmbeddings]:
        """`encode` and `encode_tokens` of `text`, in one pass."""
        encoded = self._tokenize(text)
        states = self._forward(encoded.ids)
        rows = [i for i, special in enumerate(encoded.special_tokens_mask) if not special]
        offsets = [encoded.offsets[i] for i in rows]
        return self._pooled(states), TokenEmbeddings(offsets=offsets, vectors=unit_rows(states[rows]))

    def is_vocabulary_word(self, word: str) -> bool:
        """Whether the folded `word` is a single token: a common word, so not a misspelling."""
        return self.tokenizer.token_to_id(word) is not None

    def _tokenize(self, text: str) -> Any:
        return self.tokenizer.encode(mask_latex(text))

    def _pooled(self, states: Vectors) -> Vectors:
        pooled = states.mean(axis=0) if self.mean_pooling else states[0]
        return np.asarray(pooled / max(float(np.linalg.norm(pooled)), 1e-12), dtype=np.float32)

    def _forward(self, ids: list[int]) -> Vectors:
        w = self._weight
        x = w("embeddings.word_embeddings.weight")[ids] + w("embeddings.position_embeddings.weight")[: len(ids)]
        x = self._norm(x + w("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
        for layer in range(self.layers):
            block = f"encoder.layer.{layer}"
            x = self._norm(x + self._attention(x, block), f"{block}.attention.output.LayerNorm")
            hidden = _gelu(self._linear(x, f"{block}.intermediate.dense"))
            x = self._norm(x + self._linear(hidden, f"{block}.output.dense"), f"{block}.output.LayerNorm")
        return x

    def _attention(self, x: Vectors, block: str) -> Vectors:
        def split(part: str) -> Vectors:  # (n, dimension) -> (heads, n, dimension / heads)
            return self._linear(x, f"{block}.attention.self.{part}").reshape(len(x), self.heads, -1).transpose(1, 0, 2)

        query, key, value = split("query"), split("key"), split("value")
        scores = (query / np.float32(sqrt(query.shape[-1]))) @ key.transpose(0, 2, 1)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = scores @ value / scores.sum(axis=-1, keepdims=True)
        return self._linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), f"{block}.attention.output.dense")

    def _linear(self, x: Vectors, name: str) -> Vectors:
        y = x @ self._weight(f"{name}.weight").T
        y += self._weight(f"{name}.bias")
        return np.asarray(y, dtype=np.float32)

    def _norm(self, x: Vectors, name: str) -> Vectors:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        return x * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")

    def _weight(self, name: str) -> Vectors:
        weight = self.weights.get(name)
        return weight if weight is not None else self.weights[f"bert.{name}"]


def _gelu(x: Vectors) -> Vectors:
    """x * Phi(x), Phi by formula 7.1.26 of Abramowitz & Stegun (error below 1.5e-7): NumPy has no erf."""
    z = np.abs(x)
    z *= np.float32(1 / sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):  # Horner's rule, in place
        tail += np.float32(coefficient)
        tail *= t
    z *= -z
    tail *= np.exp(z, out=z)
    erf = np.copysign(1 - tail, x)
    erf += 1
    erf *= x
    erf *= np.float32(0.5)
    return erf


def _map_safetensors(path: Path) -> dict[str, Vectors]:
    """Float32 tensors of a safetensors file as views of the mapped file (format: 8-byte header length,
    JSON header with dtype, shape and byte offsets, then the data)."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    length = int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8 : 8 + length]))
    header.pop("__metadata__", None)
    tensors: dict[str, Vectors] = {}
    for name, tensor in header.items():
        if tensor["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in tensor["data_offsets"])
            tensors[name] = data[begin:end].view("<f4").reshape(tensor["shape"])
    return tensors
