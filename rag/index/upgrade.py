"""The upgrade of an index of schema 5, which the previous version of the program wrote, without embedding anything.

Schema 6 has the same content under other names: generations/NAME -> versions/NAME, passport.json -> manifest.json,
lexical/ -> bm25/. The upgraded version is written beside the old one and swapped in, so the index stays usable
even if the process is killed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rag.errors import IndexMismatchError, IndexWriteError
from rag.index import bm25
from rag.index.folder import OLD_VERSIONS, corrupt, current_version, index_hint, new_version, write_lock
from rag.index.manifest import MANIFEST, OLD_MANIFEST, SCHEMA, Manifest, read_record, require_schema

_OLD_SCHEMA, _OLD_BM25 = 5, "lexical"
_LOCK_TIMEOUT = 60.0  # seconds; another process that upgrades the index is done by then


def current_or_upgraded_version(folder: Path) -> Path:
    """The folder of the version in use, upgraded first if it has schema 5.

    Raises IndexMissingError, IndexCorruptError, IndexLockedError, and IndexMismatchError for any other schema or if
    the index cannot be written.
    """
    version = current_version(folder)
    if not _is_old(version):
        return version
    try:
        with write_lock(folder, _LOCK_TIMEOUT):
            upgrade(folder)
    except IndexWriteError as error:
        require_schema(read_record(version), version, _OLD_SCHEMA)
        raise IndexMismatchError(
            f"The index in {folder} was written by an earlier version of rag and must be upgraded. {error.message}",
            f"{index_hint(folder)} Do it as a user who can write the folder, or copy the folder to a writable place "
            "and name the copy with --index.",
        ) from error
    return current_version(folder)


def upgrade(folder: Path) -> None:
    """Upgrade the index in `folder` if it has schema 5; the caller holds the write lock.

    Raises OSError if it cannot be written, else what `current_or_upgraded_version` raises.
    """
    old = current_version(folder)
    if not _is_old(old):
        return
    record = read_record(old)
    require_schema(record, old, _OLD_SCHEMA)
    try:
        manifest = Manifest(**record | {"schema": SCHEMA})
    except TypeError as error:
        raise corrupt(old / OLD_MANIFEST, error) from error
    with new_version(folder) as new:
        shutil.copytree(old, new, copy_function=_link_or_copy, dirs_exist_ok=True)
        (new / OLD_MANIFEST).unlink(missing_ok=True)
        (new / MANIFEST).unlink(missing_ok=True)
        if (new / _OLD_BM25).exists():
            (new / _OLD_BM25).rename(new / bm25.FOLDER)
        manifest.write(new)


def _is_old(version: Path) -> bool:
    return version.parent.name == OLD_VERSIONS


def _link_or_copy(source: str, target: str) -> str:
    """Hard-link a file that is never written again, which takes no time or space; copy Chroma's files."""
    if Path(source).parts[-2] == _OLD_BM25 or Path(source).suffix in (".npy", ".int8", ".int16"):
        try:
            os.link(source, target)
            return target
        except OSError:  # a file system without links
            pass
    return str(shutil.copy2(source, target))
