"""One run: every question asked of one assistant, every answer scored, all of it summed up.

The report is plain JSON (schema in eval/README.md); `Outcome` is what one question came to before that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from eval import metrics as m
from eval.questions import TYPES, Question, choose
from rag.answering import Answer
from rag.answering.verify import Verifier
from rag.assistant import Assistant
from rag.encoder import Encoder
from rag.errors import ModelUnavailable, RagError
from rag.grounding import Grounding, bare, names, numbers
from rag.papers import Paper
from rag.retrieval import Retriever, Search
from rag.settings import Settings
from rag.text import words

DEPTH = 10  # papers ranked for the retrieval metrics
ENOUGH_FACTS = 0.5  # key-fact recall from which an answer counts as right
_RANKING = ("nDCG@10", "recall@5", "recall@10", "MRR@10", "hit@1")
_MARKER = re.compile(r"\[(\d+)\]")
_QUOTED = re.compile(r"[\"“*_]([^\"“”*_\n]{12,200})[\"”*_]")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one question came to. `loss` is 1 where its answer, given at all, would be wrong."""

    question: Question
    answer: Answer | None
    ranking: tuple[str, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    confidence: float = 0.0
    loss: float = 1.0
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether the question was dealt with as it should be, and nothing about the answer is broken."""
        return not self.error and not self.failures and self.metrics.get("accuracy") == 1.0


class Examiner:
    """Asks one assistant and scores what it answers."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        _remember(assistant.retriever.encoder)
        self.papers = {paper.paper_id: paper for paper in assistant.index.papers()}
        self.ids = {paper.title: paper_id for paper_id, paper in self.papers.items()}

    def ask(self, question: Question) -> Outcome:
        """The outcome of one question; an error is part of it."""
        try:
            answer = self.assistant.ask(question.question, question.history)
            ranked = self.assistant.retriever.search(question.question, answer.search.query, DEPTH)
            outcome = self.score(question, answer, tuple(hit.paper.paper_id for hit in ranked.hits))
            if answer.abstained and question.answerable and answer.mode == "extractive":
                forced = self.undeterred().ask(question.question, question.history)
                outcome = replace(outcome, loss=1.0 - float(self._right(question, forced)))
        except RagError as error:
            return Outcome(question, None, error=f"{type(error).__name__}: {error}")
        return outcome

    def score(self, question: Question, answer: Answer, ranking: tuple[str, ...]) -> Outcome:
        """The outcome of `answer` to `question`, after a search that ranked the papers `ranking`."""
        gold, acceptable = self._titles(question.gold), self._titles(question.acceptable)
        cited = list(dict.fromkeys(c.paper_id for c in answer.citations))
        answered = not answer.abstained
        right = self._right(question, answer)
        accuracy = float(right if question.answerable else answer.abstained)
        values: dict[str, float | None] = dict.fromkeys(m.METRICS)
        values |= {"accuracy": accuracy, "coverage": float(answered)}
        if question.answerable:
            qrels = {question.id: dict.fromkeys(gold, 1)}
            found = m.retrieval(qrels, {question.id: m.condensed(ranking, acceptable)}, _RANKING)
            values |= {name: found[name][question.id] for name in _RANKING}
            values["key_fact_recall"] = m.key_fact_recall(answer.text, question.key_facts) if answered else 0.0
            values["source_recall"] = m.source_recall(cited, gold) if answered else 0.0
            values["source_precision"] = m.source_precision(cited, gold | acceptable) if answered else None
            values["false_refusal_rate"] = 1.0 - answered
        else:
            values["false_answer_rate"] = float(answered)
        if answered:
            values |= {"selective_accuracy": accuracy, "length": float(len(words(answer.text)))}
            values |= _grounded(answer, answer.grounding)
        confidence = self._confidence(answer.search)
        return Outcome(question, answer, ranking, values, self._broken(answer), confidence, 1.0 - right)

    def undeterred(self) -> Assistant:
        """The same assistant, but one that never refuses to quote."""
        undeterred = self.variant(self.assistant.retriever)
        undeterred.verifier = _Undoubting(self.assistant.index, self.assistant.retriever)
        return undeterred

    def leave_one_out(self, outcome: Outcome) -> Outcome:
        """`outcome` with its leave-one-out attribution, for the paper cited first."""
        answer = outcome.answer
        if answer is None or answer.abstained or not answer.citations:
            return outcome
        paper_id = answer.citations[0].paper_id
        given_up = {c.n for c in answer.citations if c.paper_id == paper_id}
        claims = [s.text for s in answer.sentences if given_up & set(s.citations)]
        if not claims:
            return outcome
        without = self.variant(_Without(self.assistant, paper_id))
        again = without.ask(outcome.question.question, outcome.question.history)
        elsewhere = {c.n for c in again.citations if c.paper_id != paper_id}
        kept = {tuple(words(s.text)) for s in again.sentences if not set(s.citations) & elsewhere}
        held = [tuple(words(text)) not in kept for text in claims]
        return replace(outcome, metrics={**outcome.metrics, "leave_one_out": sum(held) / len(held)})

    def variant(self, retriever: Retriever) -> Assistant:
        """The same assistant with another retriever, which takes over the encoder."""
        variant = copy(self.assistant)
        retriever.encoder = self.assistant.retriever.encoder
        variant.retriever = retriever
        return variant

    def _confidence(self, search: Search) -> float:
        """The highest threshold at which the assistant would not refuse yet; 0 where it always does."""
        return 0.0 if self.assistant.verifier.doubt(search, 0.0) else search.answerability

    def _titles(self, titles: Iterable[str]) -> set[str]:
        return {self.ids.get(title, title) for title in titles}

    def _right(self, question: Question, answer: Answer) -> bool:
        """Whether `answer` has enough of the key facts and cites a paper that has them."""
        cited = {c.paper_id for c in answer.citations}
        sources = self._titles((*question.gold, *question.acceptable))
        facts = m.key_fact_recall(answer.text, question.key_facts) or 0.0
        return question.answerable and not answer.abstained and facts >= ENOUGH_FACTS and bool(cited & sources)

    def verify(self, answer: Answer) -> Answer:
        """`answer` as it stands, with new verdicts and nothing repaired."""
        cited = {c.n: self.papers[c.paper_id] for c in answer.citations if c.paper_id in self.papers}
        others = iter([hit.paper for hit in answer.search.hits if hit.paper not in cited.values()])
        places = range(1, len(answer.search.hits) + len(cited) + 1)
        given = [paper for n in places if (paper := cited.get(n) or next(others, None))]
        known = [replace(s, citations=tuple(n for n in s.citations if n in cited)) for s in answer.sentences]
        checked = self.assistant.verifier.verify(replace(answer, sentences=tuple(known)), given, repair=False)
        pairs = zip(checked.sentences, answer.sentences, strict=True)
        judged = tuple(replace(new, citations=old.citations) for new, old in pairs)
        return replace(answer, sentences=judged, grounding=checked.grounding)

    def _broken(self, answer: Answer) -> tuple[str, ...]:
        """Hard failures: what no answer may ever do."""
        found = []
        if not words(answer.text):
            found.append("empty answer")
        known = {c.n for c in answer.citations}
        retrieved = {hit.paper.paper_id for hit in answer.search.hits}
        used = {n for s in answer.sentences for n in s.citations}
        if not answer.abstained:
            used |= {int(n) for n in _MARKER.findall(answer.text)} if answer.mode != "extractive" else set()
        found += [f"[{n}] resolves to no retrieved paper" for n in sorted(used - known)]
        for c in answer.citations:
            paper = self.papers.get(c.paper_id)
            if c.paper_id not in retrieved:
                found.append(f"[{c.n}] resolves to no retrieved paper")
            elif paper is None or c.title != paper.title:
                found.append(f"invented title: {c.title!r}")
            elif any(paper.abstract[e.start : e.end] != e.text for e in c.evidence):
                found.append(f"[{c.n}] quotes what the abstract does not say")
        return (*found, *(f"invented title: {title!r}" for title in self._invented(answer)))

    def _invented(self, answer: Answer) -> list[str]:
        """Titles the answer names in quotes or italics that neither the corpus nor a retrieved abstract has."""
        named = [t.strip() for t in _QUOTED.findall(answer.text)]
        named = [t for t in named if len(t.split()) >= 4 and _looks_like_title(t.split())]
        texts = [f"{h.paper.title} {h.paper.abstract}" for h in answer.search.hits] if named else []
        known = " | ".join(" ".join(words(text)) for text in (*texts, *(self.ids if named else ())))
        return [t for t in named if " ".join(words(t)) not in known]


def _looks_like_title(parts: Sequence[str]) -> bool:
    return sum(word[0].isupper() for word in parts) >= 0.6 * len(parts)


def _remember(encoder: Encoder) -> None:
    """Let `encoder` encode a text once: a question is asked again, searched deeper and asked without a paper."""
    for name in ("encode", "read"):
        method = getattr(encoder, name)
        setattr(encoder, name, lru_cache(maxsize=1024)(getattr(method, "__wrapped__", method)))


class _Undoubting(Verifier):
    """A verifier that takes every question for answerable."""

    def doubt(self, search: Search, threshold: float) -> str:
        return ""


class _Without(Retriever):
    """A retriever that does not know one paper."""

    def __init__(self, assistant: Assistant, paper_id: str) -> None:
        super().__init__(assistant.index, assistant.settings)
        self.paper_id = paper_id

    def search(self, question: str, query: str | None = None, k: int | None = None) -> Search:
        k = k or self.settings.k
        found = super().search(question, query, k + 1)
        kept = [hit for hit in found.hits if hit.paper.paper_id != self.paper_id][:k]
        return replace(found, hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(kept, start=1)))


def _grounded(answer: Answer, grounding: Grounding | None) -> dict[str, float | None]:
    if grounding is None:
        return {}

    def known(novel: int | None, total: int) -> float | None:
        return None if novel is None or not total else max(0.0, 1 - novel / total)

    texts = [bare(s.text) for s in answer.sentences]
    return {
        "groundedness": grounding.groundedness,
        "citation_recall": grounding.citation_recall,
        "citation_precision": grounding.citation_precision,
        "numeric_fidelity": known(grounding.novel_numbers, sum(len(numbers(t)) for t in texts)),
        "name_fidelity": known(grounding.novel_names, sum(len(names(t)) for t in texts)),
    }


# --- runs --------------------------------------------------------------------------------------------


def ask_all(
    examiner: Examiner, questions: Sequence[Question], progress: Progress = lambda done, total: None,
    leave_one_out: int = 0,
) -> list[Outcome]:  # fmt: skip
    """The outcome of every question; `leave_one_out` of them, evenly spread, are asked again without their source.

    Raises ModelUnavailable if not even the first one could be answered for want of a model.
    """
    again = {q.id for q in choose(questions, limit=leave_one_out)} if leave_one_out else set()
    outcomes: list[Outcome] = []
    for question in questions:
        outcome = examiner.ask(question)
        if outcome.error.startswith(ModelUnavailable.__name__) and not outcomes:
            raise ModelUnavailable(outcome.error.partition(": ")[2])
        outcomes.append(examiner.leave_one_out(outcome) if question.id in again else outcome)
        progress(len(outcomes), len(questions))
    return outcomes


def summarise(name: str, outcomes: Sequence[Outcome], settings: Settings) -> dict[str, Any]:
    """One run of the report."""
    answered = [o for o in outcomes if o.answer is not None]
    kinds = [kind for kind in TYPES if any(o.question.type == kind for o in answered)]
    latencies = [o.answer.timings_ms["total"] for o in answered if o.answer and "total" in o.answer.timings_ms]
    ranked = sorted(answered, key=lambda o: -o.confidence)
    coverage, risk = m.risk_coverage([o.confidence for o in ranked], [o.loss for o in ranked])
    return {
        "name": name,
        "mode": answered[0].answer.mode if answered and answered[0].answer else "",
        "model": next((o.answer.model for o in answered if o.answer and o.answer.model), None),
        "settings": {k: v for k, v in asdict(settings).items() if k not in ("origins", "index_dir")},
        "metrics": {n: e.as_json() for n, e in estimates(answered).items()},
        "by_type": {kind: _figures([o for o in answered if o.question.type == kind]) for kind in kinds},
        "by_split": {split: _figures([o for o in answered if o.question.split == split]) for split in ("dev", "test")},
        "latency_ms": {"p50": _ms(m.percentile(latencies, 50)), "p95": _ms(m.percentile(latencies, 95))},
        "risk_coverage": {"coverage": [round(c, 4) for c in coverage], "risk": [round(r, 4) for r in risk]},
        "hard_failures": [{"id": o.question.id, "failure": f} for o in outcomes for f in o.failures],
        "errors": [{"id": o.question.id, "error": o.error} for o in outcomes if o.error],
        "judge": None,
        "outcomes": [as_json(o) for o in outcomes],
    }


def _figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {name: e.as_json() for name, e in estimates(outcomes).items() if e.n}


def estimates(outcomes: Sequence[Outcome]) -> dict[str, m.Estimate]:
    """Every metric over `outcomes`, with its interval and n."""
    found = {name: m.mean([o.metrics.get(name) for o in outcomes]) for name in m.METRICS if name != "AURC"}
    found["AURC"] = m.aurc_estimate([o.confidence for o in outcomes], [o.loss for o in outcomes])
    return {name: found[name] for name in m.METRICS}


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One question of the report."""
    q, answer = outcome.question, outcome.answer
    record: dict[str, Any] = {
        "id": q.id,
        "question": q.question,
        "history": [asdict(turn) for turn in q.history],
        "type": q.type,
        "split": q.split,
        "answerable": q.answerable,
        "gold": list(q.gold),
        "acceptable": list(q.acceptable),
        "key_facts": list(q.key_facts),
        "good": outcome.good,
        "failures": list(outcome.failures),
        "error": outcome.error or None,
        "confidence": round(outcome.confidence, 4),
        "loss": outcome.loss,
        "metrics": {n: round(v, 4) for n, v in outcome.metrics.items() if v is not None},
    }
    if answer is None:
        return record
    return record | {
        "facts_found": [m.holds_fact(answer.text, fact) for fact in q.key_facts],
        "query": answer.search.query,
        "answer": answer.text,
        "abstained": answer.abstained,
        "sentences": [
            {
                "text": s.text,
                "citations": list(s.citations),
                "verdict": s.verdict,
                "support": None if s.support is None else round(s.support, 3),
                "reason": s.reason,
                "evidence": {k: getattr(e, k) for k in ("paper_id", "start", "end")} if (e := s.evidence) else None,
                "repaired_from": s.repaired_from,
            }
            for s in answer.sentences
        ],
        "citations": [asdict(c) for c in answer.citations],
        "hits": [{"paper_id": h.paper.paper_id, "score": round(h.score, 4)} for h in answer.search.hits],
        "ranking": list(outcome.ranking),
        "latency_ms": _ms(answer.timings_ms.get("total")),
    }


def papers_of(runs: Sequence[Mapping[str, Any]], papers: Mapping[str, Paper]) -> dict[str, dict[str, str]]:
    """Title and abstract of every paper that a run's answers cite or were searched from, for the report."""
    wanted = {
        paper_id
        for run in runs
        for o in run["outcomes"]
        for paper_id in (*(c["paper_id"] for c in o.get("citations", ())), *o.get("ranking", ())[:5])
    }
    titles = {t for run in runs for o in run["outcomes"] for t in o["gold"]}
    kept = [p for p in papers.values() if p.paper_id in wanted or p.title in titles]
    return {p.paper_id: {"title": p.title, "abstract": p.abstract} for p in kept}


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
