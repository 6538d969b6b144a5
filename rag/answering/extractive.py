"""Answers without a language model: the sentences of the hits that answer best, quoted exactly."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from math import log2

from rag.answering.abstention import AbstentionPolicy, abstention_reason
from rag.retrieval.protocols import Retriever, SentenceHit
from rag.settings import AnsweringSettings
from rag.types import ABSTENTION, AnswererEvent, Delta, Draft, Mode, SearchResult, Sentence, Turn

# Weights of a sentence's late-interaction score, its share of the question's terms, its position and its paper's
# score. An abstract begins with known work and continues with what is new, so later sentences answer more often.
_LATE_INTERACTION, _COVERAGE, _POSITION, _PAPER = 0.6, 0.1, 0.1, 0.4
_LENGTH_PENALTY = 0.02  # for every doubling of a sentence's length: a long sentence matches every question a little
_QUANTITY_BONUS = 0.1  # for a sentence with a figure in it, if the question asks for one
_DUPLICATE_COSINE = 0.8  # above which two sentences count as duplicates
# A further sentence must score this share of the best one: if several approaches are asked for, and otherwise.
_BROAD_RATIO, _NARROW_RATIO = 0.75, 0.90
_NARROW_SENTENCES = 3

_QUANTITY = re.compile(
    r"\bhow (many|much|large|big|long|far|fast|often|accurate)\b|\bby how\b|\bpercent(age)?\b"
    r"|\b(what|which) (share|fraction|proportion|number|size|accuracy|score|speed|rate|factor)\b",
    re.IGNORECASE,
)
_BROAD = re.compile(
    r"\b(methods|approaches|ways|techniques|strategies|papers|models|works|benchmarks|datasets|options|alternatives"
    r"|advances|challenges|problems|causes|reasons|compare[ds]?|comparison|versus|vs|differences?|differ|both)\b"
    r"|^(how (can|do|does|to|should|could)\b|(what|which) (?!is\b|was\b|does\b|has\b)[a-z]+s\b|what are\b|list\b)"
    r"|\b(survey|overview|state of the art)\b",
    re.IGNORECASE,
)


class ExtractiveAnswerer:
    """Quotes sentences of the retrieved papers.

    `abstain` returns the reason to abstain, "" to answer. The default compares the answerability of the hits with the
    threshold in the settings.
    """

    mode: Mode = "extractive"

    def __init__(
        self, retriever: Retriever, settings: AnsweringSettings, *, abstain: AbstentionPolicy | None = None
    ) -> None:
        self._retriever, self._settings = retriever, settings
        self.abstain: AbstentionPolicy = abstain or (lambda search: abstention_reason(search, settings.abstain_below))

    def stream(
        self, search: SearchResult, history: Sequence[Turn] = ()
    ) -> Generator[AnswererEvent | Draft, None, None]:
        """One Delta with the whole text, then the Draft; the conversation so far is in `search.query` already.

        If the question asks for several approaches, sentences of different papers come first; otherwise one
        sentence, and up to two more that are nearly as good. Papers are numbered in order of appearance.
        """
        draft = self._draft(search)
        yield Delta(draft.text)
        yield draft

    def _draft(self, search: SearchResult) -> Draft:
        papers = tuple(hit.paper for hit in search.hits)
        reason = self.abstain(search)
        sentences = [] if reason else self._retriever.sentences(search)
        chosen = _choose(sentences, search.question, self._settings.max_sentences)
        if not chosen:  # there is a reason, or the hits are titles without abstracts
            notes = (reason,) if reason else ()
            return Draft(search=search, text=ABSTENTION, mode=self.mode, context=papers, abstained=True, notes=notes)
        cited = list(dict.fromkeys(s.hit.paper.paper_id for s in sorted(chosen, key=lambda s: s.hit.rank)))
        number = {paper_id: n for n, paper_id in enumerate(cited, start=1)}
        context = tuple(sorted(papers, key=lambda paper: number.get(paper.paper_id, len(number) + 1)))
        text, quoted = "", []
        for s in sorted(chosen, key=lambda s: (number[s.hit.paper.paper_id], s.span.start)):
            n = number[s.hit.paper.paper_id]
            start = len(text) + 1 if text else 0
            text = f"{text}\n{s.span.text} [{n}]".lstrip("\n")
            quoted.append(Sentence(text=s.span.text, citations=(n,), span=(start, len(text))))
        return Draft(search=search, text=text, mode=self.mode, context=context, sentences=tuple(quoted))


def _choose(candidates: list[SentenceHit], question: str, most: int) -> list[SentenceHit]:
    """The sentences to quote, best first."""
    wants_figure = bool(_QUANTITY.search(question))
    broad = bool(_BROAD.search(question)) and not wants_figure

    def score(s: SentenceHit) -> float:
        figure = _QUANTITY_BONUS if wants_figure and re.search(r"\d", s.span.text) else 0.0
        length = _LENGTH_PENALTY * log2(max(len(s.span.text.split()), 8))
        weighted = _LATE_INTERACTION * s.late_interaction + _COVERAGE * s.coverage + _POSITION * s.position
        return weighted + _PAPER * s.hit.score + figure - length

    ranked = sorted(candidates, key=score, reverse=True)
    ratio, limit = (_BROAD_RATIO, most) if broad else (_NARROW_RATIO, min(_NARROW_SENTENCES, most))
    chosen: list[SentenceHit] = []
    # First pass: one sentence a paper if several are wanted; second pass: whatever scores well enough.
    for one_per_paper in (True, False) if broad else (False,):
        for s in ranked:
            if len(chosen) == limit or score(s) < ratio * score(ranked[0]):
                break
            repeated = one_per_paper and any(c.hit.paper.paper_id == s.hit.paper.paper_id for c in chosen)
            if not repeated and all(float(s.vector @ c.vector) < _DUPLICATE_COSINE for c in chosen):
                chosen.append(s)
    return chosen
