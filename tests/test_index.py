"""Building, opening, upgrading and repairing an index."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import rag.index.build
from rag.assistant import Assistant
from rag.corpus.reading import packaged_corpus
from rag.encoders.numpy_bert import NumpyBertEncoder
from rag.encoders.sentence_transformer import SentenceTransformerEncoder
from rag.encoders.weights import DEFAULT_MODEL, locate
from rag.errors import (
    CorpusError,
    IndexCorruptError,
    IndexLockedError,
    IndexMismatchError,
    IndexMissingError,
    IndexWriteError,
)
from rag.index import chroma_bindings
from rag.index.build import build_index
from rag.index.chroma import COLLECTION, ChromaReader, PublicClient, client
from rag.index.chroma_bindings import RustBindings
from rag.index.folder import CURRENT, LOCK, OLD_VERSIONS, VERSIONS, current_version, is_empty
from rag.index.manifest import SCHEMA, Manifest
from rag.index.passages import passage_text
from rag.index.sources import papers_to_index
from rag.index.store import Index
from rag.index.upgrade import current_or_upgraded_version
from rag.retrieval.hybrid import HybridRetriever
from rag.settings import Settings
from rag.types import Paper

QUESTIONS = ["what mitigates forgetting?", "How are rewards verified?", "multilingual image embeddings"]
MISSPELT = "mitigatng forgetting"


def damage(path: Path, how: str) -> None:
    """Break one file: remove it, empty it, cut it in half, or write over its first half."""
    data = path.read_bytes()
    path.unlink()
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "overwritten":
        half = len(data) // 2
        path.write_bytes(b"\xff\x00garbage "[:10] * (half // 10 + 1) + data[half:])


@cache
def query_encoder() -> NumpyBertEncoder:
    return NumpyBertEncoder(locate(DEFAULT_MODEL), 512)


CACHED = {name: cache(getattr(rag.index.build, name)) for name in ("document_encoder", "is_equivalent")}


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builds of this file share one loaded model, which is compared with the NumPy encoder once."""
    for name, cached in CACHED.items():
        monkeypatch.setattr(rag.index.build, name, cached)


def opened(settings: Settings) -> HybridRetriever:
    return HybridRetriever(Index.open(settings), settings.retrieval, encoder=query_encoder())


def scores(retriever: HybridRetriever | Settings, question: str = QUESTIONS[0]) -> list[tuple[str, float]]:
    """Ids and scores of the hits of one search."""
    if isinstance(retriever, Settings):
        retriever = opened(retriever)
    return [(hit.paper.paper_id, round(hit.score, 5)) for hit in retriever.search(question).hits]


def manifest_path(settings: Settings) -> Path:
    """The manifest of the only version in the index, under its present or its former name."""
    (path,) = settings.index_path.glob("*/*/*.json")
    return path


def edit_manifest(settings: Settings, **changes: Any) -> None:
    path = manifest_path(settings)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is embedded during the test."""
    texts: list[str] = []
    watch_encoding(monkeypatch, texts.extend)
    return texts


def watch_encoding(monkeypatch: pytest.MonkeyPatch, on_batch: Callable[[Sequence[str]], None]) -> None:
    """Call `on_batch` with the texts of every batch that the document encoder is about to embed."""

    def watched(name: str) -> None:
        encode = getattr(SentenceTransformerEncoder, name)

        def watching(self: SentenceTransformerEncoder, texts: Sequence[str]) -> Any:
            on_batch(texts)
            return encode(self, texts)

        monkeypatch.setattr(SentenceTransformerEncoder, name, watching)

    watched("encode_documents")
    watched("encode_documents_with_tokens")


# --- what the index holds --------------------------------------------------------------------------


def test_every_paper_is_indexed_as_it_was_read(settings: Settings, corpus: list[Paper]) -> None:
    index = Index.open(settings)
    assert index.papers() == corpus
    assert len(index) == 539


def test_every_word_of_every_abstract_is_in_a_passage_within_the_window(
    settings: Settings, documents: SentenceTransformerEncoder
) -> None:
    for record in Index.open(settings).records():
        abstract, end = record.paper.abstract, 0
        for a, b in record.passages:
            assert not abstract[end:a].strip()
            assert documents.token_count(passage_text(record.paper, a, b)) + 2 <= 512
            end = b
        assert not abstract[end:].strip()


def test_stored_sentences_are_spans_with_the_models_own_vectors(
    small: Settings, documents: SentenceTransformerEncoder
) -> None:
    index = Index.open(small)
    for record in index.records():
        sentences = [record.paper.abstract[a:b] for a, b in record.sentences]
        assert " ".join(sentences) == record.paper.abstract
        cosines = (documents.encode_documents(sentences) * index.sentence_vectors(record)).sum(axis=1)
        assert cosines.min() > 0.999


def test_stored_tokens_are_the_models_own_projected(small: Settings, documents: SentenceTransformerEncoder) -> None:
    index = Index.open(small)
    record = index.records([2])[0]
    ((start, end),) = record.passages
    _, (tokens,) = documents.encode_documents_with_tokens([passage_text(record.paper, start, end)])
    cosines = (index.project(tokens.vectors) * index.token_embeddings(record)).sum(axis=1)
    assert len(cosines) == record.tokens and cosines.min() > 0.999
    sentences = index.token_sentences(record)
    assert set(sentences.tolist()) == {-1, *range(len(record.sentences))} and sorted(sentences) == list(sentences)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "abstracts"),
    [("A long paper", 14), ("A title without end " * 200, 1)],
    ids=["long-abstract", "title-beyond-the-window"],
)
def test_the_last_sentence_of_a_very_long_paper_is_found_by_dense_alone(
    corpus: list[Paper],
    six: list[Paper],
    documents: SentenceTransformerEncoder,
    small: Settings,
    title: str,
    abstracts: int,
) -> None:
    body = " ".join(p.abstract for p in corpus[100 : 100 + abstracts])
    last = "Zebrafish larvae regrow their caudal fins under cold blue light."
    paper = Paper(paper_id="long", title=title, abstract=f"{body} {last}")
    assert documents.token_count(f"{paper.title} {paper.abstract}") > 900
    settings = small.replace(dense_weight=1.0, window_weight=0.0, k=1)
    build_index([*six, paper], settings)
    (hit,) = opened(settings).search("Which fish regrow their tail fins under blue light?").hits
    assert hit.paper.paper_id == "long" and "Zebrafish" in hit.passage.text
    (record,) = Index.open(settings).find(["long"])
    longest = max(documents.token_count(passage_text(paper, a, b)) for a, b in record.passages)
    assert longest + 2 <= 512, "the end of this passage is invisible to the encoder"


def test_llama_index_can_open_the_collection(small: Settings) -> None:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore

    class Embedding(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return query_encoder().encode(query).tolist()

        _get_text_embedding = _get_query_embedding

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    collection = client(current_version(small.index_path) / "chroma").get_collection(COLLECTION)
    store = ChromaVectorStore(chroma_collection=collection)
    llama_index = VectorStoreIndex.from_vector_store(store, embed_model=Embedding())
    nodes = llama_index.as_retriever(similarity_top_k=3).retrieve(QUESTIONS[0])
    index = Index.open(small)
    nearest = index.vectors.nearest(query_encoder().encode(QUESTIONS[0]), 3)
    assert [n.node.node_id for n in nodes] == list(nearest)
    for node in nodes:
        (record,) = index.find([node.node.metadata["paper_id"]])
        assert node.node.ref_doc_id == record.paper.paper_id
        assert node.node.get_content() == passage_text(
            record.paper, node.node.metadata["start"], node.node.metadata["end"]
        )


# --- Chroma's private bindings ---------------------------------------------------------------------


def test_the_bindings_give_the_public_clients_answers(settings: Settings, queries: NumpyBertEncoder) -> None:
    folder = current_version(settings.index_path) / "chroma"
    bindings, public = RustBindings(folder, COLLECTION), PublicClient(folder)
    for question in QUESTIONS:
        vector = queries.encode(question)
        (ids, distances), (public_ids, public_distances) = bindings.query(vector, 50), public.query(vector, 50)
        assert ids == public_ids
        np.testing.assert_allclose(distances, public_distances, atol=1e-6)
        (stored_ids, vectors), (public_stored_ids, public_vectors) = bindings.get(ids[:9]), public.get(ids[:9])
        assert stored_ids == public_stored_ids
        np.testing.assert_allclose(np.asarray(vectors), public_vectors, atol=1e-7)


def test_distances_are_one_minus_the_cosine(settings: Settings, queries: NumpyBertEncoder) -> None:
    reader = ChromaReader(current_version(settings.index_path) / "chroma", 384)
    vector = queries.encode(QUESTIONS[0])
    near = reader.nearest(vector, 20)
    exact = reader.cosines(vector, list(near))
    assert near == pytest.approx(exact, abs=1e-5) and list(near.values()) == sorted(near.values(), reverse=True)


@pytest.mark.parametrize("method", ["__init__", "get", "query"])
def test_the_public_client_replaces_bindings_that_fail(
    small: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    folder = current_version(small.index_path) / "chroma"
    vector = query_encoder().encode(QUESTIONS[0])
    expected = ChromaReader(folder, 384).nearest(vector, 5)
    assert not caplog.records

    def broken(*_: Any) -> Any:
        raise TypeError("another signature in this version")

    monkeypatch.setattr(RustBindings, method, broken)
    reader = ChromaReader(folder, 384)
    assert reader.nearest(vector, 5) == pytest.approx(expected, abs=1e-6)
    assert reader.cosines(vector, list(expected)) == pytest.approx(expected, abs=1e-5)
    (record,) = [r for r in caplog.records if r.name == "rag.index.chroma"]
    assert record.levelname == "WARNING" and "another signature" in record.getMessage()


def test_the_bindings_are_not_used_with_a_chromadb_they_were_not_tested_with(
    small: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = scores(small)
    monkeypatch.setattr(chroma_bindings, "TESTED", "0.9")
    with caplog.at_level("DEBUG", "rag.index.chroma"):
        assert scores(small) == expected
    (record,) = [r for r in caplog.records if r.name == "rag.index.chroma"]
    assert record.levelname == "DEBUG" and "chromadb 0.9" in record.getMessage()


# --- the manifest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("schema", {"schema": 0}),
        ("embedding_model", {"embedding_model": "some/other-model"}),
        ("max_tokens", {"max_tokens": 256}),
        ("bm25_k1", {"bm25_k1": 1.2}),
        ("bm25_b", {"bm25_b": 0.4}),
        ("title_repeat", {"title_repeat": 1}),
        ("weights", {"weights": "0" * 64, "weights_stamp": "0-0"}),
    ],
)
def test_a_mismatched_index_is_refused_with_the_field_and_the_command(
    small: Settings, field: str, changes: dict[str, Any]
) -> None:
    edit_manifest(small, **changes)
    with pytest.raises(IndexMismatchError) as caught:
        Index.open(small)
    assert re.search(rf"\b{field}\b", caught.value.message) and "rag index" in caught.value.hint


def test_equal_weights_with_another_time_stamp_still_match(small: Settings) -> None:
    edit_manifest(small, weights_stamp="0-0")
    assert len(scores(small)) == 5


@pytest.mark.slow
def test_the_command_that_a_mismatched_index_names_rebuilds_it(small: Settings, six: list[Paper]) -> None:
    before = scores(small)
    edit_manifest(small, schema=0)
    build_index(six, small)
    assert scores(small) == before


def test_the_paths_are_recorded_without_a_new_version(small: Settings, six: list[Paper], embedded: list[str]) -> None:
    version = current_version(small.index_path)
    for paths in (["/some/papers"], []):
        assert build_index(six, small, paths=paths).up_to_date
        assert current_version(small.index_path) == version and Manifest.read(version).paths == paths
    assert not embedded


@pytest.mark.slow
def test_papers_that_a_program_passes_are_not_recorded_as_the_packaged_corpus(
    small: Settings, user_papers: list[Paper]
) -> None:
    build_index(user_papers[:2], small)
    assert Index.open(small).manifest.paths is None
    assert papers_to_index(small).papers == user_papers[:2]


# --- corrupt files ---------------------------------------------------------------------------------


def corrupt_files() -> list[Any]:
    files = ["manifest.json", "papers.sqlite", "sentences.npy", "chroma/chroma.sqlite3", "chroma/*/data_level0.bin"]
    files += ["tokens.int8", "tokens.sentence.int16", "projection.npy", "chroma/*/header.bin"]
    files += ["bm25/stems.data.npy", "bm25/pairs.hashes.npy", "bm25/words.txt"]
    ways = ["removed", "emptied", "cut", "overwritten"]
    pairs = [(f, w) for f in files for w in ways]
    silent = [("bm25/words.txt", "emptied"), ("bm25/words.txt", "cut")]  # spelling correction only knows fewer words
    return [pytest.param(f, w, id=f"{Path(f).name}-{w}") for f, w in pairs if (f, w) not in silent]


@pytest.mark.parametrize(("file", "how"), corrupt_files())
def test_a_corrupt_file_is_reported_by_name_or_changes_nothing(small: Settings, file: str, how: str) -> None:
    expected = scores(small, MISSPELT)
    (path,) = current_version(small.index_path).glob(file)
    damage(path, how)
    try:
        assert scores(small, MISSPELT) == expected
    except IndexCorruptError as error:
        assert "\n" not in str(error) and f"--index {small.index_path}" in error.hint
        assert ("chroma" if file.startswith("chroma") else path.name.partition(".")[0]) in error.message


@pytest.mark.slow
@pytest.mark.parametrize("how", ["removed", "emptied", "cut", "overwritten"])
def test_without_a_readable_pointer_the_index_is_rebuilt_from_its_papers(
    small: Settings, six: list[Paper], how: str
) -> None:
    before = scores(small)
    damage(small.index_path / CURRENT, how)
    with pytest.raises(IndexCorruptError, match="the version in use") as caught:
        Index.open(small)
    assert "rag index" in caught.value.hint
    edit_manifest(small, paths=None)
    source = papers_to_index(small)
    assert list(source.papers) == six
    build_index(source.papers, small, paths=source.paths)
    assert scores(small) == before


@pytest.mark.slow
def test_a_corrupt_index_is_replaced_by_a_rebuild(small: Settings, six: list[Paper]) -> None:
    before = scores(small)
    damage(current_version(small.index_path) / "papers.sqlite", "cut")
    build_index(six, small, rebuild=True)
    assert scores(small) == before


@pytest.mark.slow
@pytest.mark.parametrize("file", ["manifest.json", "papers.sqlite", "chroma/chroma.sqlite3", "sentences.npy"])
def test_building_over_a_corrupt_index_repairs_it_without_rebuild(small: Settings, six: list[Paper], file: str) -> None:
    before = scores(small)
    damage(current_version(small.index_path) / file, "cut")
    build_index(six[:-1], small)
    build_index(six, small)
    assert scores(small) == before


@pytest.mark.parametrize("name", ["thesis.tex", "versions/3.11/python"])
def test_a_folder_of_something_else_is_left_alone(six: list[Paper], tmp_path: Path, name: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("precious")
    for use in (Index.open, papers_to_index, lambda settings: build_index(six, settings)):
        with pytest.raises(IndexCorruptError, match="other files"):
            use(Settings.of(index_dir=str(tmp_path)))
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == [name]


def test_a_file_in_place_of_the_index_folder_is_reported(six: list[Paper], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    for use in (Index.open, papers_to_index, lambda settings: build_index(six, settings)):
        with pytest.raises(IndexCorruptError, match="is a file"):
            use(Settings.of(index_dir=str(path)))


# --- building step by step -------------------------------------------------------------------------


def test_building_again_embeds_nothing_and_changes_nothing(
    small: Settings, six: list[Paper], embedded: list[str]
) -> None:
    before = current_version(small.index_path)
    report = build_index(six, small)
    assert report.up_to_date and report.unchanged == 6
    assert embedded == [] and current_version(small.index_path) == before


@pytest.mark.slow
def test_only_new_and_changed_papers_are_embedded_and_removed_ones_go(
    small: Settings, six: list[Paper], corpus: list[Paper], embedded: list[str]
) -> None:
    old = {r.paper.paper_id: Index.open(small).sentence_vectors(r) for r in Index.open(small).records()}
    changed = replace(six[0], abstract=six[0].abstract + " Wholly new closing words.")
    # One new, four unchanged in another order, one changed, six[5] removed.
    papers = [corpus[300], *six[4:0:-1], changed]
    report = build_index(papers, small)
    assert (report.added, report.changed, report.removed, report.unchanged) == (1, 1, 1, 4)
    touched = f"{corpus[300].title}\n{corpus[300].abstract}\n{changed.title}\n{changed.abstract}"
    assert embedded and all(text in touched for text in embedded)
    assert f"{changed.title}\n{changed.abstract}" in embedded

    index = Index.open(small)
    assert index.papers() == papers
    for record in index.records()[1:5]:
        np.testing.assert_array_equal(index.sentence_vectors(record), old[record.paper.paper_id])
    collection = client(index.folder / "chroma").get_collection(COLLECTION)
    stored = collection.get(include=["documents"])
    assert sorted(stored["ids"]) == sorted(i for r in index.records() for i in r.passage_ids)
    assert any("Wholly new closing words." in text for text in stored["documents"])
    assert six[5].paper_id not in dict(scores(small, six[5].title))
    assert scores(small, "wholly new closing words")[0][0] == changed.paper_id


@pytest.mark.slow
def test_an_index_grown_step_by_step_answers_like_one_built_at_once(
    six: list[Paper], tmp_path: Path, small: Settings
) -> None:
    grown = Settings.of(index_dir=str(tmp_path / "grown"))
    build_index(six[3:], grown)
    build_index(six, grown)
    for question in QUESTIONS:
        assert dict(scores(grown, question)) == pytest.approx(dict(scores(small, question)), abs=1e-3)


@pytest.mark.parametrize("setting", [{"bm25_k1": 0.9}, {"title_repeat": 0}])
def test_a_bm25_setting_needs_no_new_embedding(
    small: Settings, six: list[Paper], embedded: list[str], setting: dict[str, Any]
) -> None:
    other = small.replace(**setting)
    report = build_index(six, other)
    assert report.unchanged == 6 and embedded == []
    assert len(scores(other)) == 5


@pytest.mark.slow
def test_progress_counts_the_papers_to_embed(small: Settings, six: list[Paper], corpus: list[Paper]) -> None:
    steps: list[tuple[int, int]] = []
    build_index([*six, corpus[200]], small, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(0, 1), (1, 1)]


# --- failures while writing ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()])
def test_a_failed_build_leaves_the_index_in_use_and_nothing_else(
    small: Settings, six: list[Paper], corpus: list[Paper], monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    before, old = scores(small), current_version(small.index_path)
    calls = iter(range(100))

    def fail_in_the_second_batch(texts: Sequence[str]) -> None:
        if next(calls) == 2:
            raise failure

    with monkeypatch.context() as patched:
        watch_encoding(patched, fail_in_the_second_batch)
        patched.setattr(rag.index.build, "BATCH", 2)  # papers
        with pytest.raises(IndexWriteError if isinstance(failure, OSError) else type(failure)):
            build_index([*six, *corpus[200:204]], small)
    assert current_version(small.index_path) == old and scores(small) == before
    assert [p.name for p in (small.index_path / VERSIONS).iterdir()] == [old.name]
    assert build_index([*six, corpus[200]], small).added == 1  # and the lock is free again


def test_old_versions_are_removed_after_the_swap(small: Settings, six: list[Paper]) -> None:
    (small.index_path / VERSIONS / "left-by-a-crash").mkdir()
    build_index(six[:5], small)
    assert list((small.index_path / VERSIONS).iterdir()) == [current_version(small.index_path)]


def test_a_second_writer_is_refused_and_readers_go_on(small: Settings, six: list[Paper]) -> None:
    before = scores(small)
    with FileLock(small.index_path / LOCK):
        with pytest.raises(IndexLockedError):
            build_index(six[:3], small)
        assert scores(small) == before
    assert build_index(six[:3], small).removed == 3


@pytest.mark.slow
@pytest.mark.parametrize("used", [True, False], ids=["after-a-search", "before-its-first-search"])
def test_an_open_reader_answers_from_its_version_while_a_new_one_is_swapped_in(
    small: Settings, six: list[Paper], used: bool
) -> None:
    expected = scores(small, MISSPELT), scores(small, six[5].title)
    reader = opened(small)
    if used:
        reader.search("rewards")
    build_index(six[:3], small)
    assert (scores(reader, MISSPELT), scores(reader, six[5].title)) == expected
    assert six[5].paper_id not in dict(scores(small, six[5].title))


@pytest.mark.slow
def test_ids_and_texts_of_any_kind_are_stored(small: Settings, six: list[Paper]) -> None:
    unusual = [
        Paper(paper_id=paper_id, title=title, abstract=abstract)
        for paper_id, title, abstract in (
            ("a#1", "Hash # in the id", "Walrus tusks grow slowly."),
            ("a", "Same start", "Penguins huddle in storms."),
            ("עברית 🔥", "שלום 🔥", "טקסט בעברית. 🔥"),
            ("titleonly", "Only a title about narwhals", ""),
            ("nul", "Nul", "before\x00after the zero byte."),
        )
    ]
    report = build_index([*six, *unusual], small)
    assert report.added == 5 and Index.open(small).papers() == [*six, *unusual]
    assert scores(small, "walrus tusks")[0][0] == "a#1"
    assert scores(small, "narwhals")[0][0] == "titleonly"


@pytest.mark.slow
def test_a_corpus_of_one_paper_without_index_terms_is_searchable(tmp_path: Path) -> None:
    settings = Settings.of(index_dir=str(tmp_path))
    build_index([Paper(paper_id="x", title="the of", abstract="It is.")], settings)
    assert [paper for paper, _ in scores(settings)] == ["x"]


@pytest.mark.parametrize("use", [Index.open, lambda settings: Assistant.open(settings, build=False)])
def test_a_missing_index_names_the_command(tmp_path: Path, use: Callable[[Settings], Any]) -> None:
    with pytest.raises(IndexMissingError, match="rag index"):
        use(Settings.of(index_dir=str(tmp_path / "none")))


# --- indexes of other versions of the program ------------------------------------------------------


@pytest.fixture
def old(small: Settings, user_papers: list[Paper]) -> Settings:
    """Settings on a user's index as the previous version of rag wrote it: schema 5."""
    folder = small.index_path
    version = current_version(folder)
    (version / "bm25").rename(version / "lexical")
    record = json.loads((version / "manifest.json").read_text()) | {"schema": 5, "paths": ["/gone/mine.jsonl"]}
    del record["versions"]["rag"]
    (version / "passport.json").write_text(json.dumps(record, indent=1))
    (version / "manifest.json").unlink()
    (folder / VERSIONS).rename(folder / OLD_VERSIONS)
    return small


@pytest.fixture
def user_papers(small: Settings, six: list[Paper]) -> list[Paper]:
    """The papers of `small`, which is changed as if they came from a user's file that no longer exists."""
    version = current_version(small.index_path)
    with sqlite3.connect(version / "papers.sqlite") as papers:
        papers.execute("UPDATE papers SET sources = '[\"mine.jsonl\"]'")
    papers.close()
    edit_manifest(small, paths=["/gone/mine.jsonl"])
    return [replace(paper, sources=("mine.jsonl",)) for paper in six]


def test_an_index_of_schema_5_is_upgraded_when_it_is_opened(
    old: Settings, user_papers: list[Paper], embedded: list[str]
) -> None:
    index = Index.open(old)
    assert index.papers() == user_papers and len(scores(old)) == 5
    assert (index.manifest.schema, index.manifest.paths) == (SCHEMA, ["/gone/mine.jsonl"])
    assert sorted(path.name for path in old.index_path.iterdir()) == [CURRENT, LOCK, VERSIONS]
    assert sorted(path.name for path in index.folder.iterdir()) == [
        "bm25", "chroma", "manifest.json", "papers.sqlite", "projection.npy", "sentences.npy", "tokens.int8",
        "tokens.sentence.int16",
    ]  # fmt: skip
    assert not embedded


def test_an_index_of_schema_5_is_upgraded_when_it_is_built(
    old: Settings, user_papers: list[Paper], embedded: list[str]
) -> None:
    assert build_index(user_papers, old).up_to_date
    assert build_index(user_papers[:5], old).removed == 1 and not embedded
    assert Index.open(old).papers() == user_papers[:5]


def test_readers_that_open_an_old_index_together_upgrade_it_once(old: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = set(pool.map(current_or_upgraded_version, [old.index_path] * 8))
    assert versions == {current_version(old.index_path)}


@pytest.mark.slow
@pytest.mark.parametrize("step", ["manifest.Manifest.write", "folder._swap", "folder._sweep"])
def test_an_upgrade_that_is_killed_leaves_a_usable_index(old: Settings, user_papers: list[Paper], step: str) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from rag.index import folder, manifest, upgrade\n"
        f"def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{step} = die; upgrade.current_or_upgraded_version(Path(sys.argv[1]))"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(old.index_path)])
    assert killed.returncode == -signal.SIGKILL
    assert Index.open(old).papers() == user_papers and len(scores(old)) == 5
    build_index(user_papers[:5], old)
    assert not (old.index_path / OLD_VERSIONS).exists() and len(list((old.index_path / VERSIONS).iterdir())) == 1


@pytest.fixture
def read_only(old: Settings, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """`old`, of another schema if the parameter says so, in a read-only folder; root becomes nobody for the test."""
    edit_manifest(old, schema=getattr(request, "param", 5))
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        shutil.copytree(old.index_path, folder)
        paths = [Path(scratch), folder, *folder.rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if root:
            os.seteuid(65534)
        yield old.replace(index_dir=str(folder))
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755)


@pytest.mark.parametrize("read_only", [4], indirect=True)
def test_a_read_only_index_of_another_schema_is_refused(read_only: Settings) -> None:
    with pytest.raises(IndexMismatchError, match="schema 4"):
        Index.open(read_only)


def test_an_old_index_that_cannot_be_written_says_what_to_do(read_only: Settings) -> None:
    with pytest.raises(IndexMismatchError, match=r"earlier version.*Permission denied") as caught:
        Index.open(read_only)
    assert f"rag index --index {read_only.index_path}" in caught.value.hint
    assert not (read_only.index_path / VERSIONS).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "schema", "writer"),
    [("old", 4, "an earlier version"), ("small", 7, "a later version"), ("small", 7, "rag 9.9")],
)
def test_an_index_of_any_other_schema_is_rebuilt_from_its_own_papers(
    request: pytest.FixtureRequest,
    user_papers: list[Paper],
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    schema: int,
    writer: str,
) -> None:
    settings: Settings = request.getfixturevalue(layout)
    edit_manifest(settings, schema=schema, versions={"rag": "9.9"} if writer == "rag 9.9" else {})
    with pytest.raises(IndexMismatchError, match=rf"schema {schema} \(written by {writer}\)") as caught:
        Index.open(settings)
    assert f"rag index --rebuild --index {settings.index_path}" in caught.value.hint
    source = papers_to_index(settings)
    assert (source.papers, source.paths) == (user_papers, ["/gone/mine.jsonl"])
    assert source.notes == ("/gone/mine.jsonl no longer exists: the papers stored in the index are used.",)
    build_index(source.papers, settings, paths=source.paths, rebuild=True)
    assert Index.open(settings).papers() == user_papers
    assert papers_to_index(settings).papers == user_papers


# --- which papers are indexed ----------------------------------------------------------------------


def test_an_empty_folder_gets_the_packaged_corpus(tmp_path: Path, corpus: list[Paper]) -> None:
    source = papers_to_index(Settings.of(index_dir=str(tmp_path / "new")))
    assert (source.papers, source.paths, source.notes) == (corpus, [], ())


def test_a_folder_left_by_a_killed_first_build_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / VERSIONS / "20260101" / "chroma").mkdir(parents=True)
    assert is_empty(tmp_path) and papers_to_index(Settings.of(index_dir=str(tmp_path))).paths == []


def test_an_index_of_the_packaged_corpus_follows_it(small: Settings, corpus: list[Paper]) -> None:
    edit_manifest(small, paths=[])
    assert papers_to_index(small).papers == corpus


def test_the_recorded_files_are_read_again(small: Settings, user_papers: list[Paper], tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"_id": "n", "title": "New", "abstract": "All new."}')
    edit_manifest(small, paths=[str(file)])
    source = papers_to_index(small)
    assert ([p.paper_id for p in source.papers], source.paths, source.notes) == (["n"], [str(file)], ())


@pytest.mark.parametrize("change", [{"max_tokens": 256}, {"schema": 0}, {"schema": "?", "papers": "many"}])
def test_a_mismatched_index_still_knows_which_files_to_rebuild_from(small: Settings, change: dict[str, Any]) -> None:
    edit_manifest(small, paths=[str(packaged_corpus() / "README.md")], **change)
    with pytest.raises(CorpusError, match=r"README\.md"):
        papers_to_index(small)


def test_a_wrong_path_changes_nothing(small: Settings, user_papers: list[Paper], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"mnie\.jsonl"):
        papers_to_index(small, [tmp_path / "mnie.jsonl"])
    assert Index.open(small).papers() == user_papers


def without_paths(settings: Settings) -> None:
    edit_manifest(settings, paths=None)


def claims_the_packaged_corpus(settings: Settings) -> None:
    edit_manifest(settings, paths=[])  # as version 0.1 did for papers that a program passed in


def renamed_manifest(settings: Settings) -> None:
    path = manifest_path(settings)
    path.rename(path.with_name("manifest-of-mine.json"))


def corrupt_manifest(settings: Settings) -> None:
    damage(manifest_path(settings), "cut")


def missing_manifest(settings: Settings) -> None:
    manifest_path(settings).unlink()


def missing_pointer(settings: Settings) -> None:
    without_paths(settings)
    (settings.index_path / CURRENT).unlink()


def pointer_to_nowhere(settings: Settings) -> None:
    without_paths(settings)
    (settings.index_path / CURRENT).write_text("20200101-000000-abcdef\n")


def other_columns(settings: Settings) -> None:
    renamed_manifest(settings)
    with sqlite3.connect(current_version(settings.index_path) / "papers.sqlite") as papers:
        papers.execute(
            "CREATE TABLE other AS SELECT abstract, title, paper_id, 'x' AS doi, votes, author_count, date, sources "
            "FROM papers ORDER BY row"
        )
        papers.execute("DROP TABLE papers")
        papers.execute("ALTER TABLE other RENAME TO papers")
    papers.close()


@pytest.mark.parametrize("layout", ["small", "old"])
@pytest.mark.parametrize(
    "change",
    [
        without_paths,
        claims_the_packaged_corpus,
        renamed_manifest,
        corrupt_manifest,
        missing_manifest,
        missing_pointer,
        pointer_to_nowhere,
        other_columns,
    ],
)
def test_a_users_papers_are_never_replaced_by_the_packaged_corpus(
    request: pytest.FixtureRequest, user_papers: list[Paper], layout: str, change: Callable[[Settings], None]
) -> None:
    settings: Settings = request.getfixturevalue(layout)
    change(settings)
    source = papers_to_index(settings)
    assert (source.papers, source.paths) == (user_papers, None)
    assert "the papers stored in the index are used" in source.notes[0]
    try:
        assert Assistant.open(settings).papers() == user_papers
    except IndexCorruptError as error:
        assert f"--index {settings.index_path}" in error.hint
    assert papers_to_index(settings).papers == user_papers


@pytest.mark.parametrize("lost", ["papers.sqlite", ""], ids=["papers", "every-version"])
def test_if_neither_files_nor_papers_are_left_the_command_stops(
    small: Settings, user_papers: list[Paper], lost: str
) -> None:
    version = current_version(small.index_path)
    if lost:
        damage(version / lost, "cut")
    else:
        shutil.rmtree(small.index_path / VERSIONS)
    with pytest.raises(IndexCorruptError) as caught:
        papers_to_index(small)
    assert f"rag index PATH --index {small.index_path}" in caught.value.hint
    with pytest.raises(IndexCorruptError):
        Assistant.open(small).papers()
