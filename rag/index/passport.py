"""The index passport: how an index was made, and whether it fits what the settings ask for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag.encoder import locate, weights_hash
from rag.errors import REBUILD, IndexDamaged, IndexUnfit
from rag.settings import Settings

SCHEMA = 5  # raised whenever the files of an index change their meaning
NAME = "passport.json"


@dataclass(frozen=True, slots=True)
class Passport:
    """What an index was made of and how."""

    schema: int
    embedding_model: str
    weights: str  # SHA-256
    weights_stamp: str  # size and modification time: equal stamps spare hashing the file at every start
    dimension: int
    max_tokens: int
    pooling: str
    prefix: str
    numpy_queries: bool
    chunking: str
    bm25_k1: float
    bm25_b: float
    title_repeat: int
    corpus: str  # SHA-256 over the papers' digests
    paths: list[str]  # what was indexed; empty for the corpus that ships with the program
    papers: int
    passages: int
    sentences: int
    created: str  # ISO 8601, UTC
    versions: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Passport:
        """The passport of the index generation in `folder`. Raises IndexDamaged, or IndexUnfit by schema."""
        try:
            record: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
            schema = record["schema"]
            if schema != SCHEMA:
                raise IndexUnfit(
                    f"schema: the index has version {schema}, this program reads {SCHEMA}.", "Run `rag index`."
                )
            return cls(**record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexDamaged(f"The passport of the index cannot be read: {error}.", REBUILD) from error

    def write(self, folder: Path) -> None:
        """Write the passport into `folder`."""
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def misfits(self, settings: Settings) -> list[tuple[str, Any, Any]]:
        """(field, in the index, wanted) for every field that differs from what `settings` ask for."""
        wanted: dict[str, Any] = {
            "embedding_model": settings.embedding_model,
            "max_tokens": settings.max_tokens,
            "bm25_k1": settings.bm25_k1,
            "bm25_b": settings.bm25_b,
            "title_repeat": settings.title_repeat,
        }
        found = [(name, getattr(self, name), value) for name, value in wanted.items() if getattr(self, name) != value]
        if not found and self.weights_stamp != weights_stamp(self.embedding_model):
            weights = weights_hash(locate(self.embedding_model))
            if weights != self.weights:
                found.append(("weights", self.weights[:12], weights[:12]))
        return found

    def embeds_as(self, other: Passport) -> bool:
        """Whether vectors made under `other` are the ones this index would make."""
        same = ("schema", "embedding_model", "weights", "dimension", "max_tokens", "pooling", "prefix", "chunking")
        return all(getattr(self, name) == getattr(other, name) for name in same)

    def require(self, settings: Settings) -> None:
        """Raises IndexUnfit, naming every field that differs and the command that mends it."""
        if misfits := self.misfits(settings):
            told = "; ".join(f"{name} is {have} in the index, {want} is asked for" for name, have, want in misfits)
            raise IndexUnfit(
                f"The index does not fit: {told}.",
                "Run `rag index` with the same settings, or name another folder with --index.",
            )


def weights_stamp(model: str) -> str:
    """Size and modification time of the model's weights file; empty for a model of the hub."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = Path(locate(model)) / name
        if path.is_file():
            status = path.stat()
            return f"{status.st_size}-{status.st_mtime_ns}"
    return ""
