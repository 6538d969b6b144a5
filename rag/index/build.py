"""The write side: build a new version of an index beside the one in use, then swap it in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import copytree

import numpy as np
from numpy.typing import NDArray

from rag.encoders.factory import document_encoder, is_equivalent
from rag.encoders.sentence_transformer import SentenceTransformerEncoder
from rag.encoders.weights import locate, verify_weights, weights_hash, weights_stamp
from rag.errors import IndexCorruptError, IndexMismatchError, IndexMissingError
from rag.index import bm25, chroma
from rag.index.chroma import ChromaWriter
from rag.index.folder import PAPERS, current_version, new_version, require_index_folder, write_lock
from rag.index.manifest import SCHEMA, Manifest
from rag.index.papers_db import Record, write_papers
from rag.index.passages import CHUNKING, Bounds, passage_spans, passage_text
from rag.index.sources import is_packaged
from rag.index.store import SENTENCES, Index
from rag.index.tokens import TokenWriter, random_projection
from rag.index.upgrade import upgrade
from rag.settings import Settings
from rag.text.sentences import sentence_spans
from rag.types import Paper, Progress

BATCH = 32  # papers encoded between two calls of `progress`
_PACKAGES = ("chromadb", "llama-index-core", "sentence-transformers", "torch", "bm25s", "numpy")
# Queries whose vectors must be the same from the NumPy encoder and from the model itself.
_PROBES = ("what mitigates forgetting?", 'T\\"ULU 3: 10% better?', "a " * 200, "日本語の質問", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """The number of papers that a build added, changed, removed and left unchanged, and the size of the new index."""

    added: int
    changed: int
    removed: int
    unchanged: int
    passages: int
    sentences: int

    @property
    def up_to_date(self) -> bool:
        """Whether the index already held exactly these papers."""
        return not (self.added or self.changed or self.removed)


def build_index(
    papers: Sequence[Paper],
    settings: Settings,
    *,
    paths: Sequence[str] | None = (),
    progress: Progress = lambda done, total: None,
    rebuild: bool = False,
) -> BuildReport:
    """Make the index hold exactly `papers`; only those that are new or changed are embedded.

    `paths` are the files and folders that the papers were read from, which the next `rag index` without a path reads
    again; they may be left out for the packaged corpus. `progress(done, total)` counts papers to embed. `rebuild`
    ignores what the index holds.

    Raises IndexLockedError if another process is writing, IndexWriteError if the folder cannot be written,
    IndexCorruptError if it holds something else, EmbeddingModelError if the embedding model cannot be loaded. After
    any failure the index is as it was.
    """
    folder = settings.index_path
    require_index_folder(folder)
    recorded = list(paths) if paths else ([] if is_packaged(papers) else None)
    with write_lock(folder):
        previous = None if rebuild else _open_previous(folder)
        if previous is not None and (report := _if_up_to_date(previous, papers, settings, recorded)):
            return report
        verify_weights(settings.index.embedding_model)
        encoder = document_encoder(settings.index.embedding_model, settings.index.max_tokens)
        manifest = _manifest(encoder, settings, papers, recorded)
        if previous is not None and not previous.manifest.embeds_like(manifest):
            previous = None
        try:
            return IndexBuilder(papers, encoder, manifest, previous, progress).build(folder)
        except IndexCorruptError:
            if previous is None:
                raise
            # The vectors to copy are corrupt: embed all papers again.
            return IndexBuilder(papers, encoder, manifest, None, progress).build(folder)


def _open_previous(folder: Path) -> Index | None:
    """The version in use, if it can be read, upgraded if it has schema 5."""
    try:
        upgrade(folder)
        path = current_version(folder)
        index = Index(path, Manifest.read(path))
        return index if len(index.papers()) == index.manifest.papers else None
    except (IndexMissingError, IndexCorruptError, IndexMismatchError):
        return None


def _if_up_to_date(
    index: Index, papers: Sequence[Paper], settings: Settings, paths: list[str] | None
) -> BuildReport | None:
    """The report if at most `paths` must be recorded; None if papers must be indexed."""
    manifest = index.manifest
    if manifest.incompatibilities(settings) or index.papers() != list(papers):
        return None
    if paths is not None and manifest.paths != paths:
        replace(manifest, paths=paths).write(index.folder)
    return BuildReport(
        added=0,
        changed=0,
        removed=0,
        unchanged=len(papers),
        passages=manifest.passages,
        sentences=manifest.sentences,
    )


def _manifest(
    encoder: SentenceTransformerEncoder, settings: Settings, papers: Sequence[Paper], paths: list[str] | None
) -> Manifest:
    """The manifest of the index to build; `passages` and `sentences` are counted later."""
    from rag import __version__

    index_settings = settings.index
    return Manifest(
        schema=SCHEMA,
        embedding_model=index_settings.embedding_model,
        weights=weights_hash(locate(index_settings.embedding_model)),
        weights_stamp=weights_stamp(index_settings.embedding_model),
        dimension=encoder.dimension,
        max_tokens=index_settings.max_tokens,
        numpy_queries=is_equivalent(encoder, index_settings.embedding_model, _PROBES),
        chunking=CHUNKING,
        bm25_k1=index_settings.bm25_k1,
        bm25_b=index_settings.bm25_b,
        title_repeat=index_settings.title_repeat,
        corpus=hashlib.sha256("".join(paper.digest for paper in papers).encode()).hexdigest(),
        paths=paths,
        papers=len(papers),
        passages=0,
        sentences=0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"rag": __version__} | {name: version(name) for name in _PACKAGES},
        **encoder.describe(),
    )


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One paper in the version that is being written; `first_token` and `tokens` are as in `Record`."""

    passages: Sequence[Bounds]
    sentences: Sequence[Bounds]
    vectors: NDArray[np.float16]  # of the sentences, (n, dimension)
    first_token: int
    tokens: int


class IndexBuilder:
    """Writes one version; unchanged papers keep their vectors from `previous`."""

    def __init__(
        self,
        papers: Sequence[Paper],
        encoder: SentenceTransformerEncoder,
        manifest: Manifest,
        previous: Index | None,
        progress: Progress,
    ) -> None:
        self._papers, self._encoder, self._manifest = papers, encoder, manifest
        self._previous, self._progress = previous, progress
        self._old = {record.paper.paper_id: record for record in previous.records()} if previous else {}
        self._entries: dict[str, _Entry] = {}

    def build(self, folder: Path) -> BuildReport:
        """Write the version into `folder` and make it the one in use; if this fails, it is removed."""
        with new_version(folder) as target:
            return self._write(target)

    def _write(self, target: Path) -> BuildReport:
        unchanged = [p for p in self._papers if (old := self._old.get(p.paper_id)) and old.digest == p.digest]
        unchanged_ids = {paper.paper_id for paper in unchanged}
        to_embed = [paper for paper in self._papers if paper.paper_id not in unchanged_ids]
        writer = self._passage_writer(target, unchanged_ids)
        projection = self._previous.projection if self._previous else random_projection(self._encoder.dimension)
        with TokenWriter(target, projection) as tokens:
            self._progress(0, len(to_embed))
            for start in range(0, len(to_embed), BATCH):
                batch = to_embed[start : start + BATCH]
                self._embed(batch, writer, tokens)
                self._progress(start + len(batch), len(to_embed))
            for paper in unchanged:
                self._copy(self._old[paper.paper_id], tokens)
        passages = sum(len(entry.passages) for entry in self._entries.values())
        writer.require_count(passages)
        sentences = self._write_sentences(target)
        manifest = replace(self._manifest, passages=passages, sentences=sentences)
        bm25.write_bm25(
            target / bm25.FOLDER,
            self._papers,
            k1=manifest.bm25_k1,
            b=manifest.bm25_b,
            title_repeat=manifest.title_repeat,
        )
        write_papers(target / PAPERS, self._records())
        manifest.write(target)
        added = sum(paper.paper_id not in self._old for paper in to_embed)
        return BuildReport(
            added=added,
            changed=len(to_embed) - added,
            removed=len(self._old.keys() - self._entries.keys()),
            unchanged=len(unchanged),
            passages=passages,
            sentences=sentences,
        )

    def _passage_writer(self, target: Path, unchanged: set[str]) -> ChromaWriter:
        """The writer of passages, on a copy of the previous collection without the papers that changed or are gone."""
        if self._previous:
            copytree(self._previous.folder / chroma.FOLDER, target / chroma.FOLDER)
        writer = ChromaWriter(target / chroma.FOLDER)
        stale = [record for record in self._old.values() if record.paper.paper_id not in unchanged]
        writer.delete([passage for record in stale for passage in record.passage_ids])
        return writer

    def _embed(self, papers: Sequence[Paper], writer: ChromaWriter, tokens: TokenWriter) -> None:
        """Embed `papers`: write their passages and tokens, and keep their sentence vectors for `_write_sentences`."""
        sentences = [sentence_spans(paper.abstract) for paper in papers]
        passages = [passage_spans(p, spans, self._encoder) for p, spans in zip(papers, sentences, strict=True)]
        places = [(p, n, span) for p, spans in zip(papers, passages, strict=True) for n, span in enumerate(spans)]
        vectors, embeddings = self._encoder.encode_documents_with_tokens(
            [passage_text(paper, start, end) for paper, _, (start, end) in places]
        )
        writer.add(places, vectors)
        texts = [p.abstract[a:b] for p, spans in zip(papers, sentences, strict=True) for a, b in spans]
        sentence_vectors = iter(self._encoder.encode_documents(texts or [""]))
        token_embeddings = iter(embeddings)
        for paper, paper_sentences, paper_passages in zip(papers, sentences, passages, strict=True):
            first = tokens.rows
            for start, _ in paper_passages:
                tokens.add(paper, start, next(token_embeddings), paper_sentences)
            paper_vectors = [next(sentence_vectors) for _ in paper_sentences]
            self._entries[paper.paper_id] = _Entry(
                passages=paper_passages,
                sentences=paper_sentences,
                vectors=np.asarray(paper_vectors, dtype=np.float16).reshape(-1, self._encoder.dimension),
                first_token=first,
                tokens=tokens.rows - first,
            )

    def _copy(self, record: Record, tokens: TokenWriter) -> None:
        """Copy the vectors of an unchanged paper."""
        assert self._previous is not None
        first = tokens.rows
        tokens.add_rows(self._previous.quantised_tokens(record), self._previous.token_sentences(record))
        self._entries[record.paper.paper_id] = _Entry(
            passages=record.passages,
            sentences=record.sentences,
            vectors=self._previous.sentence_vectors(record).astype(np.float16),
            first_token=first,
            tokens=record.tokens,
        )

    def _write_sentences(self, target: Path) -> int:
        """Write the vectors of all sentences in the order of the papers, and return their number."""
        vectors = np.concatenate([self._entries[paper.paper_id].vectors for paper in self._papers])
        np.save(target / SENTENCES, vectors)
        return len(vectors)

    def _records(self) -> list[Record]:
        records: list[Record] = []
        first = 0
        for row, paper in enumerate(self._papers):
            entry = self._entries[paper.paper_id]
            record = Record(
                row=row,
                paper=paper,
                passages=tuple(entry.passages),
                sentences=tuple(entry.sentences),
                first_sentence=first,
                first_token=entry.first_token,
                tokens=entry.tokens,
                digest=paper.digest,
            )
            records.append(record)
            first += len(entry.sentences)
        return records
