"""Which papers `rag index` indexes: files that are named, those indexed before, or the packaged corpus.

The packaged corpus is indexed only into an empty folder, and into an index of the packaged corpus. It never replaces a
user's papers, even if their files are gone or the index is damaged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rag.corpus.reading import packaged_corpus, read_papers
from rag.corpus.records import Problem
from rag.errors import IndexCorruptError
from rag.index.folder import PAPERS, index_hint, is_empty, stored_versions
from rag.index.manifest import read_record
from rag.index.papers_db import read_stored_papers
from rag.settings import Settings
from rag.types import Paper


@dataclass(frozen=True, slots=True, kw_only=True)
class PapersToIndex:
    """Papers for `build_index`, and where they come from.

    `problems` are records that could not be read. `paths` is what `build_index` records: empty for the packaged
    corpus, None if the files are not known. `notes` are for the user, one line each.
    """

    papers: Sequence[Paper]
    problems: Sequence[Problem] = ()
    paths: Sequence[str] | None = None
    notes: Sequence[str] = ()


def papers_to_index(settings: Settings, paths: Sequence[Path] = ()) -> PapersToIndex:
    """The papers of `paths`; if there are none, those of the files that the index was built from.

    An empty index gets the packaged corpus. If the indexed files are gone or not known, the papers stored in the
    index are used. Raises CorpusError if a file cannot be read, IndexCorruptError if neither the files nor the stored
    papers can be read.
    """
    folder = settings.index_path
    if paths:
        return _from_files([str(path.expanduser().absolute()) for path in paths])
    if is_empty(folder):
        return _from_files([])
    versions = stored_versions(folder)
    recorded = _recorded_paths(versions[0]) if versions else None
    missing = [path for path in recorded or () if not os.path.exists(path)]  # noqa: PTH110  # never raises
    if recorded and not missing:
        return _from_files(recorded)
    papers = _stored_papers(versions)
    # The version that wrote schema 5 also recorded no paths for papers that a program had passed to it.
    if recorded == [] and is_packaged(papers):
        return _from_files([])
    reason = f"{missing[0]} no longer exists" if missing else "It is not known which files the index was built from"
    if not papers:
        raise IndexCorruptError(
            f"{reason}, and the papers stored in the index in {folder} cannot be read.",
            f"Name the files to index. {index_hint(folder, 'PATH')}",
        )
    return PapersToIndex(
        papers=papers, paths=recorded or None, notes=(f"{reason}: the papers stored in the index are used.",)
    )


def _from_files(paths: list[str]) -> PapersToIndex:
    """The papers of `paths`, or the packaged corpus if there are none."""
    papers, problems = read_papers([Path(path) for path in paths] or [packaged_corpus()])
    return PapersToIndex(papers=papers, problems=problems, paths=paths)


def _recorded_paths(version: Path) -> list[str] | None:
    """The paths that the manifest of a version of any schema records; None if they are not known."""
    try:
        paths = read_record(version).get("paths")
    except IndexCorruptError:
        return None
    return paths if isinstance(paths, list) and all(isinstance(path, str) for path in paths) else None


def _stored_papers(versions: Sequence[Path]) -> list[Paper]:
    """The papers of the first of `versions` whose papers can be read; none if there is no such version."""
    for version in versions:
        try:
            if papers := read_stored_papers(version / PAPERS):
                return papers
        except IndexCorruptError:
            continue
    return []


def is_packaged(papers: Sequence[Paper]) -> bool:
    """Whether all `papers` come from files of the packaged corpus."""
    names = {path.name for path in packaged_corpus().glob("*")}
    return all(paper.sources and names.issuperset(paper.sources) for paper in papers)
