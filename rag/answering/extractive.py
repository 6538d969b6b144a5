"""Answers without a language model: the best-supporting sentences of the hits, quoted exactly."""

from __future__ import annotations

import re
from math import log2

from rag.answering import ABSTENTION, Answer, Citation, Evidence, Sentence
from rag.papers import Paper
from rag.retrieval import Retriever, Search, SentenceHit
from rag.settings import Settings

# How much a sentence's nearness, its share of the question's terms, its place and its paper's score count.
# An abstract opens with what was known before and goes on to what is new: later sentences answer more often.
_NEARNESS, _COVERAGE, _DEPTH, _PAPER = 0.6, 0.1, 0.1, 0.4
_LENGTH = 0.02  # off for every doubling of a sentence: a long one comes near to anything
_QUANTITY_BONUS = 0.1  # for a sentence with a figure in it, where a figure is asked for
_SAME = 0.8  # cosine above which two sentences say the same
# A further sentence must come this close to the best one: to be added where several approaches are asked
# for, and where a single sentence would do.
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


def answer(retriever: Retriever, search: Search, settings: Settings, doubt: str = "") -> tuple[Answer, list[Paper]]:
    """The extractive answer to `search.question`, and the papers its numbers stand for.

    It abstains where there is a `doubt`, a line saying why the hits do not answer. Where the question
    asks for several approaches, sentences of different papers come first; otherwise one sentence, and up
    to two more that are nearly as good. Numbers are given in order of appearance.
    """
    found = [hit.paper for hit in search.hits]
    notes = (doubt,) if doubt else ()
    abstention = Answer(search.question, ABSTENTION, True, "extractive", None, (), (), search, notes=notes)
    if doubt:
        return abstention, found
    chosen = _choose(retriever.sentences(search), search.question, settings.max_sentences)
    if not chosen:  # the hits are titles without abstracts
        return abstention, found
    papers = list(dict.fromkeys(s.hit.paper.paper_id for s in sorted(chosen, key=lambda s: s.hit.rank)))
    number = {paper_id: n for n, paper_id in enumerate(papers, start=1)}
    chosen.sort(key=lambda s: (number[s.hit.paper.paper_id], s.start))
    citations = tuple(
        Citation(
            n,
            paper_id,
            next(s.hit.paper.title for s in chosen if s.hit.paper.paper_id == paper_id),
            tuple(Evidence(s.text, s.start, s.end) for s in chosen if s.hit.paper.paper_id == paper_id),
        )
        for paper_id, n in number.items()
    )
    text = ""
    sentences: list[Sentence] = []
    for s in chosen:
        n = number[s.hit.paper.paper_id]
        start = len(text) + 1 if text else 0
        text = f"{text}\n{s.text} [{n}]".lstrip("\n")
        sentences.append(Sentence(s.text, (n,), (start, len(text))))
    given = sorted(found, key=lambda paper: number.get(paper.paper_id, len(number) + 1))
    return Answer(search.question, text, False, "extractive", None, tuple(sentences), citations, search), given


def _choose(candidates: list[SentenceHit], question: str, most: int) -> list[SentenceHit]:
    """The sentences to quote, best first."""
    wants_figure = bool(_QUANTITY.search(question))
    broad = bool(_BROAD.search(question)) and not wants_figure

    def score(s: SentenceHit) -> float:
        figure = _QUANTITY_BONUS if wants_figure and re.search(r"\d", s.text) else 0.0
        parts = _NEARNESS * s.nearness + _COVERAGE * s.coverage + _DEPTH * s.depth + _PAPER * s.hit.score
        return parts + figure - _LENGTH * log2(max(len(s.text.split()), 8))

    ranked = sorted(candidates, key=score, reverse=True)
    ratio, limit = (_BROAD_RATIO, most) if broad else (_NARROW_RATIO, min(_NARROW_SENTENCES, most))
    chosen: list[SentenceHit] = []
    # First pass: one sentence a paper where several are wanted; second pass: whatever is good enough.
    for one_a_paper in (True, False) if broad else (False,):
        for s in ranked:
            if len(chosen) == limit or score(s) < ratio * score(ranked[0]):
                break
            known = one_a_paper and any(c.hit.paper.paper_id == s.hit.paper.paper_id for c in chosen)
            if not known and all(float(s.vector @ c.vector) < _SAME for c in chosen):
                chosen.append(s)
    return chosen
