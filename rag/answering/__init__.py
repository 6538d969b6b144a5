"""`Answer` and its parts: one type for both ways of answering, and the events a stream of it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
class Sentence:
    """One sentence of an answer, without its markers, and the numbers it cites."""

    text: str
    citations: tuple[int, ...] = ()


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

    def as_json(self, id: str | None = None) -> dict[str, Any]:
        """The documented JSON object of `rag ask --json`."""
        return {
            "id": id,
            "question": self.question,
            "answer": self.text,
            "abstained": self.abstained,
            "mode": self.mode,
            "model": self.model,
            "sentences": [{"text": s.text, "citations": list(s.citations)} for s in self.sentences],
            "citations": [
                {
                    "n": c.n,
                    "paper_id": c.paper_id,
                    "title": c.title,
                    "evidence": [{"text": e.text, "start": e.start, "end": e.end} for e in c.evidence],
                }
                for c in self.citations
            ],
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
    "Hit",
    "Reading",
    "Search",
    "Searched",
    "Sentence",
    "Thinking",
    "Turn",
]
