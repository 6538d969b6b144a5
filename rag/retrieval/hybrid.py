"""Hybrid retrieval: dense and BM25 candidates, fused by score and reranked.

    score = w * dense / max(dense) + (1 - w) * bm25 / max(bm25)

over the union of the two candidate lists, with both scores exact for every candidate (convex combination of
normalised scores: Bruch, Gai & Ingber 2023, ACM TOIS 42(1)). `dense` is the cosine of the paper's best passage,
mixed with that of its best window of sentences; `bm25` is BM25 over stems plus stem bigrams. The top papers are
then reranked with the reranker's score v as a third part, normalised by its maximum too:
(score + v * rerank / max(rerank)) / (1 + v).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from rag.encoders.factory import query_encoder
from rag.encoders.protocols import TokenEmbeddings, TokenEncoder, Vectors
from rag.index.papers_db import Record
from rag.index.passages import paper_id_of
from rag.index.store import Index
from rag.retrieval.late_interaction import LateInteractionReranker, maxsim
from rag.retrieval.protocols import Reranker, SentenceHit
from rag.retrieval.question import clean_question
from rag.retrieval.spelling import corrected
from rag.settings import RetrievalSettings
from rag.text.terms import terms
from rag.types import Hit, Paper, Passage, SearchResult, Span

RERANK_DEPTH = 50  # papers that are reranked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A paper with its exact scores, and the ordinal of its best passage."""

    record: Record
    dense: float
    bm25: float
    passage: int


class HybridRetriever:
    """Searches one open index.

    `encoder` replaces the encoder of the index's model. `reranker` replaces late interaction in the ranking;
    hits have their late-interaction score either way, because answerability needs it.
    """

    def __init__(
        self,
        index: Index,
        settings: RetrievalSettings,
        *,
        encoder: TokenEncoder | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        self._index, self._settings = index, settings
        self._replacement_encoder = encoder
        self._encode = lru_cache(maxsize=16)(self._encode_uncached)
        self._late_interaction = LateInteractionReranker(index, lambda text: self._encode(text)[1])
        self._reranker: Reranker = reranker or self._late_interaction
        _ = index.vectors  # open it now: a build may replace this version before the first search

    @cached_property
    def encoder(self) -> TokenEncoder:
        """The encoder of queries, loaded on first use."""
        manifest = self._index.manifest
        return self._replacement_encoder or query_encoder(
            manifest.embedding_model, manifest.max_tokens, manifest.numpy_queries
        )

    def _encode_uncached(self, text: str) -> tuple[Vectors, TokenEmbeddings]:
        return self.encoder.encode_with_tokens(text)

    def search(self, question: str, *, query: str | None = None, k: int | None = None) -> SearchResult:
        """The `k` best papers for `query` (the question itself by default), best first.

        Raises UsageError for an empty or oversized question, IndexCorruptError if the index cannot be read.
        """
        k = k or self._settings.k
        question = clean_question(question)
        query = clean_question(query or question)
        corrections: tuple[tuple[str, str], ...] = ()
        if self._settings.correct_spelling:
            query, corrections = corrected(query, self._index.bm25, self.encoder.is_vocabulary_word)
        hits = self._ranked(query, self._candidates(query, k), k)
        return SearchResult(question=question, query=query, corrections=corrections, hits=hits)

    def sentences(self, search: SearchResult) -> list[SentenceHit]:
        """Every sentence of the hits' abstracts, in reading order."""
        query_terms = set(terms(search.query))
        query_tokens = self._late_interaction.query_tokens(search.query)
        sentences: list[SentenceHit] = []
        records = self._index.find([hit.paper.paper_id for hit in search.hits])
        for hit, record in zip(search.hits, records, strict=True):
            weights = {term: self._index.bm25.idf(term) for term in query_terms - set(terms(hit.paper.title))}
            total = sum(weights.values()) or 1.0
            sentence_of, embeddings = self._index.token_sentences(record), self._index.token_embeddings(record)
            vectors = self._index.sentence_vectors(record)
            last = max(len(record.sentences) - 1, 1)
            for i, ((start, end), vector) in enumerate(zip(record.sentences, vectors, strict=True)):
                text = hit.paper.abstract[start:end]
                covered = sum(weights.get(term, 0.0) for term in set(terms(text))) / total
                sentences.append(
                    SentenceHit(
                        hit=hit,
                        span=Span(text=text, start=start, end=end),
                        late_interaction=maxsim(query_tokens, embeddings[sentence_of == i]),
                        coverage=covered,
                        position=i / last,
                        vector=vector,
                    )
                )
        return sentences

    def similar(self, paper: Paper, n: int = 5) -> list[tuple[Paper, float]]:
        """The `n` papers nearest to `paper` by the mean of its sentence vectors, with their cosines, best first."""
        records = self._index.find([paper.paper_id])
        if not records or not records[0].sentences:
            return []
        mean = self._index.sentence_vectors(records[0]).mean(axis=0)
        limit = min(4 * n, self._index.manifest.passages)
        best: dict[str, float] = {}
        for passage_id, cosine in self._index.vectors.nearest(mean / np.linalg.norm(mean), limit).items():
            best.setdefault(paper_id_of(passage_id), cosine)
        best.pop(paper.paper_id, None)
        return [(record.paper, best[record.paper.paper_id]) for record in self._index.find(list(best)[:n])]

    def _candidates(self, query: str, k: int) -> list[_Candidate]:
        """The union of the dense and BM25 candidate lists, with exact scores, by row of the index."""
        index, depth = self._index, min(max(self._settings.depth, k), len(self._index))
        vector = self._encode(query)[0]
        cosines = index.vectors.nearest(vector, min(depth, index.manifest.passages))
        bm25 = index.bm25.scores(query, self._settings.bigram_weight)
        top = np.argpartition(-bm25, depth - 1)[:depth]
        rows = {int(row) for row in top if bm25[row] > 0}
        # Passage ids are looked up as papers, because ids of papers are free text.
        records = {r.row: r for r in index.find(list({paper_id_of(passage_id) for passage_id in cosines}))}
        records |= {r.row: r for r in index.records(sorted(rows - records.keys()))}
        missing = [i for record in records.values() for i in record.passage_ids if i not in cosines]
        cosines |= index.vectors.cosines(vector, missing)
        candidates = []
        for row in sorted(records):
            dense, passage = self._dense(records[row], vector, cosines)
            candidates.append(_Candidate(record=records[row], dense=dense, bm25=float(bm25[row]), passage=passage))
        return candidates

    def _dense(self, record: Record, vector: Vectors, cosines: Mapping[str, float]) -> tuple[float, int]:
        """The dense score of a paper, and the ordinal of its best passage."""
        passages = [cosines[i] for i in record.passage_ids]
        best = max(range(len(passages)), key=passages.__getitem__)
        score = passages[best]
        if record.sentences:
            window = _best_window(self._index.sentence_vectors(record), vector, self._settings.window)
            score += self._settings.window_weight * (window - score)
        return score, best

    def _ranked(self, query: str, candidates: list[_Candidate], k: int) -> tuple[Hit, ...]:
        """The `k` best candidates: fused, the top RERANK_DEPTH reranked."""
        w, v = self._settings.dense_weight, self._settings.late_interaction_weight
        dense, bm25 = _scaled_to_max([c.dense for c in candidates]), _scaled_to_max([c.bm25 for c in candidates])
        fused = [w * d + (1 - w) * b for d, b in zip(dense, bm25, strict=True)]
        order = sorted(range(len(candidates)), key=lambda i: (-fused[i], i))
        top = [candidates[i].record for i in order[:RERANK_DEPTH]]
        below = [0.0] * (len(order) - len(top))
        late_interaction = [*self._late_interaction.score(query, top), *below]
        is_default = self._reranker is self._late_interaction
        reranked = late_interaction if is_default else [*self._reranker.score(query, top), *below]
        scores = [(fused[i] + v * r) / (1 + v) for i, r in zip(order, _scaled_to_max(reranked), strict=True)]
        # Equal scores keep the order of the corpus.
        best = sorted(range(len(order)), key=lambda i: (-scores[i], order[i]))[:k]
        return tuple(
            _hit(rank, candidates[order[i]], scores[i], late_interaction[i]) for rank, i in enumerate(best, start=1)
        )


def _hit(rank: int, candidate: _Candidate, score: float, late_interaction: float) -> Hit:
    record = candidate.record
    start, end = record.passages[candidate.passage]
    return Hit(
        rank=rank,
        paper=record.paper,
        score=score,
        dense=candidate.dense,
        bm25=candidate.bm25,
        late_interaction=late_interaction,
        passage=Passage(
            passage_id=record.passage_id(candidate.passage), start=start, end=end, text=record.paper.abstract[start:end]
        ),
    )


def _scaled_to_max(scores: Sequence[float]) -> list[float]:
    """`scores` without negative ones, divided by the highest. An all-zero list stays zero, which also avoids 0/0."""
    top = max([*scores, 0.0]) or 1.0
    return [max(score, 0.0) / top for score in scores]


def _best_window(sentences: Vectors, vector: Vectors, size: int) -> float:
    """The highest cosine of `vector` to the mean of up to `size` adjacent rows of `sentences`."""
    size = min(size, len(sentences))
    sums = np.cumsum(np.vstack([np.zeros_like(sentences[:1]), sentences]), axis=0)
    windows = sums[size:] - sums[:-size]
    return float((windows @ vector / np.maximum(np.linalg.norm(windows, axis=1), 1e-9)).max())
