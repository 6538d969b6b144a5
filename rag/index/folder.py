"""The index folder: its versions, the swap from one to the next, and the write lock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import gmtime, strftime

from rag.errors import IndexCorruptError, IndexLockedError, IndexMissingError, IndexWriteError

CURRENT, LOCK, VERSIONS = "current", "lock", "versions"
OLD_VERSIONS = "generations"  # the name of `versions` up to schema 5
PAPERS = "papers.sqlite"


def require_index_folder(folder: Path) -> set[str]:
    """The names in `folder`; none if it is missing.

    Raises IndexCorruptError if it is a file, cannot be read, or holds something other than an index.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise IndexCorruptError(f"{folder} is a file, not an index folder.", "Give a folder: --index DIR.")
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise _unreadable(folder, error) from error
    # Other programs also have folders called "versions"; rag must not remove their content.
    if not names & {CURRENT, LOCK} and not names <= {VERSIONS, OLD_VERSIONS}:
        raise IndexCorruptError(f"{folder} holds other files and no index.", "Choose an empty folder with --index.")
    return names


def is_empty(folder: Path) -> bool:
    """Whether `folder` is missing, or holds nothing of an index, so that a new one may be built in it.

    The remains of a killed first build do not count. Raises IndexCorruptError if `folder` is no
    index folder.
    """
    return CURRENT not in require_index_folder(folder) and not stored_versions(folder)


def stored_versions(folder: Path) -> list[Path]:
    """Every version in `folder` that holds papers or a manifest of any name: the one in use first, then the newest."""
    try:
        paths = [path for name in (VERSIONS, OLD_VERSIONS) for path in (folder / name).glob("*") if path.is_dir()]
        paths = [path for path in paths if (path / PAPERS).exists() or any(path.glob("*.json"))]
    except OSError as error:
        raise _unreadable(folder, error) from error
    current = _read_current(folder)
    return sorted(paths, key=lambda path: (path.name == current, path.name), reverse=True)


def current_version(folder: Path) -> Path:
    """The folder of the version in use.

    Raises IndexMissingError if `folder` holds no index yet, IndexCorruptError if it cannot be used.
    """
    if is_empty(folder):
        raise IndexMissingError(f"There is no index in {folder}.", "Run `rag index`.")
    name = _read_current(folder)
    if not name:
        raise IndexCorruptError(f"Cannot read {folder / CURRENT}, which names the version in use.", index_hint(folder))
    for parent in (VERSIONS, OLD_VERSIONS):
        if (path := folder / parent / name).is_dir():
            return path
    raise IndexCorruptError(f"{folder / VERSIONS / name}, the version in use, is missing.", index_hint(folder))


def _read_current(folder: Path) -> str:
    """The name of the version in use; empty if it is not known."""
    try:
        name = (folder / CURRENT).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return name if name.isprintable() and name == Path(name).name else ""


@contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """A new version of the index in `folder`, for the caller to fill; the caller holds the write lock.

    It becomes the version in use when the block ends, and the others are removed. If the block fails, the
    new version is removed.
    """
    # Later names sort after earlier ones.
    target = folder / VERSIONS / f"{strftime('%Y%m%d-%H%M%S', gmtime())}-{os.urandom(3).hex()}"
    try:
        target.mkdir(parents=True)
        yield target
        _swap(folder, target.name)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    _sweep(folder, keep=target)


def _swap(folder: Path, name: str) -> None:
    """Make version `name` the one in use, by an atomic rename."""
    temporary = folder / f"{CURRENT}.new"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(name + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / CURRENT)


def _sweep(folder: Path, keep: Path) -> None:
    """Remove the versions that are not in use; a file that is held open is removed next time."""
    for path in (folder / VERSIONS).iterdir():
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(folder / OLD_VERSIONS, ignore_errors=True)


@contextmanager
def write_lock(folder: Path, timeout: float = 0.0) -> Iterator[None]:
    """Hold the write lock of `folder`, which is created if it is missing; wait up to `timeout` seconds for the lock.

    Raises IndexLockedError if another process is writing, IndexWriteError if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=timeout):
            yield
    except Timeout:
        raise IndexLockedError(f"Another process is writing the index in {folder}.", "Try again later.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise IndexWriteError(
            f"Cannot write the index in {folder}: {reason}.", "Choose a writable folder: --index or RAG_INDEX_DIR."
        ) from error


def _unreadable(folder: Path, error: OSError) -> IndexCorruptError:
    return IndexCorruptError(f"Cannot read {folder}: {error.strerror}.", "Check --index or RAG_INDEX_DIR.")


def index_hint(folder: Path, arguments: str = "") -> str:
    """The hint to run `rag index` with `arguments` on the index in `folder`."""
    import shlex

    return f"Run `rag index {arguments}{' ' if arguments else ''}--index {shlex.quote(str(folder))}`."


def corrupt(path: Path, reason: object) -> IndexCorruptError:
    """The error for `path`, a file or folder of one version of an index, that cannot be read."""
    folder = next((p.parent for p in path.parents if p.name in (VERSIONS, OLD_VERSIONS)), path.parent)
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return IndexCorruptError(f"Cannot read {path}: {lines[0][:200]}.", index_hint(folder, "--rebuild"))
