"""The runner: asks one assistant every question, and logs what the scorers need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from eval.failures import hard_failures
from eval.log import EvalRun, EvalSample, EvidenceSpan, LoggedAnswer, LoggedHit, LoggedPaper, LoggedSentence
from eval.questions import Question, choose
from eval.scorers.answers import is_right
from eval.scoring import score_sample, summarise
from eval.substitutes import ExcludingRetriever
from rag.answering.abstention import abstention_reason, never_abstain
from rag.answering.extractive import ExtractiveAnswerer
from rag.assistant import Assistant
from rag.errors import LLMUnavailableError, RagError
from rag.retrieval.protocols import Retriever
from rag.text.terms import words
from rag.types import Answer, Progress, Sentence

DEPTH = 10  # papers ranked for the retrieval metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one question: the answer (None if it ended in an error), and the sample, not scored yet."""

    question: Question
    answer: Answer | None
    sample: EvalSample


class Runner:
    """Asks one assistant. `papers` is the corpus by id; `logged_papers` is the same in the form of the log."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.papers = {paper.paper_id: paper for paper in assistant.papers()}
        self.logged_papers = {i: LoggedPaper(title=p.title, abstract=p.abstract) for i, p in self.papers.items()}

    def ask_all(
        self, questions: Sequence[Question], *, progress: Progress = lambda done, total: None, leave_one_out: int = 0
    ) -> list[Outcome]:
        """The outcome of every question; for `leave_one_out` of them, evenly spread, with leave-one-out attribution.

        Raises LLMUnavailableError if the first question ends in one, because the others would too.
        """
        attributed = {q.id for q in choose(questions, limit=leave_one_out)} if leave_one_out else set()
        outcomes: list[Outcome] = []
        for question in questions:
            try:
                outcome = self.ask(question)
            except LLMUnavailableError as error:
                if not outcomes:
                    raise
                outcome = _failed(question, error)
            except RagError as error:
                outcome = _failed(question, error)
            outcomes.append(self.attribute(outcome) if question.id in attributed else outcome)
            progress(len(outcomes), len(questions))
        return outcomes

    def ask(self, question: Question) -> Outcome:
        """The outcome of one question. Raises what the assistant raises."""
        answer = self.assistant.ask(question.question, question.history)
        search = self.assistant.retriever.search(question.question, query=answer.search.query, k=DEPTH)
        outcome = self.record(question, answer, tuple(hit.paper.paper_id for hit in search.hits))
        if answer.abstained and question.answerable and answer.mode == "extractive":
            forced = self.record(question, self.never_abstaining.ask(question.question, question.history))
            loss = 1.0 - is_right(forced.sample, self.logged_papers)
            sample = outcome.sample.model_copy(update={"forced_loss": loss})
            return replace(outcome, sample=sample)
        return outcome

    def record(self, question: Question, answer: Answer, ranking: tuple[str, ...] = ()) -> Outcome:
        """The outcome of `answer`, after a search that ranked the papers `ranking`."""
        # The highest threshold at which rag would not abstain; 0 if it always does.
        confidence = 0.0 if abstention_reason(answer.search, 0.0) else answer.search.answerability
        sample = _sample(question).model_copy(
            update={
                "answer": _logged_answer(answer),
                "ranking": ranking,
                "confidence": confidence,
                "failures": hard_failures(answer, self.papers),
            }
        )
        return Outcome(question=question, answer=answer, sample=sample)

    @cached_property
    def never_abstaining(self) -> Assistant:
        """The same assistant, except that extractive answers never abstain."""
        retriever, settings = self.assistant.retriever, self.assistant.settings.answering
        return self.assistant.configured(extractive=ExtractiveAnswerer(retriever, settings, abstain=never_abstain))

    def with_retriever(self, retriever: Retriever) -> Assistant:
        """The same assistant with another retriever."""
        if self.assistant.settings.answering.mode == "extractive":
            return self.assistant.configured(retriever=retriever)
        return self.assistant.configured(retriever=retriever, generative=self.assistant.generative)

    def attribute(self, outcome: Outcome) -> Outcome:
        """`outcome` with its leave-one-out attribution: asked again without the paper cited first."""
        answer = outcome.answer
        if answer is None or answer.abstained or not answer.citations:
            return outcome
        paper_id = answer.citations[0].paper_id
        numbers = {c.n for c in answer.citations if c.paper_id == paper_id}
        claims = [sentence for sentence in answer.sentences if numbers & set(sentence.citations)]
        if not claims:
            return outcome
        without = self.with_retriever(ExcludingRetriever(self.assistant.retriever, paper_id))
        again = without.ask(outcome.question.question, outcome.question.history)
        elsewhere = {c.n for c in again.citations if c.paper_id != paper_id}
        unchanged = {tuple(words(s.text)) for s in again.sentences if not elsewhere & set(s.citations)}
        attributed = [tuple(words(s.text)) not in unchanged for s in claims]
        share = sum(attributed) / len(attributed)
        return replace(outcome, sample=outcome.sample.model_copy(update={"leave_one_out": share}))

    def summarise(self, name: str, outcomes: Sequence[Outcome]) -> EvalRun:
        """Score the outcomes; they become one run of the log."""
        settings = self.assistant.settings
        scored = [score_sample(outcome.sample, self.logged_papers) for outcome in outcomes]
        return summarise(
            name,
            "extractive" if settings.answering.mode == "extractive" else "generative",
            next((o.answer.model for o in outcomes if o.answer and o.answer.model), None),
            {name: value for name, value in settings.as_dict().items() if name != "index_dir"},
            scored,
        )


def _sample(question: Question) -> EvalSample:
    return EvalSample(
        id=question.id,
        question=question.question,
        history=question.history,
        type=question.type,
        split=question.split,
        answerable=question.answerable,
        gold=question.gold,
        acceptable=question.acceptable,
        key_facts=question.key_facts,
    )


def _failed(question: Question, error: RagError) -> Outcome:
    sample = _sample(question).model_copy(update={"error": f"{type(error).__name__}: {error}"})
    return Outcome(question=question, answer=None, sample=sample)


def _logged_answer(answer: Answer) -> LoggedAnswer:
    return LoggedAnswer(
        text=answer.text,
        abstained=answer.abstained,
        query=answer.search.query,
        sentences=tuple(_logged_sentence(sentence) for sentence in answer.sentences),
        citations=answer.citations,
        context=tuple(paper.paper_id for paper in answer.context),
        hits=tuple(LoggedHit(paper_id=hit.paper.paper_id, score=hit.score) for hit in answer.search.hits),
        grounding=answer.grounding,
        latency_ms=answer.timings_ms.get("total"),
    )


def _logged_sentence(sentence: Sentence) -> LoggedSentence:
    e = sentence.evidence
    return LoggedSentence(
        text=sentence.text,
        citations=sentence.citations,
        verdict=sentence.verdict,
        support=sentence.support,
        reason=sentence.reason,
        evidence=EvidenceSpan(paper_id=e.paper_id, start=e.start, end=e.end) if e else None,
        repaired_from=sentence.repaired_from,
    )


def mentioned_papers(runs: Sequence[EvalRun], papers: Mapping[str, LoggedPaper]) -> dict[str, LoggedPaper]:
    """The papers that the runs mention: retrieved or cited ones, and those that a question names."""
    titles, ids = set[str](), set[str]()
    for sample in (sample for run in runs for sample in run.samples):
        titles |= {*sample.gold, *sample.acceptable}
        ids |= {*sample.ranking[:5]}
        if answer := sample.answer:
            ids |= {*answer.context, *(hit.paper_id for hit in answer.hits)}
            ids |= {citation.paper_id for citation in answer.citations}
    return {i: paper for i, paper in papers.items() if i in ids or paper.title in titles}
