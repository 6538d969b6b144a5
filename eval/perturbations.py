"""Perturbations: known kinds of damage to answers, each with the gate that it must breach."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.gates import NO_HARD_FAILURE
from rag.retrieval.protocols import Retriever
from rag.text.sentences import sentence_spans
from rag.types import ABSTENTION, Answer, Draft, Paper, Sentence, VerdictLabel
from rag.verification.names import names
from rag.verification.numbers import numbers

_INVENTED_TITLE = "On the Measurement of Everything, and Why It Is Enough"
OBJECTIONS: tuple[VerdictLabel, ...] = ("partial", "unsupported", "miscited")
_WRONG_PAPER: tuple[VerdictLabel, ...] = ("unsupported", "miscited")

# A draft is verified, an answer is not; None if the answer has nothing to damage.
Damaged = Draft | Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One kind of damage, the gate that it must breach, and the least share of sentences that must be caught.

    A damaged sentence is caught if it has one of the verdicts `caught_by`. `every_sentence`: all of them are damaged;
    otherwise those whose text changed.
    """

    name: str
    gate: str
    damage: Callable[[Answer], Damaged]
    expected: float | None = None
    caught_by: tuple[VerdictLabel, ...] = OBJECTIONS
    every_sentence: bool = False


class Perturber:
    """Damages answers. The same seed always does the same damage."""

    def __init__(self, papers: Mapping[str, Paper], retriever: Retriever) -> None:
        self._by_id, self._papers = papers, list(papers.values())
        self._retriever = retriever
        self._random = random.Random(0)

    def all(self) -> list[Perturbation]:
        """Every kind of damage to answers."""
        recall = "citation_recall"
        return [
            Perturbation(name="a number changed", gate="numeric_fidelity", damage=self.change_numbers, expected=0.80),
            Perturbation(name="a name swapped", gate="name_fidelity", damage=self.swap_names, expected=0.80),
            Perturbation(
                name="citations swapped for random papers",
                gate=recall,
                damage=self.cite_random,
                expected=1.0,
                caught_by=_WRONG_PAPER,
                every_sentence=True,
            ),
            Perturbation(
                name="citations swapped for the nearest papers",
                gate=recall,
                damage=self.cite_nearest,
                expected=0.65,
                caught_by=_WRONG_PAPER,
                every_sentence=True,
            ),
            Perturbation(name="citations dropped", gate=recall, damage=self.drop_citations),
            Perturbation(name="an unsupported sentence appended", gate="groundedness", damage=self.append_sentence),
            Perturbation(name="a title invented", gate=NO_HARD_FAILURE, damage=self.invent_title),
            Perturbation(name="a citation of nothing", gate=NO_HARD_FAILURE, damage=self.cite_nothing),
            Perturbation(name="an empty answer", gate=NO_HARD_FAILURE, damage=self.empty),
        ]

    def change_numbers(self, answer: Answer) -> Draft | None:
        """Change every number."""
        return self._rewritten(answer, self._other_numbers)

    def swap_names(self, answer: Answer) -> Draft | None:
        """Replace a name in every sentence with one from another paper."""
        return self._rewritten(answer, self._other_name)

    def cite_random(self, answer: Answer) -> Draft:
        """Replace every cited paper with a random other one."""
        return _replace_papers(answer, {c.paper_id: self._unrelated(answer) for c in answer.citations})

    def cite_nearest(self, answer: Answer) -> Draft:
        """Replace every cited paper with the most similar one that the answer does not cite."""
        cited = {c.paper_id for c in answer.citations}

        def nearest(paper_id: str) -> Paper:
            hits = self._retriever.search(self._by_id[paper_id].title, k=len(cited) + 1).hits
            return next(hit.paper for hit in hits if hit.paper.paper_id not in cited)

        return _replace_papers(answer, {c.paper_id: nearest(c.paper_id) for c in answer.citations})

    def drop_citations(self, answer: Answer) -> Draft:
        """Drop every citation."""
        return draft_of(answer, [replace(s, citations=()) for s in answer.sentences])

    def append_sentence(self, answer: Answer) -> Draft:
        """Append the longest sentence of a random other abstract, with the first citation."""
        abstract = self._unrelated(answer).abstract
        longest = max((abstract[start:end] for start, end in sentence_spans(abstract)), key=len)
        added = Sentence(text=longest, citations=(answer.citations[0].n,))
        return draft_of(answer, [*answer.sentences, added])

    def invent_title(self, answer: Answer) -> Draft:
        """Give the paper cited first a title that no paper has."""
        first = answer.citations[0].n
        context = [
            replace(paper, title=_INVENTED_TITLE) if n == first else paper
            for n, paper in enumerate(answer.context, start=1)
        ]
        return replace(draft_of(answer, answer.sentences), context=tuple(context))

    def cite_nothing(self, answer: Answer) -> Answer:
        """Let the first sentence also cite a paper that is not in the context."""
        first, *rest = answer.sentences
        return replace(answer, sentences=(replace(first, citations=(*first.citations, 99)), *rest))

    def empty(self, answer: Answer) -> Draft:
        """Remove all text."""
        return draft_of(answer, ())

    def abstain(self, answer: Answer) -> Draft:
        """Replace the answer with an abstention."""
        return replace(draft_of(answer, ()), text=ABSTENTION, abstained=True)

    def _unrelated(self, answer: Answer) -> Paper:
        """A random paper that was not retrieved."""
        retrieved = {hit.paper.paper_id for hit in answer.search.hits}
        return self._random.choice([p for p in self._papers if p.paper_id not in retrieved])

    def _other_numbers(self, sentence: str, abstract: str) -> str:
        for number in numbers(sentence):
            digits = re.search(r"\d[\d,.]*\d|\d", number.text)
            if digits and digits[0] in sentence:
                changed = str(int(digits[0][0]) % 9 + 1) + digits[0][1:]
                if changed not in abstract:
                    sentence = re.sub(rf"(?<![\d.,]){re.escape(digits[0])}(?![\d.,]*\d)", changed, sentence)
        return sentence

    def _other_name(self, sentence: str, abstract: str) -> str:
        for name in names(sentence):
            others = [n for p in self._random.sample(self._papers, 20) for n in names(p.title)]
            novel = [n for n in others if n.lower() not in abstract.lower() and any(c.isupper() for c in n[1:])]
            if novel and name in sentence:
                return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self._random.choice(novel), sentence)
        return sentence

    def _rewritten(self, answer: Answer, change: Callable[[str, str], str]) -> Draft | None:
        """`answer` with `change(sentence, cited abstracts)` for every sentence; None if that changes nothing."""
        abstracts = {c.n: self._by_id[c.paper_id].abstract for c in answer.citations}
        changed = [change(s.text, " ".join(abstracts[n] for n in s.citations)) for s in answer.sentences]
        if changed == [s.text for s in answer.sentences]:
            return None
        sentences = [replace(s, text=text) for s, text in zip(answer.sentences, changed, strict=True)]
        return draft_of(answer, sentences)


def draft_of(answer: Answer, sentences: Sequence[Sentence]) -> Draft:
    """`answer` as a draft with other sentences and the text that follows from them."""
    text, placed = "", []
    for sentence in sentences:
        start = len(text) + 1 if text else 0
        citations = "".join(f" [{n}]" for n in sentence.citations)
        text = f"{text}\n{sentence.text}{citations}".removeprefix("\n")
        placed.append(Sentence(text=sentence.text, citations=sentence.citations, span=(start, len(text))))
    return Draft(
        search=answer.search,
        text=text,
        mode=answer.mode,
        context=answer.context,
        sentences=tuple(placed),
        model=answer.model,
        timings_ms=answer.timings_ms,
    )


def _replace_papers(answer: Answer, others: Mapping[str, Paper]) -> Draft:
    """`answer` with other papers in its citations, context and hits, so that the right ones cannot be found again."""

    def other(paper: Paper) -> Paper:
        return others.get(paper.paper_id, paper)

    hits = tuple(replace(hit, paper=other(hit.paper)) for hit in answer.search.hits)
    return replace(
        draft_of(answer, answer.sentences),
        search=replace(answer.search, hits=hits),
        context=tuple(other(paper) for paper in answer.context),
    )
