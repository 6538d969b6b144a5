"""The values that travel through the program, from `Paper` to `Answer`; all are immutable.

The citation [n] of an answer refers to `context[n - 1]`, the n-th paper that the answerer received. Offsets
count characters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

JSON_SCHEMA = 2  # of the objects that `rag ask --json` and `rag search --json` write
ABSTENTION = "The corpus does not answer this."

Mode = Literal["generative", "extractive", "external"]
Progress = Callable[[int, int], None]  # called with (done, total)
VerdictLabel = Literal["supported", "partial", "unsupported", "miscited", "not_a_claim"]

# --- papers and their parts ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One paper. `date` is ISO 8601 (a year or a full date); `sources` names every file it appeared in."""

    paper_id: str
    title: str
    abstract: str
    sources: tuple[str, ...] = ()
    date: str | None = None
    author_count: int | None = None
    votes: int | None = None

    @property
    def digest(self) -> str:
        """Hash of what is embedded and quoted: equal digests need no new vectors."""
        return hashlib.sha256(f"{self.title}\0{self.abstract}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of one abstract: `text == abstract[start:end]`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage(Span):
    """A run of whole sentences that is embedded as one unit."""

    passage_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Span):
    """The span of the paper cited as [n] that supports a sentence."""

    n: int
    paper_id: str


# --- retrieval ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One retrieved paper.

    `score` in [0, 1] is fused from `dense` and `late_interaction`, which are cosines, and `bm25`.
    `late_interaction` is 0.0 for papers below the reranking cut-off.
    """

    rank: int
    paper: Paper
    score: float
    dense: float
    bm25: float
    passage: Passage
    late_interaction: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """One entry of `hits` in `rag search --json`. `lexical` and `nearness` are deprecated names."""
        return {
            "rank": self.rank,
            "paper_id": self.paper.paper_id,
            "title": self.paper.title,
            "score": round(self.score, 6),
            "dense": round(self.dense, 6),
            "bm25": round(self.bm25, 6),
            "lexical": round(self.bm25, 6),
            "late_interaction": round(self.late_interaction, 6),
            "nearness": round(self.late_interaction, 6),
            "passage": self.passage.text,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What was asked, what was searched for (after spelling and history), and what was found."""

    question: str
    query: str
    corrections: tuple[tuple[str, str], ...] = ()
    hits: tuple[Hit, ...] = ()

    @property
    def answerability(self) -> float:
        """How well the hits match the query, in [-1, 1]: the mean of the best dense and late-interaction scores.

        BM25 is left out: a question that names a paper shares many words with it, whether or not the paper
        answers.
        """
        dense = max((hit.dense for hit in self.hits), default=0.0)
        late_interaction = max((hit.late_interaction for hit in self.hits), default=0.0)
        return (dense + late_interaction) / 2

    def as_json(self, id: Any = None) -> dict[str, Any]:
        """The documented JSON object of `rag search --json`."""
        return {
            "schema": JSON_SCHEMA,
            "id": id,
            "question": self.question,
            "query": self.query,
            "hits": [hit.as_json() for hit in self.hits],
        }


# --- answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One earlier exchange of a conversation."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """The paper that [n] refers to in one answer, and the spans of its abstract that were used."""

    n: int
    paper_id: str
    title: str
    evidence: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence of an answer, without its citation markers, and what verification found.

    `span` is its (start, end) in `Answer.text`, markers included. `verdict` is None before verification.
    `support` is in [0, 1], and None if the sentence is not a claim. `reason` explains the verdict in a few words.
    `repaired_from` holds the citations before they were corrected, and is None if nothing was changed.
    """

    text: str
    citations: tuple[int, ...] = ()
    span: tuple[int, int] = (0, 0)
    verdict: VerdictLabel | None = None
    support: float | None = None
    reason: str = ""
    evidence: Evidence | None = None
    repaired_from: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The sentence in the JSON object of an answer."""
        return asdict(self) | {"support": None if self.support is None else round(self.support, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """Metrics of an answer after ALCE (Gao et al. 2023): shares in [0, 1] over its claims, and counts.

    All are None if the answer has no claim.

    groundedness: claims that the retrieved papers support (verdict supported or miscited; partial counts half).
    citation_recall: claims that their cited papers together support; a claim without a citation counts as none.
    citation_precision: citations of claims that are needed for that. citation_coverage: claims with a citation.
    misattributed, novel_numbers, novel_names: counts. min_support: the support of the weakest claim.
    """

    groundedness: float | None = None
    citation_precision: float | None = None
    citation_recall: float | None = None
    citation_coverage: float | None = None
    misattributed: int | None = None
    novel_numbers: int | None = None
    novel_names: int | None = None
    min_support: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an answerer wrote, before verification. [n] refers to `context[n - 1]`.

    `abstained`: the answerer says that the papers do not answer the question. `notes` are for the reader, one
    line each. `timings_ms` is in milliseconds.
    """

    search: SearchResult
    text: str
    mode: Mode
    context: tuple[Paper, ...]
    sentences: tuple[Sentence, ...] = ()
    abstained: bool = False
    model: str | None = None
    notes: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def as_answer(self) -> Answer:
        """This draft as an answer that is not verified: sentences without verdicts, citations without evidence."""
        sentences = () if self.abstained else self.sentences
        papers = [(n, self.context[n - 1]) for n in sorted({n for s in sentences for n in s.citations})]
        return Answer(
            search=self.search,
            text=self.text,
            mode=self.mode,
            context=self.context,
            sentences=sentences,
            citations=tuple(Citation(n=n, paper_id=paper.paper_id, title=paper.title) for n, paper in papers),
            abstained=self.abstained,
            model=self.model,
            notes=self.notes,
            timings_ms=self.timings_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verified answer. `text` holds the citation markers; [n] refers to `context[n - 1]`.

    `citations` are the papers that the text cites. An answer that abstained has neither sentences nor citations.
    """

    search: SearchResult
    text: str
    mode: Mode
    context: tuple[Paper, ...]
    sentences: tuple[Sentence, ...] = ()
    citations: tuple[Citation, ...] = ()
    abstained: bool = False
    model: str | None = None
    grounding: Grounding | None = None
    notes: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The question as asked."""
        return self.search.question

    @property
    def supported(self) -> tuple[Sentence, ...]:
        """Claims that a retrieved paper supports, at least in part."""
        return tuple(s for s in self.sentences if s.verdict in ("supported", "partial", "miscited"))

    @property
    def unsupported(self) -> tuple[Sentence, ...]:
        """Sentences that no retrieved paper supports."""
        return tuple(s for s in self.sentences if s.verdict == "unsupported")

    def as_json(self, id: Any = None) -> dict[str, Any]:
        """The documented JSON object of `rag ask --json`."""
        return {
            "schema": JSON_SCHEMA,
            "id": id,
            "question": self.question,
            "answer": self.text,
            "abstained": self.abstained,
            "mode": self.mode,
            "model": self.model,
            "sentences": [s.as_json() for s in self.sentences],
            "citations": [asdict(c) for c in self.citations],
            "context": [paper.paper_id for paper in self.context],
            "grounding": asdict(self.grounding) if self.grounding else None,
            "query": self.search.query,
            "notes": list(self.notes),
            "timings_ms": {name: round(value, 1) for name, value in self.timings_ms.items()},
        }


# --- events of a stream, in the order they come ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Searched:
    """Retrieval is done."""

    search: SearchResult


@dataclass(frozen=True, slots=True)
class Prompted:
    """The prompt was sent: `model` reads the papers of `context` before it writes."""

    model: str
    context: tuple[Paper, ...]


@dataclass(frozen=True, slots=True)
class Thinking:
    """More of the model's reasoning, which is never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Delta:
    """More answer text."""

    text: str


@dataclass(frozen=True, slots=True)
class Discarded:
    """Every Delta so far was reasoning that the model did not mark as such; the answer starts after this."""


@dataclass(frozen=True, slots=True)
class FellBack:
    """The model failed, as `message` says; an extractive answer replaces what it had written (`partial`)."""

    message: str
    partial: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole answer."""

    answer: Answer


AnswererEvent = Prompted | Thinking | Delta | Discarded
Event = Searched | AnswererEvent | FellBack | Finished
