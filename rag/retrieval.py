"""`Hit` and `Search`; hybrid retrieval: dense and lexical lists, fused by score.

    score = w * dense / max(dense) + (1 - w) * lexical / max(lexical)

over the union of the two top lists, with both scores exact for every candidate (convex combination of
normalised scores: Bruch, Gai & Ingber 2023, ACM TOIS 42(1)). `dense` is the cosine of the paper's best
passage, mixed with that of its best window of sentences; `lexical` is BM25 over stems plus stem pairs.
The best papers are then ranked anew with `rag.interaction`'s nearness v as a third part, max-normalised
likewise: (score + v * nearness / max(nearness)) / (1 + v).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rag.encoder import Encoder, Vectors, query_encoder
from rag.errors import UsageError
from rag.index.store import Index, Record
from rag.interaction import Pieces, content, content_pieces, nearness
from rag.papers import Paper
from rag.settings import Settings
from rag.text import STOPWORDS, fold, terms, words

RERANKED = 50  # papers ranked anew by late interaction
LONGEST_QUESTION = 20_000  # characters; beyond this it is a document, not a question
_CONTROL = re.compile(
    "\x1b\\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\ud800-\udfff\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of whole sentences of one abstract: `text == paper.abstract[start:end]`."""

    passage_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved paper. `score` in [0, 1] is fused; `dense` and `nearness` are cosines, `lexical` is BM25."""

    rank: int
    paper: Paper
    score: float
    dense: float
    lexical: float
    passage: Passage
    nearness: float = 0.0  # 0 too for a paper beyond those ranked anew


@dataclass(frozen=True, slots=True)
class Search:
    """What was asked, what was searched for (after spelling and history), and what was found."""

    question: str
    query: str
    corrections: tuple[tuple[str, str], ...]
    hits: tuple[Hit, ...]
    pieces: Pieces = field(repr=False, compare=False)  # of `query`

    @property
    def answerability(self) -> float:
        """How far the hits are about the query, in [-1, 1]: the mean of the best dense score and nearness.

        Shared words are left out: a question that names a paper shares many with it, whether or not the
        paper answers.
        """
        dense, near = (hit.dense for hit in self.hits), (hit.nearness for hit in self.hits)
        return (max(dense, default=0.0) + max(near, default=0.0)) / 2

    def as_json(self, id: str | None = None) -> dict[str, Any]:
        """The documented JSON object of `rag search --json`."""
        return {
            "id": id,
            "question": self.question,
            "query": self.query,
            "hits": [
                {
                    "rank": hit.rank,
                    "paper_id": hit.paper.paper_id,
                    "title": hit.paper.title,
                    "score": round(hit.score, 6),
                    "dense": round(hit.dense, 6),
                    "lexical": round(hit.lexical, 6),
                    "nearness": round(hit.nearness, 6),
                    "passage": hit.passage.text,
                }
                for hit in self.hits
            ],
        }


@dataclass(frozen=True, slots=True)
class SentenceHit:
    """One sentence of a hit's abstract: `text == hit.paper.abstract[start:end]`.

    `nearness` to the query's word pieces; `coverage` in [0, 1], the IDF-weighted share of the query's terms
    beyond the title's that it holds; `depth` in [0, 1], 0 for the first sentence and 1 for the last;
    `vector` (dimension,), unit.
    """

    hit: Hit
    start: int
    end: int
    text: str
    nearness: float
    coverage: float
    depth: float
    vector: Vectors = field(repr=False, compare=False)


def clean_question(text: str) -> str:
    """`text` without control characters and surplus white space.

    Raises UsageError if nothing is left to search for, or if it is too long to be a question.
    """
    cleaned = " ".join(_CONTROL.sub(" ", text).split())
    if not any(c.isalnum() for c in cleaned):
        raise UsageError("The question is empty.", 'Ask something: rag ask "what mitigates forgetting?"')
    if len(cleaned) > LONGEST_QUESTION:
        raise UsageError(
            f"The question has {len(cleaned):,} characters; the limit is {LONGEST_QUESTION:,}.", "Shorten it."
        )
    return cleaned


class Retriever:
    """Searches one open index."""

    def __init__(self, index: Index, settings: Settings) -> None:
        self.index, self.settings = index, settings
        _ = index.vectors  # opened now: another generation may take the folder's place before the first search

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of queries, loaded on first use."""
        passport = self.index.passport
        return query_encoder(passport.embedding_model, passport.max_tokens, passport.numpy_queries)

    def search(self, question: str, query: str | None = None, k: int | None = None) -> Search:
        """The `k` best papers for `query` (the question itself by default), best first.

        Raises UsageError for an empty or oversized question, IndexDamaged if the index cannot be read.
        """
        question = clean_question(question)
        query, corrections = self._corrected(clean_question(query or question))
        vector, read = self.encoder.read(query)
        pieces = content_pieces(content(query), read.offsets, self.index.project(read.states), self.index.lexical.idf)
        depth = min(max(self.settings.depth, k or self.settings.k), len(self.index))
        near = self.index.vectors.nearest(vector, min(depth, self.index.passport.passages))
        lexical = self.index.lexical.scores(query, self.settings.bigram_weight)
        top = np.argpartition(-lexical, depth - 1)[:depth]
        # Passage ids are looked up as papers, because ids of papers are free text.
        rows = {int(row) for row in top if lexical[row] > 0}
        records = {r.row: r for r in self.index.find(list({passage.rpartition("#")[0] for passage in near}))}
        records |= {r.row: r for r in self.index.records(sorted(rows - records.keys()))}
        hits = self._fuse(vector, pieces, records, near, lexical)[: k or self.settings.k]
        return Search(question, query, corrections, hits, pieces)

    def sentences(self, search: Search) -> list[SentenceHit]:
        """Every sentence of the hits' abstracts, in reading order."""
        asked = set(terms(search.query))
        found: list[SentenceHit] = []
        records = self.index.find([hit.paper.paper_id for hit in search.hits])
        for hit, record in zip(search.hits, records, strict=True):
            rest = {term: self.index.lexical.idf(term) for term in asked - set(terms(hit.paper.title))}
            total = sum(rest.values()) or 1.0
            owner, states = self.index.token_sentences(record), self.index.token_states(record)
            vectors = self.index.sentence_vectors(record)
            last = max(len(record.sentences) - 1, 1)
            for at, ((start, end), vector) in enumerate(zip(record.sentences, vectors, strict=True)):
                text = hit.paper.abstract[start:end]
                near = nearness(search.pieces, states[owner == at])
                covered = sum(rest.get(term, 0.0) for term in set(terms(text))) / total
                found.append(SentenceHit(hit, start, end, text, near, covered, at / last, vector))
        return found

    def neighbours(self, paper: Paper, n: int = 5) -> list[tuple[Paper, float]]:
        """The `n` papers nearest to `paper` by the mean of its sentences, with their cosines, best first."""
        records = self.index.find([paper.paper_id])
        if not records or not records[0].sentences:
            return []
        mean = self.index.sentence_vectors(records[0]).mean(axis=0)
        near = self.index.vectors.nearest(mean / np.linalg.norm(mean), min(4 * n, self.index.passport.passages))
        best: dict[str, float] = {}
        for passage, cosine in near.items():
            best.setdefault(passage.rpartition("#")[0], cosine)
        best.pop(paper.paper_id, None)
        return [(record.paper, best[record.paper.paper_id]) for record in self.index.find(list(best)[:n])]

    def _fuse(
        self, vector: Vectors, pieces: Pieces, records: dict[int, Record], near: dict[str, float], lexical: Vectors
    ) -> tuple[Hit, ...]:
        missing = [i for record in records.values() for i in record.passage_ids if i not in near]
        cosines = near | self.index.vectors.cosines(vector, missing)
        dense: dict[int, float] = {}
        best: dict[int, int] = {}
        for row, record in records.items():
            passages = [cosines[i] for i in record.passage_ids]
            best[row] = max(range(len(passages)), key=passages.__getitem__)
            dense[row] = passages[best[row]]
            if record.sentences:
                window = _best_window(self.index.sentence_vectors(record), vector, self.settings.window)
                dense[row] += self.settings.window_weight * (window - dense[row])
        w = self.settings.dense_weight
        # A list without any score above zero has nothing to say.
        top_dense = max([*dense.values(), 0.0]) or 1.0
        top_lexical = max([*(float(lexical[row]) for row in records), 0.0]) or 1.0
        score = {row: w * max(dense[row], 0.0) / top_dense + (1 - w) * lexical[row] / top_lexical for row in records}
        ranked = sorted(records, key=lambda row: (-score[row], row))
        close = {row: nearness(pieces, self.index.token_states(records[row])) for row in ranked[:RERANKED]}
        v, top_close = self.settings.interaction_weight, max([*close.values(), 0.0]) or 1.0
        score = {row: (score[row] + v * max(close.get(row, 0.0), 0.0) / top_close) / (1 + v) for row in ranked}
        ranked.sort(key=lambda row: (-score[row], row))
        return tuple(
            Hit(
                rank,
                records[row].paper,
                float(score[row]),
                dense[row],
                float(lexical[row]),
                _passage(records[row], best[row]),
                close.get(row, 0.0),
            )
            for rank, row in enumerate(ranked, start=1)
        )

    def _corrected(self, query: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """`query` with unknown words replaced by the corpus's nearest word, and what was replaced."""
        if not self.settings.correct_spelling:
            return query, ()
        corrections: dict[str, str] = {}
        for word in dict.fromkeys(_LETTERS.findall(query)):
            folded = fold(word)
            if folded in STOPWORDS or words(folded) != [folded]:
                continue
            if (better := self.index.lexical.correct(folded)) and not self.encoder.knows(folded):
                corrections[word] = better
        for word, better in corrections.items():
            query = re.sub(rf"\b{re.escape(word)}\b", better, query)
        return query, tuple(corrections.items())


def _best_window(sentences: Vectors, vector: Vectors, size: int) -> float:
    """The highest cosine of `vector` to the mean of up to `size` adjacent rows of `sentences`."""
    size = min(size, len(sentences))
    sums = np.cumsum(np.vstack([np.zeros_like(sentences[:1]), sentences]), axis=0)
    windows = sums[size:] - sums[:-size]
    return float((windows @ vector / np.maximum(np.linalg.norm(windows, axis=1), 1e-9)).max())


def _passage(record: Record, ordinal: int) -> Passage:
    start, end = record.passages[ordinal]
    return Passage(record.passage_id(ordinal), start, end, record.paper.abstract[start:end])
