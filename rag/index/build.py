"""The write side: build a generation beside the one in use, then swap it in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from rag.encoder import DocumentEncoder, Vectors, locate, reproduces, verify_weights, weights_hash
from rag.errors import REBUILD, IndexDamaged, IndexLocked, IndexMissing, IndexUnfit
from rag.index import lexical
from rag.index.chroma import Writer, passage_prefix, passage_text
from rag.index.passport import NAME, SCHEMA, Passport, weights_stamp
from rag.index.store import (
    CURRENT,
    GENERATIONS,
    OWNERS,
    SCHEMA_SQL,
    TOKENS,
    Index,
    Record,
    generation,
    passage_id,
    require_index_folder,
)
from rag.interaction import owners
from rag.papers import Paper
from rag.settings import Settings
from rag.text import sentence_spans

# Word-piece states keep their ranking at 128 int8 dimensions under a random orthogonal projection: support
# scores on RAGTruth held out 0.767 / 0.840 (responses / sentences) against 0.767 / 0.841 for float16 at 384.
TOKEN_DIMENSIONS = 128
BATCH = 32  # papers encoded between two steps of the progress bar
_PACKAGES = ("chromadb", "llama-index-core", "sentence-transformers", "torch", "bm25s", "numpy")
# Queries whose vectors must come out the same from the NumPy pass and from the model itself.
_PROBES = ("what mitigates forgetting?", 'T\\"ULU 3: 10% better?', "a " * 200, "日本語の質問", "")

Progress = Callable[[int, int], None]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Report:
    """What a build did, in papers."""

    added: int
    changed: int
    removed: int
    unchanged: int
    passages: int
    sentences: int

    @property
    def up_to_date(self) -> bool:
        """Whether nothing had to be done."""
        return not (self.added or self.changed or self.removed)


def build(
    papers: Sequence[Paper],
    settings: Settings,
    paths: Sequence[str] = (),
    progress: Progress = lambda done, total: None,
    rebuild: bool = False,
) -> Report:
    """Index `papers`, embedding only those that are new or changed; papers not given are removed.

    `progress(done, total)` counts papers to embed. `rebuild` ignores what is there. Raises IndexLocked
    if another process is writing, IndexDamaged if the folder cannot be written, ModelError if the
    embedding model cannot be loaded; the index in use is untouched by any failure.
    """
    folder = settings.index_path
    require_index_folder(folder)
    with _writing(folder):
        old = None if rebuild else _old(folder, settings)
        if old is not None and (report := _nothing_to_do(old, papers, settings, paths)):
            return report
        verify_weights(settings.embedding_model)
        encoder = DocumentEncoder(settings.embedding_model, settings.max_tokens)
        fresh = _passport(encoder, settings, papers, paths)
        if old is not None and not old.passport.embeds_as(fresh):
            old = None
        try:
            return _generate(folder, papers, old, encoder, fresh, progress)
        except IndexDamaged:
            if old is None:
                raise
            # What was to be carried over is damaged; nothing of it is needed.
            return _generate(folder, papers, None, encoder, fresh, progress)


def _generate(
    folder: Path,
    papers: Sequence[Paper],
    old: Index | None,
    encoder: DocumentEncoder,
    passport: Passport,
    progress: Progress,
) -> Report:
    """Write a new generation and make it the one in use; a failure leaves nothing of it."""
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"
    target = folder / GENERATIONS / name
    try:
        target.mkdir(parents=True)
        report = _write(target, papers, old, encoder, passport, progress)
        _swap(folder, name)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    _sweep(folder, keep=name)
    return report


def indexed_paths(settings: Settings) -> list[str]:
    """The paths the index in use was made of; empty for the packaged corpus, or if there is no index."""
    try:
        paths = json.loads((generation(settings.index_path) / NAME).read_text(encoding="utf-8"))["paths"]
        return [path for path in paths if isinstance(path, str)]
    except (IndexMissing, IndexDamaged, OSError, ValueError, LookupError, TypeError):
        return []


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """The one writer of `folder`; operating-system failures come out as IndexDamaged."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise IndexLocked(f"Another process is writing the index in {folder}.", "Try again when it is done.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise IndexDamaged(
            f"Cannot write the index in {folder}: {reason}.", "Choose a writable folder: --index or RAG_INDEX_DIR."
        ) from error


def _old(folder: Path, settings: Settings) -> Index | None:
    """The index in use, if it can be read; what cannot be read is rebuilt."""
    try:
        path = generation(folder)
        index = Index(path, Passport.read(path))
        return index if len(index.papers()) == index.passport.papers else None
    except (IndexMissing, IndexDamaged, IndexUnfit):
        return None


def _nothing_to_do(old: Index, papers: Sequence[Paper], settings: Settings, paths: Sequence[str]) -> Report | None:
    fits = not old.passport.misfits(settings) and old.passport.paths == list(paths)
    if fits and old.papers() == list(papers):
        return Report(0, 0, 0, len(papers), old.passport.passages, old.passport.sentences)
    return None


def _passport(encoder: DocumentEncoder, settings: Settings, papers: Sequence[Paper], paths: Sequence[str]) -> Passport:
    modules = [type(module).__name__ for module in encoder.model]
    pooling = next((str(m.pooling_mode) for m in encoder.model if type(m).__name__ == "Pooling"), "none")
    return Passport(
        schema=SCHEMA,
        embedding_model=settings.embedding_model,
        weights=weights_hash(locate(settings.embedding_model)),
        weights_stamp=weights_stamp(settings.embedding_model),
        dimension=encoder.dimension,
        max_tokens=settings.max_tokens,
        pooling=f"{'+'.join(modules)}:{pooling}",
        prefix=json.dumps(encoder.model.prompts, sort_keys=True),
        numpy_queries=reproduces(encoder, settings.embedding_model, _PROBES),
        chunking="title + whole sentences",
        bm25_k1=settings.bm25_k1,
        bm25_b=settings.bm25_b,
        title_repeat=settings.title_repeat,
        corpus=hashlib.sha256("".join(p.digest for p in papers).encode()).hexdigest(),
        paths=list(paths),
        papers=len(papers),
        passages=0,
        sentences=0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in _PACKAGES},
    )


def _write(
    target: Path,
    papers: Sequence[Paper],
    old: Index | None,
    encoder: DocumentEncoder,
    passport: Passport,
    progress: Progress,
) -> Report:
    """Write every file of the generation `target`; unchanged papers bring their vectors from `old`."""
    before: dict[str, Record] = {}
    if old is not None:
        before = {record.paper.paper_id: record for record in old.records()}
        shutil.copytree(old.folder / "chroma", target / "chroma")
    writer = Writer(target / "chroma")
    kept = {p.paper_id for p in papers if p.paper_id in before and before[p.paper_id].digest == p.digest}
    stale = [record for record in before.values() if record.paper.paper_id not in kept]
    writer.delete([i for record in stale for i in record.passage_ids])

    todo = [p for p in papers if p.paper_id not in kept]
    passages: dict[str, list[Span]] = {}
    sentences: dict[str, list[Span]] = {}
    vectors: dict[str, Vectors] = {}
    tokens: dict[str, Span] = {}  # first row and number of rows in tokens.int8
    projection = old.projection if old is not None else _projection(encoder.dimension)
    progress(0, len(todo))
    with (target / TOKENS).open("wb") as states_file, (target / OWNERS).open("wb") as owners_file:
        rows = 0
        for at in range(0, len(todo), BATCH):
            batch = todo[at : at + BATCH]
            sources: list[Paper] = []
            spans: list[tuple[str, int, int]] = []
            for p in batch:
                sentences[p.paper_id] = sentence_spans(p.abstract)
                passages[p.paper_id] = passage_spans(p, sentences[p.paper_id], encoder)
                sources += [p] * len(passages[p.paper_id])
                spans += [(passage_id(p.paper_id, n), a, b) for n, (a, b) in enumerate(passages[p.paper_id])]
            texts = [passage_text(p, a, b) for p, (_, a, b) in zip(sources, spans, strict=True)]
            embedded, states = encoder.encode_with_tokens(texts)
            writer.add(sources, spans, texts, embedded)
            for p, (_, a, _), read in zip(sources, spans, states, strict=True):
                owner, kept_rows = _owners(p, a, read.offsets, sentences[p.paper_id])
                states_file.write(_compact(read.states[kept_rows] @ projection).tobytes())
                owners_file.write(owner[kept_rows].astype(np.int16).tobytes())
                first, count = tokens.get(p.paper_id, (rows, 0))
                tokens[p.paper_id] = first, count + int(kept_rows.sum())
                rows += int(kept_rows.sum())
            encoded = encoder.encode([p.abstract[a:b] for p in batch for a, b in sentences[p.paper_id]] or [""])
            first = 0
            for p in batch:
                count = len(sentences[p.paper_id])
                vectors[p.paper_id] = encoded[first : first + count]
                first += count
            progress(at + len(batch), len(todo))
        for paper_id in kept:
            assert old is not None
            record = before[paper_id]
            passages[paper_id], sentences[paper_id] = list(record.passages), list(record.sentences)
            vectors[paper_id] = old.sentence_vectors(record)
            states_file.write(old.raw_token_states(record).tobytes())
            owners_file.write(old.token_sentences(record).astype(np.int16).tobytes())
            tokens[paper_id] = rows, record.tokens
            rows += record.tokens

    total = sum(len(passages[p.paper_id]) for p in papers)
    if writer.count() != total:
        raise IndexDamaged(f"Chroma holds {writer.count()} passages instead of {total}.", REBUILD)
    lines = sum(len(sentences[p.paper_id]) for p in papers)
    stacked = np.zeros((lines, encoder.dimension), dtype=np.float16)
    database = sqlite3.connect(target / "papers.sqlite")
    with database:
        database.executescript(SCHEMA_SQL)
        first = 0
        for row, p in enumerate(papers):
            count = len(sentences[p.paper_id])
            stacked[first : first + count] = vectors[p.paper_id]
            database.execute(
                "INSERT INTO papers VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (row, p.paper_id, p.title, p.abstract, json.dumps(p.sources), p.date, p.author_count, p.votes, p.digest,
                 json.dumps(passages[p.paper_id]), json.dumps(sentences[p.paper_id]), first, *tokens[p.paper_id]),
            )  # fmt: skip
            first += count
    database.close()
    np.save(target / "projection.npy", projection)
    np.save(target / "sentences.npy", stacked)
    lexical.build(target / "lexical", papers, passport.bm25_k1, passport.bm25_b, passport.title_repeat)
    _filled(passport, total, lines).write(target)
    new = sum(p.paper_id not in before for p in todo)
    given = {p.paper_id for p in papers}
    removed = sum(paper_id not in given for paper_id in before)
    return Report(new, len(todo) - new, removed, len(kept), total, lines)


def _projection(dimension: int) -> Vectors:
    """A random orthogonal projection, (dimension, TOKEN_DIMENSIONS at most); stored with the index it was used for."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dimension, dimension)))
    return np.ascontiguousarray(basis[:, :TOKEN_DIMENSIONS], dtype=np.float32)


def _owners(
    paper: Paper, begin: int, offsets: Sequence[Span], sentences: Sequence[Span]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The sentence of each word piece of the passage from `begin` on; which pieces are no repeated title."""
    prefix = len(passage_prefix(paper))
    places = [(a - prefix + begin if a >= prefix else -1, b) for a, b in offsets]
    owner = owners(places, [start for start, _ in sentences])
    return owner, np.array([begin == 0 or a >= prefix for a, _ in offsets], dtype=bool)


def _compact(states: Vectors) -> NDArray[np.int8]:
    """int8 rows, each scaled so that its largest value is 127."""
    largest = np.maximum(np.abs(states).max(axis=1, keepdims=True, initial=0.0), 1e-12)
    return np.asarray(np.rint(states * (127 / largest)), dtype=np.int8)


def passage_spans(paper: Paper, sentences: Sequence[Span], encoder: DocumentEncoder) -> list[Span]:
    """Runs of whole sentences that fit the encoder's window together with the title.

    A single sentence longer than the window is cut at white space, so that no text is invisible.
    """
    room = encoder.max_tokens - 2  # [CLS] and [SEP]
    if not sentences or encoder.token_count(passage_text(paper, 0, len(paper.abstract))) <= room:
        return [(0, len(paper.abstract))]
    room -= encoder.token_count(passage_prefix(paper))
    spans: list[Span] = []
    (start, end), used = sentences[0], 0
    for a, b in (piece for span in sentences for piece in _pieces(paper.abstract, span, room, encoder)):
        count = encoder.token_count(paper.abstract[a:b])
        if used and used + count > room:
            spans.append((start, end))
            start, used = a, 0
        used, end = used + count, b
    spans.append((start, end))
    return spans


def _pieces(text: str, span: Span, room: int, encoder: DocumentEncoder) -> Iterator[Span]:
    """`span` itself if it fits into `room` word pieces, else halves of it, cut at white space where there is any."""
    a, b = span
    if b - a <= 1 or encoder.token_count(text[a:b]) <= room:
        yield span
        return
    middle = (a + b) // 2
    space = text.rfind(" ", a + 1, middle)
    cut = space if space > a else middle
    yield from _pieces(text, (a, cut), room, encoder)
    yield from _pieces(text, (cut, b), room, encoder)


def _filled(passport: Passport, passages: int, sentences: int) -> Passport:
    from dataclasses import replace

    return replace(passport, passages=passages, sentences=sentences)


def _swap(folder: Path, name: str) -> None:
    """Make generation `name` the one in use, by an atomic rename."""
    draft = folder / f"{CURRENT}.new"
    with draft.open("w", encoding="utf-8") as file:
        file.write(name + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / CURRENT)


def _sweep(folder: Path, keep: str) -> None:
    """Remove generations no longer in use; one that is held open goes next time."""
    for path in (folder / GENERATIONS).iterdir():
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)
