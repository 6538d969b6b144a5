"""Building, opening and trusting an index."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from rag.assistant import Assistant
from rag.encoder import DocumentEncoder, QueryEncoder
from rag.errors import IndexDamaged, IndexLocked, IndexMissing, IndexUnfit, RagError
from rag.index import Index, Report, build, indexed_paths
from rag.index.chroma import COLLECTION, Reader, _Bindings, _Client, client, passage_text
from rag.index.store import CURRENT, GENERATIONS, generation
from rag.papers import Paper
from rag.settings import Settings

QUESTIONS = ["what mitigates forgetting?", "How are rewards verified?", "multilingual image embeddings"]


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


def found(settings: Settings, question: str = QUESTIONS[0]) -> list[tuple[str, float]]:
    return [(h.paper.paper_id, round(h.score, 5)) for h in Assistant.open(settings).search(question).hits]


def edit_passport(settings: Settings, **changes: Any) -> None:
    path = generation(settings.index_path) / "passport.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def watch_encoding(monkeypatch: pytest.MonkeyPatch, seen: Callable[[list[str]], None]) -> None:
    """Call `seen` with the texts of every batch the document encoder is about to embed."""
    encode, with_tokens = DocumentEncoder.encode, DocumentEncoder.encode_with_tokens

    def watched(self: DocumentEncoder, texts: list[str], query: bool = False) -> Any:
        if not query:  # queries are the probes of the passport
            seen(texts)
        return encode(self, texts, query)

    def watched_with_tokens(self: DocumentEncoder, texts: list[str]) -> Any:
        seen(texts)
        return with_tokens(self, texts)

    monkeypatch.setattr(DocumentEncoder, "encode", watched)
    monkeypatch.setattr(DocumentEncoder, "encode_with_tokens", watched_with_tokens)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is embedded from now on."""
    texts: list[str] = []
    watch_encoding(monkeypatch, texts.extend)
    return texts


# --- what the index holds --------------------------------------------------------------------------


def test_every_paper_is_indexed_as_it_was_read(assistant: Assistant, corpus: list[Paper]) -> None:
    assert assistant.index.papers() == corpus
    assert len(assistant.index) == 539


def test_every_word_of_every_abstract_is_in_a_passage_within_the_window(
    assistant: Assistant, documents: DocumentEncoder
) -> None:
    for record in assistant.index.records():
        abstract, end = record.paper.abstract, 0
        for a, b in record.passages:
            assert not abstract[end:a].strip()
            assert documents.token_count(passage_text(record.paper, a, b)) + 2 <= 512
            end = b
        assert not abstract[end:].strip()


def test_stored_sentences_are_spans_with_the_models_own_vectors(
    assistant: Assistant, documents: DocumentEncoder
) -> None:
    record = assistant.index.records([7])[0]
    sentences = [record.paper.abstract[a:b] for a, b in record.sentences]
    assert " ".join(sentences) == record.paper.abstract
    cosines = (documents.encode(sentences) * assistant.index.sentence_vectors(record)).sum(axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize(
    ("title", "abstracts"),
    [("A long paper", 14), ("A title without end " * 200, 1)],
    ids=["long-abstract", "title-beyond-the-window"],
)
def test_the_last_sentence_of_a_very_long_paper_is_found_by_dense_alone(
    corpus: list[Paper], six: list[Paper], documents: DocumentEncoder, tmp_path: Path, title: str, abstracts: int
) -> None:
    body = " ".join(p.abstract for p in corpus[100 : 100 + abstracts])
    paper = Paper("long", title, f"{body} Zebrafish larvae regrow their caudal fins under cold blue light.")
    assert documents.token_count(f"{paper.title} {paper.abstract}") > 900
    settings = Settings(index_dir=str(tmp_path), dense_weight=1.0, window_weight=0.0, k=1)
    build([six[0], six[5], paper], settings)
    assistant = Assistant.open(settings)
    (hit,) = assistant.search("Which fish regrow their tail fins under blue light?").hits
    assert hit.paper.paper_id == "long" and "Zebrafish" in hit.passage.text
    (record,) = assistant.index.find(["long"])
    longest = max(documents.token_count(passage_text(paper, a, b)) for a, b in record.passages)
    assert longest + 2 <= 512, "the end of this passage is invisible to the encoder"


def test_any_llama_index_user_can_open_the_collection(settings: Settings, assistant: Assistant) -> None:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore

    class Embedding(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return assistant.retriever.encoder.encode(query).tolist()

        _get_text_embedding = _get_query_embedding

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    collection = client(generation(settings.index_path) / "chroma").get_collection(COLLECTION)
    store = ChromaVectorStore(chroma_collection=collection)
    theirs = VectorStoreIndex.from_vector_store(store, embed_model=Embedding())
    nodes = theirs.as_retriever(similarity_top_k=3).retrieve(QUESTIONS[0])
    ours = assistant.index.vectors.nearest(assistant.retriever.encoder.encode(QUESTIONS[0]), 3)
    assert [n.node.node_id for n in nodes] == list(ours)
    for node in nodes:
        (record,) = assistant.index.find([node.node.metadata["paper_id"]])
        assert node.node.ref_doc_id == record.paper.paper_id
        assert node.node.get_content() == passage_text(
            record.paper, node.node.metadata["start"], node.node.metadata["end"]
        )


# --- Chroma's private bindings ---------------------------------------------------------------------


def test_the_bindings_give_the_public_clients_answers(settings: Settings, queries: QueryEncoder) -> None:
    folder = generation(settings.index_path) / "chroma"
    bindings, public = _Bindings(folder), _Client(folder)
    for question in QUESTIONS:
        vector = queries.encode(question)
        (ids, distances), (public_ids, public_distances) = bindings.query(vector, 50), public.query(vector, 50)
        assert ids == public_ids
        np.testing.assert_allclose(distances, public_distances, atol=1e-6)
        (got, vectors), (public_got, public_vectors) = bindings.get(ids[:9]), public.get(ids[:9])
        assert got == public_got
        np.testing.assert_allclose(np.asarray(vectors), public_vectors, atol=1e-7)


def test_distances_are_one_minus_the_cosine(settings: Settings, queries: QueryEncoder) -> None:
    reader = Reader(generation(settings.index_path) / "chroma", 384)
    vector = queries.encode(QUESTIONS[0])
    near = reader.nearest(vector, 20)
    exact = reader.cosines(vector, list(near))
    assert near == pytest.approx(exact, abs=1e-5) and list(near.values()) == sorted(near.values(), reverse=True)


@pytest.mark.parametrize("method", ["__init__", "get", "query"])
def test_the_public_client_takes_over_when_the_bindings_misbehave(
    settings: Settings, queries: QueryEncoder, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    folder = generation(settings.index_path) / "chroma"
    vector = queries.encode(QUESTIONS[0])
    expected = Reader(folder, 384).nearest(vector, 5)

    def broken(*_: Any) -> Any:
        raise TypeError("another signature in this version")

    monkeypatch.setattr(_Bindings, method, broken)
    reader = Reader(folder, 384)
    assert reader.nearest(vector, 5) == pytest.approx(expected, abs=1e-6)
    assert reader.cosines(vector, list(expected)) == pytest.approx(expected, abs=1e-5)


# --- the passport ----------------------------------------------------------------------------------


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
def test_an_index_made_otherwise_names_the_field_and_the_command(
    small: Settings, field: str, changes: dict[str, Any]
) -> None:
    edit_passport(small, **changes)
    with pytest.raises(IndexUnfit) as caught:
        Index.open(small)
    assert re.search(rf"\b{field}\b", caught.value.message) and "rag index" in caught.value.hint


def test_touched_but_equal_weights_still_fit(small: Settings) -> None:
    edit_passport(small, weights_stamp="0-0")
    assert len(found(small)) == 5


def test_the_command_an_unfit_index_names_mends_it(small: Settings, six: list[Paper]) -> None:
    before = found(small)
    edit_passport(small, schema=0)
    build(six, small)
    assert found(small) == before


@pytest.mark.parametrize("changes", [{"schema": 0}, {"max_tokens": 256}])
def test_an_unfit_index_still_knows_which_papers_to_rebuild_from(small: Settings, changes: dict[str, Any]) -> None:
    edit_passport(small, paths=["/some/papers"], **changes)
    assert indexed_paths(small) == ["/some/papers"]


# --- damage ----------------------------------------------------------------------------------------


def damaged_files() -> list[Any]:
    files = ["passport.json", "papers.sqlite", "sentences.npy", "chroma/chroma.sqlite3", "chroma/*/data_level0.bin"]
    files += [
        "tokens.int8",
        "tokens.sentence.int16",
        "projection.npy",
        "chroma/*/header.bin",
        "lexical/stems.data.npy",
        "lexical/pairs.hashes.npy",
        "lexical/words.txt",
    ]
    ways = ["removed", "emptied", "cut", "overwritten"]
    pairs = [(f, w) for f in files for w in ways]
    silent = [("lexical/words.txt", "emptied"), ("lexical/words.txt", "cut")]  # fewer words to correct to, no more
    return [pytest.param(f, w, id=f"{Path(f).name}-{w}") for f, w in pairs if (f, w) not in silent]


@pytest.mark.parametrize(("file", "how"), damaged_files())
def test_a_damaged_file_is_reported_as_damage_or_does_not_matter(small: Settings, file: str, how: str) -> None:
    expected = found(small, "mitigatng forgetting")
    (path,) = generation(small.index_path).glob(file)
    damage(path, how)
    try:
        assert found(small, "mitigatng forgetting") == expected
    except IndexDamaged as error:
        assert "\n" not in str(error) and error.hint


@pytest.mark.parametrize("how", ["removed", "emptied", "cut", "overwritten"])
def test_without_a_readable_pointer_there_is_no_index_or_a_damaged_one(small: Settings, how: str) -> None:
    damage(small.index_path / CURRENT, how)
    with pytest.raises(IndexMissing if how == "removed" else IndexDamaged):
        Index.open(small)


def test_a_damaged_index_is_mended_by_building_again(small: Settings, six: list[Paper]) -> None:
    before = found(small)
    damage(generation(small.index_path) / "papers.sqlite", "cut")
    build(six, small, rebuild=True)
    assert found(small) == before


@pytest.mark.parametrize("file", ["passport.json", "papers.sqlite", "chroma/chroma.sqlite3", "sentences.npy"])
def test_building_over_a_damaged_index_mends_it_without_rebuild(small: Settings, six: list[Paper], file: str) -> None:
    before = found(small)
    damage(generation(small.index_path) / file, "cut")
    build(six[:-1], small)
    build(six, small)
    assert found(small) == before


def test_a_folder_of_something_else_is_left_alone(six: list[Paper], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    for use in (Index.open, lambda settings: build(six, settings)):
        with pytest.raises(IndexDamaged, match="other files"):
            use(Settings(index_dir=str(tmp_path)))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_where_the_index_should_be_is_named(six: list[Paper], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    for use in (Index.open, lambda settings: build(six, settings)):
        with pytest.raises(IndexDamaged, match="is a file"):
            use(Settings(index_dir=str(path)))


# --- building step by step -------------------------------------------------------------------------


def test_building_again_embeds_nothing_and_changes_nothing(
    small: Settings, six: list[Paper], embedded: list[str]
) -> None:
    before = generation(small.index_path)
    report = build(six, small)
    assert report.up_to_date and report.unchanged == 6
    assert embedded == [] and generation(small.index_path) == before


def test_only_new_and_changed_papers_are_embedded_and_removed_ones_go(
    small: Settings, six: list[Paper], corpus: list[Paper], embedded: list[str]
) -> None:
    old = {r.paper.paper_id: Index.open(small).sentence_vectors(r) for r in Index.open(small).records()}
    changed = replace(six[0], abstract=six[0].abstract + " Wholly new closing words.")
    papers = [corpus[300], *six[4:0:-1], changed]  # one new, four kept in another order, one changed, six[5] removed
    report = build(papers, small)
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
    assert six[5].paper_id not in dict(found(small, six[5].title))
    assert found(small, "wholly new closing words")[0][0] == changed.paper_id


def test_an_index_grown_step_by_step_answers_like_one_built_at_once(
    six: list[Paper], tmp_path: Path, small: Settings
) -> None:
    grown = Settings(index_dir=str(tmp_path / "grown"))
    build(six[3:], grown)
    build(six, grown)
    for question in QUESTIONS:
        assert dict(found(grown, question)) == pytest.approx(dict(found(small, question)), abs=1e-3)


@pytest.mark.parametrize("setting", [{"bm25_k1": 0.9}, {"title_repeat": 0}])
def test_a_lexical_setting_needs_no_new_embedding(
    small: Settings, six: list[Paper], embedded: list[str], setting: dict[str, Any]
) -> None:
    other = replace(small, **setting)
    report = build(six, other)
    assert report.unchanged == 6 and embedded == []
    assert len(found(other)) == 5
    with pytest.raises(IndexUnfit, match=next(iter(setting))):
        Index.open(small)


def test_new_metadata_is_stored_without_a_new_embedding(small: Settings, six: list[Paper], embedded: list[str]) -> None:
    papers = [replace(six[0], votes=99, date="2030-01-01"), *six[1:]]
    build(papers, small)
    assert embedded == [] and Index.open(small).papers() == papers


def test_other_weights_mean_every_paper_is_embedded_again(
    small: Settings, six: list[Paper], embedded: list[str]
) -> None:
    edit_passport(small, weights="0" * 64, weights_stamp="0-0")
    assert build(six, small).unchanged == 0
    assert {p.abstract for p in six} <= {text.partition("\n")[2] for text in embedded}


def test_rebuild_embeds_everything_again(small: Settings, six: list[Paper], embedded: list[str]) -> None:
    assert build(six, small, rebuild=True).added == 6
    assert len(embedded) > 6


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), KeyboardInterrupt(), OSError(28, "disk full")])
def test_a_failure_while_building_leaves_the_old_index_answering(
    small: Settings, six: list[Paper], corpus: list[Paper], monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    before, old = found(small), generation(small.index_path)
    calls = iter(range(100))

    def fail_in_the_second_batch(texts: list[str]) -> None:
        if next(calls) == 2:
            raise failure

    watch_encoding(monkeypatch, fail_in_the_second_batch)
    monkeypatch.setattr(sys.modules["rag.index.build"], "BATCH", 2)  # papers
    with pytest.raises(IndexDamaged if isinstance(failure, OSError) else type(failure)):
        build([*six, *corpus[200:204]], small)
    assert generation(small.index_path) == old and found(small) == before
    assert [p.name for p in (small.index_path / GENERATIONS).iterdir()] == [old.name]
    monkeypatch.undo()
    assert build([*six, corpus[200]], small).added == 1  # and the lock is free again


def test_old_generations_are_swept_after_the_swap(small: Settings, six: list[Paper]) -> None:
    (small.index_path / GENERATIONS / "left-by-a-crash").mkdir()
    build(six[:5], small)
    assert list((small.index_path / GENERATIONS).iterdir()) == [generation(small.index_path)]


def test_a_second_writer_is_told_so_and_readers_go_on(small: Settings, six: list[Paper]) -> None:
    before = found(small)
    with FileLock(small.index_path / "lock"):
        with pytest.raises(IndexLocked):
            build(six[:3], small)
        assert found(small) == before
    assert build(six[:3], small).removed == 3


@pytest.mark.parametrize("used", [True, False], ids=["after-a-search", "before-its-first-search"])
def test_an_open_reader_answers_from_its_generation_while_a_new_one_is_swapped_in(
    small: Settings, six: list[Paper], used: bool
) -> None:
    expected = found(small, "mitigatng forgetting"), found(small, six[5].title)
    reader = Assistant.open(small)
    if used:
        reader.search("rewards")
    build(six[:3], small)
    got = tuple(
        [(h.paper.paper_id, round(h.score, 5)) for h in reader.search(question).hits]
        for question in ("mitigatng forgetting", six[5].title)
    )
    assert got == expected
    assert six[5].paper_id not in dict(found(small, six[5].title))


def test_ids_and_texts_of_any_kind_survive(small: Settings, six: list[Paper]) -> None:
    odd = [
        Paper("a#1", "Hash # in the id", "Walrus tusks grow slowly."),
        Paper("a", "Same start", "Penguins huddle in storms."),
        Paper("עברית 🔥", "שלום 🔥", "טקסט בעברית. 🔥"),
        Paper("titleonly", "Only a title about narwhals", ""),
        Paper("nul", "Nul", "before\x00after the zero byte."),
    ]
    report: Report = build([*six, *odd], small)
    assert report.added == 5 and Index.open(small).papers() == [*six, *odd]
    assert found(small, "walrus tusks")[0][0] == "a#1"
    assert found(small, "narwhals")[0][0] == "titleonly"


def test_a_corpus_of_one_paper_without_index_terms_is_searchable(tmp_path: Path) -> None:
    settings = Settings(index_dir=str(tmp_path))
    build([Paper("x", "the of", "It is.")], settings)
    assert [paper for paper, _ in found(settings)] == ["x"]


@pytest.mark.parametrize("use", [Index.open, Assistant.open])
def test_a_missing_index_names_the_command(tmp_path: Path, use: Callable[[Settings], Any]) -> None:
    with pytest.raises(IndexMissing, match="rag index"):
        use(Settings(index_dir=str(tmp_path / "none")))


def test_a_generation_lost_on_disk_is_damage(small: Settings) -> None:
    shutil.rmtree(small.index_path / GENERATIONS)
    with pytest.raises(RagError):
        Index.open(small)
