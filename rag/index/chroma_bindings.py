"""chromadb's Rust core without its Python package, whose import takes 0.6 s.

The bindings are a private API of chromadb. `rag.index.chroma` therefore uses only `query` and `get` of this
class, a test compares both with the public client, and the public client replaces them if they fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rag.encoders.protocols import Vectors

TESTED = "1.5"  # the release series of chromadb that these calls were tested with
_TENANT, _DATABASE = "default_tenant", "default_database"


class UntestedVersionError(Exception):
    """The installed chromadb does not belong to the tested release series."""


class RustBindings:
    """Reads one collection. May raise anything: the caller then uses the public client."""

    def __init__(self, folder: Path, collection: str) -> None:
        import chromadb_rust_bindings as rust

        _require_tested(Path(rust.__file__).parents[1])
        config = rust.SqliteDBConfig(
            hash_type=rust.MigrationHash.MD5,
            migration_mode=rust.MigrationMode.Validate,
            url=str(folder / "chroma.sqlite3"),
        )
        self._rust = rust.Bindings(
            allow_reset=False, sqlite_db_config=config, persist_path=str(folder), hnsw_cache_size=16
        )
        self._id = str(self._rust.get_collection(collection, _TENANT, _DATABASE).id)

    def query(self, vector: Vectors, n: int) -> tuple[list[str], list[float]]:
        """Ids and cosine distances of the `n` passages nearest to `vector` (dimension,)."""
        result = self._rust.query(
            self._id, None, [vector.tolist()], n, None, None, ["distances"], _TENANT, _DATABASE
        )  # fmt: skip
        return result.ids[0], result.distances[0]

    def get(self, ids: list[str]) -> tuple[list[str], Any]:
        """The ids that exist, and their vectors."""
        result = self._rust.get(self._id, ids, None, None, 0, None, ["embeddings"], _TENANT, _DATABASE)
        return result.ids, result.embeddings


def _require_tested(site_packages: Path) -> None:
    """Raises UntestedVersionError. Looks at folder names, because importlib.metadata takes 30 ms to import."""
    if not any(site_packages.glob(f"chromadb-{TESTED}.*.dist-info")):
        raise UntestedVersionError(f"{site_packages} does not hold chromadb {TESTED}")
