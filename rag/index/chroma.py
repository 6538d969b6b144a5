"""The Chroma collection of passages: written through llama-index, read with as little as possible.

Writing uses llama-index's own `ChromaVectorStore`, so any llama-index program can open the collection
with `VectorStoreIndex.from_vector_store`. Reading goes through chromadb's Rust bindings, because the
public client costs 0.6 s of imports; they are private API, so they stand behind the two methods of
`Reader` alone, a contract test holds them to the public client's answers, and the public client takes
over whenever the bindings do not answer as expected.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag.encoder import Vectors
from rag.errors import REBUILD, IndexDamaged
from rag.papers import Paper

COLLECTION = "papers"
_TENANT, _DATABASE = "default_tenant", "default_database"
_TITLE = 200  # characters
# Exactness before speed (recall@10 of 100,000 vectors: 0.996 by default, 0.999 at 200), and no chance in it:
# Chroma lays vectors down at random levels, which shows as long as the search does not reach all of a small corpus.
_HNSW = {"hnsw": {"space": "cosine", "ef_search": 1000, "num_threads": 1}}


class Reader:
    """Cosines from the collection in `folder`. Raises IndexDamaged where Chroma cannot read it."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.dimension = dimension
        if not (folder / "chroma.sqlite3").is_file():
            raise IndexDamaged(f"{folder} holds no Chroma collection.", REBUILD)
        self._source: _Bindings | _Client
        if not all(os.access(path, os.W_OK) for path in (folder, folder / "chroma.sqlite3")):
            # Chroma writes to what it reads; a read-only index is read from a copy.
            self._copy = tempfile.TemporaryDirectory(prefix="rag-", ignore_cleanup_errors=True)
            folder = _copied(folder, Path(self._copy.name))
        try:
            self._source = _Bindings(folder)
        except Exception:  # private API: whatever it raises, the public client decides
            self._source = _public(folder)
        self._folder = folder
        # Opens every file now: damage shows, and the folder may be removed while this reader lives.
        self._ask("query", np.eye(1, dimension, dtype=np.float32)[0], 1)

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._source, method)(*arguments)
        except Exception as error:
            if isinstance(self._source, _Client):
                raise _damaged(error) from error
        self._source = _public(self._folder)
        return self._ask(method, *arguments)

    def nearest(self, vector: Vectors, n: int) -> dict[str, float]:
        """Passage id -> cosine of the `n` passages nearest to the unit `vector` (dimension,), best first."""
        ids, distances = self._ask("query", vector, n)
        return {passage: 1.0 - distance for passage, distance in zip(ids, distances, strict=True)}

    def cosines(self, vector: Vectors, ids: Sequence[str]) -> dict[str, float]:
        """Passage id -> exact cosine to the unit `vector`, for passages fetched by id."""
        if not ids:
            return {}
        found, vectors = self._ask("get", list(ids))
        if len(found) != len(ids):
            raise IndexDamaged(f"{len(ids) - len(found)} passages are missing from Chroma.", REBUILD)
        matrix = np.asarray(vectors, dtype=np.float32)
        norms = np.maximum(np.linalg.norm(matrix, axis=1), 1e-12)
        return dict(zip(found, (matrix @ vector / norms).tolist(), strict=True))


def _public(folder: Path) -> _Client:
    try:
        return _Client(folder)
    except Exception as error:
        raise _damaged(error) from error


def _copied(folder: Path, target: Path) -> Path:
    try:
        shutil.copytree(folder, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
        for path in (target, *target.rglob("*")):
            path.chmod(0o700)  # copytree carries a folder's mode over
    except (OSError, shutil.Error) as error:
        raise _damaged(error) from error
    return target


class _Bindings:
    """chromadb's Rust core without its Python package."""

    def __init__(self, folder: Path) -> None:
        import chromadb_rust_bindings as rust

        config = rust.SqliteDBConfig(
            hash_type=rust.MigrationHash.MD5,
            migration_mode=rust.MigrationMode.Validate,
            url=str(folder / "chroma.sqlite3"),
        )
        self._rust = rust.Bindings(
            allow_reset=False, sqlite_db_config=config, persist_path=str(folder), hnsw_cache_size=16
        )
        self._id = str(self._rust.get_collection(COLLECTION, _TENANT, _DATABASE).id)

    def query(self, vector: Vectors, n: int) -> tuple[list[str], list[float]]:
        found = self._rust.query(
            self._id, None, [vector.tolist()], n, None, None, ["distances"], _TENANT, _DATABASE
        )  # fmt: skip
        return found.ids[0], found.distances[0]

    def get(self, ids: list[str]) -> tuple[list[str], Any]:
        found = self._rust.get(self._id, ids, None, None, 0, None, ["embeddings"], _TENANT, _DATABASE)
        return found.ids, found.embeddings


class _Client:
    """The public client, read side."""

    def __init__(self, folder: Path) -> None:
        self._collection = client(folder).get_collection(COLLECTION, embedding_function=None)

    def query(self, vector: Vectors, n: int) -> tuple[list[str], list[float]]:
        found = self._collection.query(query_embeddings=[vector.tolist()], n_results=n, include=["distances"])
        return found["ids"][0], found["distances"][0]

    def get(self, ids: list[str]) -> tuple[list[str], Any]:
        found = self._collection.get(ids=ids, include=["embeddings"])
        return found["ids"], found["embeddings"]


class Writer:
    """Adds and deletes passages in the collection in `folder`, made if missing."""

    def __init__(self, folder: Path) -> None:
        from llama_index.vector_stores.chroma import ChromaVectorStore

        try:
            self._collection = client(folder).get_or_create_collection(
                COLLECTION, configuration=_HNSW, embedding_function=None
            )
        except Exception as error:  # chromadb raises its own, sqlite3's and the Rust core's
            raise _damaged(error) from error
        self._store = ChromaVectorStore(chroma_collection=self._collection)

    def add(
        self, paper: Sequence[Paper], spans: Sequence[tuple[str, int, int]], texts: Sequence[str], vectors: Vectors
    ) -> None:
        """Add passages: row i is `spans[i]` = (passage id, start, end) of `paper[i]`: `texts[i]`, `vectors[i]`."""
        from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

        nodes = [
            TextNode(
                id_=passage_id,
                text=text,
                metadata={"paper_id": p.paper_id, "title": p.title, "start": start, "end": end, "date": p.date or ""},
                excluded_embed_metadata_keys=["paper_id", "title", "start", "end", "date"],
                excluded_llm_metadata_keys=["paper_id", "start", "end"],
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=p.paper_id)},
                embedding=vector.tolist(),
            )
            for p, (passage_id, start, end), text, vector in zip(paper, spans, texts, vectors, strict=True)
        ]
        if nodes:
            self._store.add(nodes)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete passages by id."""
        try:
            for at in range(0, len(ids), 500):
                self._collection.delete(ids=list(ids[at : at + 500]))
        except Exception as error:
            raise _damaged(error) from error

    def count(self) -> int:
        """Number of passages in the collection."""
        return int(self._collection.count())


def client(folder: Path) -> Any:
    """chromadb's public client on `folder`, without telemetry."""
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))


def passage_prefix(paper: Paper) -> str:
    """What stands before each passage of a paper: its title, or the beginning, lest it fill the encoder's window."""
    return f"{paper.title[:_TITLE]}\n" if paper.title else ""


def passage_text(paper: Paper, start: int, end: int) -> str:
    """What is embedded for a passage: the title, and the passage's part of the abstract."""
    return f"{passage_prefix(paper)}{paper.abstract[start:end]}".rstrip()


def _damaged(error: Exception) -> IndexDamaged:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return IndexDamaged(f"Chroma cannot read the index: {reason}.", REBUILD)
