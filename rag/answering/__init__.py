"""`Answer` and its parts: one type for both ways of answering, and the events a stream of it is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rag.grounding import Grounding, VerdictName
from rag.retrieval import Hit, Search

ABSTENTION = "The corpus does not answer this."


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier exchange of a conversation."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A span of the cited abstract: `text == abstract[start:end]`, in characters."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Citation:
    """What [n] stands for in one answer: a paper, and the spans of its abstract that were used."""

    n: int
    paper_id: str
    title: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """Where a sentence's evidence stands: `text == abstract[start:end]` of the paper cited as [n]."""

    n: int
    paper_id: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an answer, without its markers, the numbers it cites, and what verification found.

    `span` is where it stands in `Answer.text`, markers included, in characters.
    `verdict` is supported, partial, unsupported, miscited or not_a_claim (None before verification);
    `support` in [0, 1], None for what is no claim; `reason` is for a reader; `repaired_from` holds the
    citations before repair, None if nothing was changed.
    """

    text: str
    citations: tuple[int, ...] = ()
    span: tuple[int, int] = (0, 0)
    verdict: VerdictName | None = None
    support: float | None = None
    reason: str = ""
    evidence: Proof | None = None
    repaired_from: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The sentence in the JSON object of an answer."""
        return asdict(self) | {"support": None if self.support is None else round(self.support, 4)}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its proof. `text` holds the markers; `mode` is "extractive" or "ollama"."""

    question: str
    text: str
    abstained: bool
    mode: str
    model: str | None
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    search: Search
    timings_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what the reader should know: one plain line each
    grounding: Grounding | None = None  # figures of the whole answer, once verified

    @property
    def supported(self) -> tuple[Sentence, ...]:
        """Claims that a retrieved paper supports, at least in part."""
        return tuple(s for s in self.sentences if s.verdict in ("supported", "partial", "miscited"))

    @property
    def unsupported(self) -> tuple[Sentence, ...]:
        """Sentences that the retrieved papers do not support."""
        return tuple(s for s in self.sentences if s.verdict == "unsupported")

    def as_json(self, id: str | None = None) -> dict[str, Any]:
        """The documented JSON object of `rag ask --json`."""
        return {
            "id": id,
            "question": self.question,
            "answer": self.text,
            "abstained": self.abstained,
            "mode": self.mode,
            "model": self.model,
            "sentences": [s.as_json() for s in self.sentences],
            "citations": [
                {
                    "n": c.n,
                    "paper_id": c.paper_id,
                    "title": c.title,
                    "evidence": [{"text": e.text, "start": e.start, "end": e.end} for e in c.evidence],
                }
                for c in self.citations
            ],
            "grounding": asdict(self.grounding) if self.grounding else None,
            "query": self.search.query,
            "notes": list(self.notes),
            "timings_ms": {name: round(value, 1) for name, value in self.timings_ms.items()},
        }


@dataclass(frozen=True, slots=True)
class Draft:
    """What a model wrote, before its sentences are verified.

    `text` is every Delta joined. [n] stands for `given[n - 1]`; only numbers that were given are left in it.
    """

    text: str
    abstained: bool
    model: str
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]  # those the model cited; their evidence is still empty
    given: tuple[Hit, ...]
    notes: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


# --- events of a stream, in the order they come ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Searched:
    """Retrieval is done; reading begins."""

    search: Search


@dataclass(frozen=True, slots=True)
class Reading:
    """The prompt is on its way: `model` reads the first `papers` hits before it writes."""

    model: str
    papers: int


@dataclass(frozen=True, slots=True)
class Thinking:
    """More of the model's reasoning: never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Delta:
    """More answer text."""

    text: str


@dataclass(frozen=True, slots=True)
class Discarded:
    """Every Delta so far was reasoning the model did not mark as such; the answer starts after this."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The model failed, as `message` says; an extractive answer follows what it had written (`partial`)."""

    message: str
    partial: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole answer."""

    answer: Answer


Event = Searched | Reading | Thinking | Delta | Discarded | Broken | Finished

__all__ = [
    "ABSTENTION",
    "Answer",
    "Broken",
    "Citation",
    "Delta",
    "Discarded",
    "Draft",
    "Event",
    "Evidence",
    "Finished",
    "Grounding",
    "Hit",
    "Proof",
    "Reading",
    "Search",
    "Searched",
    "Sentence",
    "Thinking",
    "Turn",
]
