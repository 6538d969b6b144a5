"""Hybrid retrieval: BM25, fusion, reranking, spelling and the question."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import bm25s
import numpy as np
import pytest

from rag.assistant import Assistant
from rag.encoders.numpy_bert import NumpyBertEncoder
from rag.errors import UsageError
from rag.index.chroma import COLLECTION, client
from rag.index.papers_db import Record
from rag.index.store import Index
from rag.retrieval.hybrid import RERANK_DEPTH, HybridRetriever
from rag.retrieval.question import clean_question
from rag.settings import Settings
from rag.text.terms import bigrams, terms
from rag.types import Paper

QUESTIONS = [
    "what mitigates forgetting?",
    "Which datasets evaluate instruction tuning of multilingual models?",
    "reinforcement learning with verifiable rewards",
    "How does domain adaptation help semantic segmentation of street scenes?",
]


def tuned(assistant: Assistant, **changes: Any) -> HybridRetriever:
    """A retriever on the same open index with other settings."""
    retriever = assistant.configured(assistant.settings.replace(**changes)).retriever
    assert isinstance(retriever, HybridRetriever)
    return retriever


# --- BM25 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(corpus: list[Paper]) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """bm25s itself with the default settings: (scores over stems, scores over stem pairs)."""

    def model(tokenise: Callable[[str], list[str]]) -> bm25s.BM25:
        index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
        index.index([tokenise(p.title) * 2 + tokenise(p.abstract) for p in corpus], show_progress=False)
        return index

    def pairs_of(text: str) -> list[str]:
        return bigrams(terms(text))

    stems, pairs = model(terms), model(pairs_of)

    def score(index: bm25s.BM25, tokens: list[str]) -> np.ndarray:
        known = [t for t in tokens if t in index.vocab_dict]
        return index.get_scores(known) if known else np.zeros(len(corpus), np.float32)

    return lambda query: (score(stems, terms(query)), score(pairs, pairs_of(query)))


@pytest.mark.parametrize("question", [*QUESTIONS, "forgetting forgetting learning", "xyzzy"])
def test_scores_are_those_of_bm25s(index: Index, reference: Callable, question: str) -> None:
    stems, pairs = reference(question)
    for weight in (0.0, 0.1, 1.0):
        ours = index.bm25.scores(question, weight)
        np.testing.assert_allclose(ours, stems + weight * pairs, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(
            np.argsort(-ours.round(4), kind="stable")[:20],
            np.argsort(-(stems + weight * pairs).round(4), kind="stable")[:20],
        )


def test_document_frequency_counts_papers(index: Index, corpus: list[Paper]) -> None:
    expected = sum("forget" in terms(f"{p.title}. {p.abstract}") for p in corpus)
    assert index.bm25.document_frequency("forget") == expected > 5
    assert index.bm25.document_frequency("xyzzy") == 0


# --- fusion ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passages(index: Index) -> dict[str, np.ndarray]:
    """Every passage's vector, by the public client."""
    stored = client(index.folder / "chroma").get_collection(COLLECTION).get(include=["embeddings"])
    return dict(zip(stored["ids"], np.asarray(stored["embeddings"]), strict=True))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(("w", "share", "window", "depth"), [(0.5, 0.5, 3, 10), (0.5, 0.0, 1, 25), (0.8, 0.3, 99, 5)])
def test_hits_are_the_best_of_the_exactly_scored_union_of_both_top_lists(
    assistant: Assistant,
    index: Index,
    passages: dict[str, np.ndarray],
    question: str,
    w: float,
    share: float,
    window: int,
    depth: int,
) -> None:
    retriever = tuned(
        assistant,
        dense_weight=w,
        window_weight=share,
        window=window,
        late_interaction_weight=0.0,
        depth=depth,
        correct_spelling=False,
    )
    search = retriever.search(question, k=5)

    bm25 = index.bm25.scores(question, 0.1)
    question_vector = assistant.encoder.encode(search.query)
    cosine = {i: float(v @ question_vector / np.linalg.norm(v)) for i, v in passages.items()}
    top_passages = sorted(cosine, key=lambda i: -cosine[i])[:depth]
    records = {r.row: r for r in index.records()}
    owner = {i: row for row, r in records.items() for i in r.passage_ids}
    union = {owner[i] for i in top_passages} | {int(r) for r in np.argsort(-bm25)[:depth] if bm25[r] > 0}
    dense = {}
    for row in union:
        best = max(cosine[i] for i in records[row].passage_ids)
        sentences = index.sentence_vectors(records[row])
        last = max(len(sentences) - window, 0)
        means = [sentences[at : at + window].mean(axis=0) for at in range(last + 1)]
        window_cosine = max(float(m @ question_vector / np.linalg.norm(m)) for m in means)
        dense[row] = (1 - share) * best + share * window_cosine
    top_dense, top_bm25 = max(dense.values()), max(bm25[row] for row in union)
    score = {row: w * dense[row] / top_dense + (1 - w) * bm25[row] / top_bm25 for row in union}
    expected = sorted(score, key=lambda row: -score[row])[:5]

    assert [h.paper.paper_id for h in search.hits] == [records[row].paper.paper_id for row in expected]
    assert [h.score for h in search.hits] == pytest.approx([score[row] for row in expected], abs=1e-4)
    assert [h.dense for h in search.hits] == pytest.approx([dense[row] for row in expected], abs=1e-4)
    assert [h.bm25 for h in search.hits] == pytest.approx([bm25[row] for row in expected], abs=1e-4)
    assert [h.rank for h in search.hits] == [1, 2, 3, 4, 5]


def test_the_score_of_a_hit_follows_from_its_parts(assistant: Assistant) -> None:
    hits = tuned(assistant, dense_weight=0.7, late_interaction_weight=0.2).search(QUESTIONS[0], k=539).hits
    assert len(hits) > 500
    dense, bm25, late = (max(getattr(h, part) for h in hits) for part in ("dense", "bm25", "late_interaction"))
    for hit in hits:
        fused = 0.7 * max(hit.dense, 0) / dense + 0.3 * hit.bm25 / bm25
        assert hit.score == pytest.approx((fused + 0.2 * hit.late_interaction / late) / 1.2, abs=1e-5)
    assert [h.late_interaction > 0 for h in hits] == [True] * RERANK_DEPTH + [False] * (len(hits) - RERANK_DEPTH)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_late_interaction_is_the_weighted_mean_of_each_tokens_best_match(
    assistant: Assistant, index: Index, queries: NumpyBertEncoder
) -> None:
    question = "forgetting in vision-language models"
    hit = assistant.search(question).hits[0]
    (record,) = index.find([hit.paper.paper_id])
    tokens = queries.encode_tokens(question)
    question_tokens = index.project(tokens.vectors)
    paper_tokens = index.token_embeddings(record)
    expected, total = 0.0, 0.0
    for (start, end), token in zip(tokens.offsets, question_tokens, strict=True):
        # The weight is that of the word around the token.
        word = next(w for w in re.finditer(r"\w+|\W", question) if w.start() <= start < w.end()).group()
        if stems := terms(word):
            weight = index.bm25.idf(stems[0])
            expected += weight * max(float(token @ other) for other in paper_tokens)
            total += weight
        assert end > start
    assert hit.late_interaction == pytest.approx(expected / total, abs=1e-5)


def test_a_custom_reranker_replaces_late_interaction(index: Index, assistant: Assistant) -> None:
    class ByTitleLength:
        def score(self, query: str, records: Sequence[Record]) -> list[float]:
            return [float(len(record.paper.title)) for record in records]

    settings = assistant.settings.replace(late_interaction_weight=10.0, dense_weight=0.5).retrieval
    retriever = HybridRetriever(index, settings, encoder=assistant.encoder, reranker=ByTitleLength())
    plain = HybridRetriever(index, settings, encoder=assistant.encoder)
    ranked, default = (r.search(QUESTIONS[0], k=RERANK_DEPTH).hits for r in (retriever, plain))
    assert len(ranked[0].paper.title) == max(len(h.paper.title) for h in default)
    late_interaction = {h.paper.paper_id: h.late_interaction for h in default}
    assert all(late_interaction[h.paper.paper_id] == h.late_interaction for h in ranked)


def test_the_passage_of_a_hit_is_the_best_part_of_its_abstract(assistant: Assistant) -> None:
    for hit in assistant.search(QUESTIONS[1], k=20).hits:
        assert hit.passage.text == hit.paper.abstract[hit.passage.start : hit.passage.end]
        assert hit.passage.passage_id.rpartition("#")[0] == hit.paper.paper_id


def test_bm25_and_dense_retrieval_work_alone(assistant: Assistant) -> None:
    bm25 = tuned(assistant, dense_weight=0.0, late_interaction_weight=0.0).search(QUESTIONS[2], k=9).hits
    dense = tuned(assistant, dense_weight=1.0, late_interaction_weight=0.0).search(QUESTIONS[2], k=9).hits
    assert [h.bm25 for h in bm25] == sorted((h.bm25 for h in bm25), reverse=True)
    assert [h.dense for h in dense] == sorted((h.dense for h in dense), reverse=True)


def test_a_question_without_any_known_word_is_searched_by_meaning(assistant: Assistant) -> None:
    search = assistant.search("Vergesslichkeit neuronaler Netze")
    assert len(search.hits) == 5 and all(np.isfinite(h.score) for h in search.hits)


def test_a_title_finds_its_paper(assistant: Assistant, corpus: list[Paper]) -> None:
    first = [assistant.search(p.title, k=1).hits[0].paper == p for p in corpus[::7]]
    assert sum(first) >= 0.98 * len(first)


@pytest.mark.parametrize("spelling", ['T\\"ULU 3', "TÜLU 3", "tulu 3"])
def test_every_spelling_of_tulu_finds_it(assistant: Assistant, spelling: str) -> None:
    assert assistant.search(f"{spelling} training recipes").hits[0].paper.title.startswith("TÜLU 3")


def test_similar_papers_are_other_papers_best_first(assistant: Assistant, corpus: list[Paper]) -> None:
    prop = next(p for p in corpus if p.paper_id.startswith("prop-"))
    near = assistant.similar(prop, 4)
    assert near[0][0].paper_id.startswith("b-prop-") and len(near) == 4 and prop not in [p for p, _ in near]
    assert [c for _, c in near] == sorted((c for _, c in near), reverse=True) and near[0][1] <= 1


# --- spelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "searched"),
    [
        ("what mitigates catastrofic forgetting?", "what mitigates catastrophic forgetting?"),  # not at distance 1
        ("catastrophik forgetting", "catastrophic forgetting"),  # substitution
        ("segmentaton of images", "segmentation of images"),  # deletion
        ("segmenttation of images", "segmentation of images"),  # insertion
        ("segmenattion of images", "segmentation of images"),  # transposition
    ],
)
def test_unknown_words_are_corrected_at_distance_one(assistant: Assistant, query: str, searched: str) -> None:
    expected = query if "catastrofic" in query else searched
    search = assistant.search(query)
    assert search.question == query and search.query == expected
    if expected != query:
        ((old, new),) = search.corrections
        assert old in query and new in searched
    else:
        assert search.corrections == ()


@pytest.mark.parametrize(
    "query",
    [
        "modl trainin",  # 'modl' has four letters; see below for the other
        "forgetting in LoRA",  # known
        "transformer's forgettable",  # another form of a known word
        "GPT4o ab12cdef",  # not letters only
        "which papers explain",  # question words
        "überhaupt",  # no ASCII word
        "the winner of the spring contest",  # English words that are not in the corpus
    ],
)
def test_short_known_and_mixed_words_are_not_corrected(assistant: Assistant, query: str) -> None:
    untouched = {"modl", *query.split()} - {"trainin"}
    assert untouched <= set(assistant.search(query).query.split()) | {"modl"}
    assert not {old for old, _ in assistant.search(query).corrections} & untouched


def test_spelling_can_be_switched_off(assistant: Assistant) -> None:
    assert tuned(assistant, correct_spelling=False).search("segmentaton of images").corrections == ()


# --- the question ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \t\n", "\x00\x07\x1b", "🔥🔥", "?!", "\u202e\u200b"])
def test_a_question_without_letters_or_digits_is_a_usage_error(assistant: Assistant, text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        assistant.search(text)


def test_an_oversized_question_is_a_usage_error(assistant: Assistant) -> None:
    with pytest.raises(UsageError, match=r"1,000,000 characters"):
        assistant.search("a" * 1_000_000)


def test_control_characters_become_spaces_and_other_characters_stay() -> None:
    assert clean_question("what\x00mitigates\r\n\tforgetting\u202e?") == "what mitigates forgetting ?"
    assert clean_question("ما الذي 🔥 é\u0301") == "ما الذي 🔥 é\u0301"


@pytest.mark.parametrize("question", ["ما الذي يخفف من النسيان؟", "🔥 forgetting 🔥", "遺忘", "a " * 9000])
def test_any_other_question_is_searched(assistant: Assistant, question: str) -> None:
    assert len(assistant.search(question).hits) == 5


def test_the_same_question_gets_the_same_hits(assistant: Assistant, settings: Settings) -> None:
    assert assistant.search(QUESTIONS[0]) == Assistant.open(settings).search(QUESTIONS[0])
