"""Proof that the gates can fail: damage of a known kind must trip the gate that names it.

Every sabotage takes outcomes that passed, damages them in one way, scores them as if nothing had happened, and
gates them against the untouched ones. Where single sentences are damaged, it also counts how many the verifier caught.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.gates import UNMEASURED, check
from eval.metrics import METRICS, Estimate, mean
from eval.run import Examiner, Outcome, Progress, as_json, estimates
from rag.answering import ABSTENTION, Answer, Citation, Sentence
from rag.grounding import names, numbers
from rag.papers import Paper
from rag.retrieval import Retriever, Search

HARD = "no hard failure"
# What the verifier must catch of each kind, and the most it may raise on untouched answers.
EXPECTED = {"number": 0.80, "name": 0.80, "random citation": 1.0, "nearest citation": 0.65}
MOST_FALSE_ALARMS = 0.01
_CLEAN = ("supported", "not_a_claim")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one sabotage: the gate it must trip, and what share of damaged sentences was caught."""

    name: str
    gate: str
    tripped: bool
    caught: Estimate | None = None
    expected: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the gate tripped, and no less was caught than expected."""
        enough = self.expected is None or self.caught is None or (self.caught.value or 0.0) >= self.expected
        return self.tripped and enough

    def as_json(self) -> dict[str, Any]:
        """One row of `sabotage` in the report."""
        caught = self.caught.as_json() if self.caught else None
        return {"name": self.name, "gate": self.gate, "tripped": self.tripped, "caught": caught,
                "expected": self.expected, "passed": self.passed}  # fmt: skip


class Saboteur:
    """Damages answers; the same seed always does the same damage."""

    def __init__(self, examiner: Examiner) -> None:
        self.examiner = examiner
        self.papers = list(examiner.papers.values())
        self.random = random.Random(0)

    def number(self, answer: Answer) -> Answer | None:
        """Every number another one."""
        return self._rewritten(answer, self._other_number)

    def name(self, answer: Answer) -> Answer | None:
        """A name of every sentence one from another paper."""
        return self._rewritten(answer, self._other_name)

    def random_citation(self, answer: Answer) -> Answer | None:
        """Every cited paper a random other one."""
        return self._recited(answer, lambda c: self._stranger(answer))

    def nearest_citation(self, answer: Answer) -> Answer | None:
        """Every cited paper the one most like it."""
        return self._recited(answer, lambda c: self._nearest(c, answer))

    def no_citations(self, answer: Answer) -> Answer | None:
        """Every citation dropped."""
        return written(answer, [replace(s, citations=()) for s in answer.sentences], ())

    def invented_title(self, answer: Answer) -> Answer | None:
        """A title that no paper has."""
        first = replace(answer.citations[0], title="On the Measurement of Everything, and Why It Is Enough")
        return written(answer, answer.sentences, (first, *answer.citations[1:]))

    def dangling(self, answer: Answer) -> Answer | None:
        """A citation of a passage that was never given."""
        first, *rest = answer.sentences
        return written(answer, [replace(first, citations=(*first.citations, 99)), *rest], answer.citations)

    def appended(self, answer: Answer) -> Answer | None:
        """A sentence of a random other abstract under the first citation."""
        abstract = self._stranger(answer).abstract
        foreign = max(re.split(r"(?<=[.!?])\s+", abstract), key=len)
        return written(answer, [*answer.sentences, Sentence(foreign, (answer.citations[0].n,))], answer.citations)

    def empty(self, answer: Answer) -> Answer | None:
        """Nothing at all."""
        return replace(written(answer, (), ()), text="")

    def refusal(self, answer: Answer) -> Answer:
        """A refusal, whatever was asked."""
        return replace(written(answer, (), ()), text=ABSTENTION, abstained=True)

    def _stranger(self, answer: Answer) -> Paper:
        near = {hit.paper.paper_id for hit in answer.search.hits}
        return self.random.choice([p for p in self.papers if p.paper_id not in near])

    def _nearest(self, citation: Citation, answer: Answer) -> Paper:
        """The paper most like the cited one that the answer doesn't cite."""
        cited = {c.paper_id for c in answer.citations}
        title = self.examiner.papers[citation.paper_id].title
        hits = self.examiner.assistant.retriever.search(title, k=len(cited) + 1).hits
        return next(hit.paper for hit in hits if hit.paper.paper_id not in cited)

    def _other_number(self, sentence: str, abstract: str) -> str:
        for number in numbers(sentence):
            digits = re.search(r"\d[\d,.]*\d|\d", number.shown)
            if digits and digits[0] in sentence:
                changed = str(int(digits[0][0]) % 9 + 1) + digits[0][1:]
                if changed not in abstract:
                    sentence = re.sub(rf"(?<![\d.,]){re.escape(digits[0])}(?![\d.,]*\d)", changed, sentence)
        return sentence

    def _other_name(self, sentence: str, abstract: str) -> str:
        for name in names(sentence):
            strangers = [n for p in self.random.sample(self.papers, 20) for n in names(p.title)]
            strange = [n for n in strangers if n.lower() not in abstract.lower() and any(c.isupper() for c in n[1:])]
            if strange and name in sentence:
                return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self.random.choice(strange), sentence)
        return sentence

    def _rewritten(self, answer: Answer, change: Callable[[str, str], str]) -> Answer | None:
        by_n = {c.n: self.examiner.papers[c.paper_id].abstract for c in answer.citations}
        changed = [replace(s, text=change(s.text, " ".join(by_n[n] for n in s.citations))) for s in answer.sentences]
        if all(a.text == b.text for a, b in zip(changed, answer.sentences, strict=True)):
            return None
        return written(answer, changed, answer.citations)

    def _recited(self, answer: Answer, other: Callable[[Citation], Paper]) -> Answer:
        """Other papers cited and retrieved in place of the right ones, which would give the damage away."""
        swaps = {c.paper_id: other(c) for c in answer.citations}
        hits = {paper.paper_id: replace(hit, paper=paper) for hit in reversed(answer.search.hits)
                for paper in [swaps.get(hit.paper.paper_id, hit.paper)]}  # fmt: skip
        citations = [Citation(c.n, (paper := swaps[c.paper_id]).paper_id, paper.title) for c in answer.citations]
        search = replace(answer.search, hits=tuple(reversed(hits.values())))
        return replace(written(answer, answer.sentences, citations), search=search)


def written(answer: Answer, sentences: Sequence[Sentence], citations: Sequence[Citation]) -> Answer:
    """`answer` with other sentences and citations, its text to match, and no verdicts."""
    text = "\n".join(" ".join([s.text, *(f"[{n}]" for n in s.citations)]) for s in sentences)
    return replace(answer, text=text, sentences=tuple(sentences), citations=tuple(citations), grounding=None)


class _Astray(Retriever):
    """A retriever that returns the worst of a hundred papers first."""

    def search(self, question: str, query: str | None = None, k: int | None = None) -> Search:
        found = super().search(question, query, 100)
        worst = found.hits[: -(k or self.settings.k) - 1 : -1]
        return replace(found, hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(worst, start=1)))


def run_all(
    examiner: Examiner, outcomes: Sequence[Outcome], gates: Mapping[str, Any], size: int,
    progress: Progress = lambda done, total: None,
) -> list[Result]:  # fmt: skip
    """Every sabotage of `size` evenly spread outcomes; the first result is the false alarms on the untouched ones."""
    saboteur = Saboteur(examiner)
    known = [o for o in outcomes if o.answer is not None]
    answered = [o for o in known if o.answer and not o.answer.abstained and o.answer.citations and not o.failures]
    untouched = _run("untouched", known)

    def gated(damaged: Sequence[Outcome], gate: str) -> bool:
        decided = check(_run("damaged", damaged), gates, untouched)
        breaches = [g for g in decided if not g.passed and g.detail != UNMEASURED]
        return any(g.name == HARD if gate == HARD else g.name.startswith(_label(gate)) for g in breaches)

    kinds: list[tuple[str, str, Callable[[Answer], Answer | None], str]] = [
        ("a number changed", "numeric_fidelity", saboteur.number, "number"),
        ("a name swapped", "name_fidelity", saboteur.name, "name"),
        ("citations swapped for random papers", "citation_recall", saboteur.random_citation, "random citation"),
        ("citations swapped for the nearest papers", "citation_recall", saboteur.nearest_citation, "nearest citation"),
        ("citations dropped", "citation_recall", saboteur.no_citations, ""),
        ("an unsupported sentence appended", "groundedness", saboteur.appended, ""),
        ("a title invented", HARD, saboteur.invented_title, ""),
        ("a citation of nothing", HARD, saboteur.dangling, ""),
        ("an empty answer", HARD, saboteur.empty, ""),
    ]
    alarms = mean([float(s.verdict not in _CLEAN) for o in answered if o.answer for s in o.answer.sentences])
    results = [Result("nothing", "false alarms", (alarms.value or 0.0) <= MOST_FALSE_ALARMS, alarms)]
    steps = len(kinds) + 4
    for name, gate, damage, kind in kinds:
        damaged: list[Outcome] = []
        caught: list[float] = []
        for o in _spread(answered):
            if o.answer is None or len(damaged) == size or (answer := damage(o.answer)) is None:
                continue
            again = examiner.score(o.question, examiner.verify(answer), o.ranking)
            damaged.append(again)
            caught += _caught(o.answer, again, kind)
        results.append(Result(name, gate, gated(damaged, gate), mean(caught) if kind else None, EXPECTED.get(kind)))
        progress(len(results), steps)
    sample = _spread(known)[:size]
    refused = [examiner.score(o.question, saboteur.refusal(o.answer), o.ranking) for o in sample if o.answer]
    results.append(Result("everything refused", "false_refusal_rate", gated(refused, "false_refusal_rate")))
    astray = _Astray(examiner.assistant.index, examiner.assistant.settings)
    for name, gate, assistant in (
        ("everything answered", "false_answer_rate", examiner.undeterred()),
        ("retrieval broken", "recall@5", examiner.variant(astray)),
    ):
        other = Examiner(assistant)
        results.append(Result(name, gate, gated([other.ask(o.question) for o in sample], gate)))
        progress(len(results), steps)
    return results


def _spread(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """`outcomes` in an order of which every beginning is an even sample: by a hash of the id."""
    return sorted(outcomes, key=lambda o: hashlib.sha256(o.question.id.encode()).digest())


def _run(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """As much of a run as gates look at."""
    return {
        "name": name,
        "mode": "extractive",
        "metrics": {n: e.as_json() for n, e in estimates(outcomes).items()},
        "hard_failures": [{"id": o.question.id, "failure": f} for o in outcomes for f in o.failures],
        "outcomes": [as_json(o) for o in outcomes],
    }


def _label(metric: str) -> str:
    return METRICS[metric].label + " "


def _caught(before: Answer, after: Outcome, kind: str) -> list[float]:
    """1 for every damaged sentence whose verdict is no longer clean."""
    assert after.answer is not None
    pairs = zip(before.sentences, after.answer.sentences, strict=False)
    if "citation" in kind:
        return [float(new.verdict in ("unsupported", "miscited")) for _, new in pairs]
    return [float(new.verdict not in _CLEAN) for old, new in pairs if old.text != new.text]
