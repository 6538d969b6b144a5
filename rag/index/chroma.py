"""The Chroma collection of passages: written through llama-index, read with few imports.

Writing uses llama-index's own `ChromaVectorStore`, so that any llama-index program can open the collection with
`VectorStoreIndex.from_vector_store`. Reading uses `rag.index.chroma_bindings` for speed, and the public client if
these do not work. Another vector store implements `VectorStore`.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rag.encoders.protocols import Vectors
from rag.index.chroma_bindings import RustBindings, UntestedVersionError
from rag.index.folder import corrupt
from rag.index.passages import Bounds, passage_id, passage_text
from rag.types import Paper

FOLDER = "chroma"
COLLECTION = "papers"
_DATABASE = "chroma.sqlite3"
# Exact rather than fast: recall@10 of 100,000 vectors is 0.996 by default and 0.999 with ef_search 200. In a small
# corpus the search reaches every vector, so the random levels of HNSW do not change the result.
_HNSW = {"hnsw": {"space": "cosine", "ef_search": 1000, "num_threads": 1}}
_DELETE_BATCH = 500
_log = logging.getLogger(__name__)


class VectorStore(Protocol):
    """The vectors of all passages. Both methods raise IndexCorruptError if they cannot be read."""

    def nearest(self, vector: Vectors, n: int) -> dict[str, float]:
        """Passage id -> cosine of the `n` passages nearest to the unit `vector` (dimension,), best first."""
        ...

    def cosines(self, vector: Vectors, ids: Sequence[str]) -> dict[str, float]:
        """Passage id -> exact cosine to the unit `vector`, for the passages `ids`."""
        ...


class ChromaReader:
    """The vectors in the Chroma folder `folder` of one index version."""

    def __init__(self, folder: Path, dimension: int) -> None:
        if not (folder / _DATABASE).is_file():
            raise corrupt(folder / _DATABASE, "the file is missing")
        self._folder = self._source_folder = folder
        if not all(os.access(path, os.W_OK) for path in (folder, folder / _DATABASE)):
            # Chroma writes to the files that it reads, so rag reads a read-only index from a copy.
            self._copy = tempfile.TemporaryDirectory(prefix="rag-", ignore_cleanup_errors=True)
            self._source_folder = _copy(folder, Path(self._copy.name))
        self._source: RustBindings | PublicClient
        try:
            self._source = RustBindings(self._source_folder, COLLECTION)
        except Exception as error:  # a private API may raise anything
            self._use_public_client(error)
        # Open every file now: this detects corruption, and the folder may be removed while this reader is in use.
        self._call("query", np.eye(1, dimension, dtype=np.float32)[0], 1)

    def nearest(self, vector: Vectors, n: int) -> dict[str, float]:
        """Passage id -> cosine of the `n` passages nearest to the unit `vector` (dimension,), best first."""
        ids, distances = self._call("query", vector, n)
        return {passage: 1.0 - distance for passage, distance in zip(ids, distances, strict=True)}

    def cosines(self, vector: Vectors, ids: Sequence[str]) -> dict[str, float]:
        """Passage id -> exact cosine to the unit `vector`, for the passages `ids`."""
        if not ids:
            return {}
        stored, vectors = self._call("get", list(ids))
        if len(stored) != len(ids):
            raise corrupt(self._folder, f"{len(ids) - len(stored)} passages are missing")
        matrix = np.asarray(vectors, dtype=np.float32)
        norms = np.maximum(np.linalg.norm(matrix, axis=1), 1e-12)
        return dict(zip(stored, (matrix @ vector / norms).tolist(), strict=True))

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._source, method)(*arguments)
        except Exception as error:  # chromadb raises its own errors, sqlite3's and those of its Rust core
            if isinstance(self._source, PublicClient):
                raise corrupt(self._folder, error) from error
            self._use_public_client(error)
        return self._call(method, *arguments)

    def _use_public_client(self, cause: Exception) -> None:
        try:
            self._source = PublicClient(self._source_folder)
        except Exception as error:
            raise corrupt(self._folder, error) from error
        level = logging.DEBUG if isinstance(cause, UntestedVersionError) else logging.WARNING
        _log.log(level, "chromadb's public client replaces its Rust bindings: %r", cause)


class PublicClient:
    """`query` and `get` through chromadb's public client."""

    def __init__(self, folder: Path) -> None:
        self._collection = client(folder).get_collection(COLLECTION, embedding_function=None)

    def query(self, vector: Vectors, n: int) -> tuple[list[str], list[float]]:
        """Ids and cosine distances of the `n` passages nearest to `vector` (dimension,)."""
        result = self._collection.query(query_embeddings=[vector.tolist()], n_results=n, include=["distances"])
        return result["ids"][0], result["distances"][0]

    def get(self, ids: list[str]) -> tuple[list[str], Any]:
        """The ids that exist, and their vectors."""
        result = self._collection.get(ids=ids, include=["embeddings"])
        return result["ids"], result["embeddings"]


class ChromaWriter:
    """Adds and deletes passages in the collection in `folder`, which is created if it is missing.

    Raises IndexCorruptError if Chroma cannot use the folder.
    """

    def __init__(self, folder: Path) -> None:
        from llama_index.vector_stores.chroma import ChromaVectorStore

        self._folder = folder
        try:
            self._collection = client(folder).get_or_create_collection(
                COLLECTION, configuration=_HNSW, embedding_function=None
            )
        except Exception as error:  # chromadb raises its own errors, sqlite3's and those of its Rust core
            raise corrupt(folder, error) from error
        self._store = ChromaVectorStore(chroma_collection=self._collection)

    def add(self, passages: Sequence[tuple[Paper, int, Bounds]], vectors: Vectors) -> None:
        """Add passages: `passages[i]` is (paper, number of the passage, its span), its vector is `vectors[i]`."""
        from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

        nodes = [
            TextNode(
                id_=passage_id(paper.paper_id, ordinal),
                text=passage_text(paper, start, end),
                metadata=_metadata(paper, start, end),
                excluded_embed_metadata_keys=["paper_id", "title", "start", "end", "date"],
                excluded_llm_metadata_keys=["paper_id", "start", "end"],
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=paper.paper_id)},
                embedding=vector.tolist(),
            )
            for (paper, ordinal, (start, end)), vector in zip(passages, vectors, strict=True)
        ]
        if nodes:
            self._store.add(nodes)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete passages by id."""
        try:
            for start in range(0, len(ids), _DELETE_BATCH):
                self._collection.delete(ids=list(ids[start : start + _DELETE_BATCH]))
        except Exception as error:
            raise corrupt(self._folder, error) from error

    def require_count(self, passages: int) -> None:
        """Raises IndexCorruptError if the collection does not hold `passages` passages."""
        if (count := int(self._collection.count())) != passages:
            raise corrupt(self._folder, f"it holds {count} passages instead of {passages}")


def client(folder: Path) -> Any:
    """chromadb's public client on `folder`, without telemetry."""
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))


def _metadata(paper: Paper, start: int, end: int) -> dict[str, str | int]:
    return {"paper_id": paper.paper_id, "title": paper.title, "start": start, "end": end, "date": paper.date or ""}


def _copy(folder: Path, target: Path) -> Path:
    """Copy `folder` into `target`, writable. Raises IndexCorruptError."""
    try:
        shutil.copytree(folder, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
        for path in (target, *target.rglob("*")):
            path.chmod(0o700)  # copytree carries a folder's mode over
    except (OSError, shutil.Error) as error:
        raise corrupt(folder, error) from error
    return target
