"""The manifest of an index: how it was made, and whether that matches what the settings ask for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag.encoders.weights import locate, weights_hash, weights_stamp
from rag.errors import IndexMismatchError
from rag.index.folder import OLD_VERSIONS, corrupt, index_hint
from rag.settings import Settings

SCHEMA = 6  # raised whenever the files of an index change their meaning
MANIFEST = "manifest.json"
OLD_MANIFEST = "passport.json"  # its name up to schema 5
_COMPARED = ("embedding_model", "max_tokens", "bm25_k1", "bm25_b", "title_repeat")  # fields that are settings
_EMBEDDING = ("schema", "embedding_model", "weights", "dimension", "max_tokens", "pooling", "prefix", "chunking")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an index was made of, and how.

    `paths`: the files and folders that were indexed; empty for the corpus that ships with the program, None if they
    are not known.
    """

    schema: int
    embedding_model: str
    weights: str  # SHA-256
    weights_stamp: str  # size and modification time; if it is unchanged, the file need not be hashed at every start
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
    paths: list[str] | None
    papers: int
    passages: int
    sentences: int
    created: str  # ISO 8601, UTC
    versions: dict[str, str]  # of the packages it was built with

    @classmethod
    def read(cls, version: Path) -> Manifest:
        """The manifest of the index version in the folder `version`.

        Raises IndexCorruptError, or IndexMismatchError if another version of the program wrote it.
        """
        record = read_record(version)
        require_schema(record, version, SCHEMA)
        try:
            return cls(**record)
        except TypeError as error:
            raise corrupt(version / MANIFEST, error) from error

    def write(self, version: Path) -> None:
        """Write the manifest into the folder `version`; it replaces an older one atomically."""
        temporary = version / f"{MANIFEST}.new"
        temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        temporary.replace(version / MANIFEST)

    def incompatibilities(self, settings: Settings) -> list[tuple[str, Any, Any]]:
        """(field, in the index, in the settings) for every field that differs."""
        pairs = [(name, getattr(self, name), settings.value(name)) for name in _COMPARED]
        differing = [(name, indexed, wanted) for name, indexed, wanted in pairs if indexed != wanted]
        if not differing and self.weights_stamp != weights_stamp(self.embedding_model):
            weights = weights_hash(locate(self.embedding_model))
            if weights != self.weights:
                differing.append(("weights", self.weights[:12], weights[:12]))
        return differing

    def check(self, settings: Settings) -> None:
        """Raises IndexMismatchError, naming every field that differs and the command that rebuilds the index."""
        if differing := self.incompatibilities(settings):
            fields = "; ".join(
                f"{name} is {indexed} in the index and {wanted} now" for name, indexed, wanted in differing
            )
            raise IndexMismatchError(
                f"The index does not match the settings: {fields}.",
                "Run `rag index` with the same settings, or name another folder with --index.",
            )

    def embeds_like(self, other: Manifest) -> bool:
        """Whether the vectors of both are made in the same way."""
        return all(getattr(self, name) == getattr(other, name) for name in _EMBEDDING)


def read_record(version: Path) -> dict[str, Any]:
    """The manifest in the folder `version`, of any schema, as it was written. Raises IndexCorruptError."""
    names = (OLD_MANIFEST, MANIFEST) if version.parent.name == OLD_VERSIONS else (MANIFEST, OLD_MANIFEST)
    path = next((version / name for name in names if (version / name).exists()), version / names[0])
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or "schema" not in record:
            raise ValueError("it is not a manifest")
    except FileNotFoundError as error:
        raise corrupt(path, "the file is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise corrupt(path, error) from error
    return record


def require_schema(record: dict[str, Any], version: Path, schema: int) -> None:
    """Raises IndexMismatchError if the manifest `record` of the folder `version` has another schema."""
    if record["schema"] == schema:
        return
    raise IndexMismatchError(
        f"The index in {version.parents[1]} has schema {record['schema']} ({_writer(record)}); "
        f"this version of rag reads schema {SCHEMA}.",
        f"{index_hint(version.parents[1], '--rebuild')} It indexes the same papers again, from the index itself if "
        "their files are gone.",
    )


def _writer(record: dict[str, Any]) -> str:
    """Which version of the program wrote the manifest `record`, as text for a message."""
    versions, schema = record.get("versions"), record["schema"]
    if isinstance(versions, dict) and "rag" in versions:
        return f"written by rag {versions['rag']}"
    return (
        "written by a later version" if isinstance(schema, int) and schema > SCHEMA else "written by an earlier version"
    )
