"""The proof that the gates can fail: every perturbation must breach the gate for it.

Answers that passed are damaged, verified and scored as usual, and gated against the originals. If single sentences are
damaged, the share that the verifier objects to is counted too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from eval.gates import NO_HARD_FAILURE, UNMEASURED, Gates, check
from eval.log import Estimate, PerturbationResult, RunScores
from eval.metrics import METRICS, mean
from eval.perturbations import OBJECTIONS, Perturbation, Perturber
from eval.runner import Outcome, Runner
from eval.scoring import run_scores, score_sample
from eval.substitutes import WorstFirstRetriever
from rag.assistant import Assistant
from rag.types import Answer, Draft, Progress

MAX_FALSE_ALARMS = 0.01  # share of undamaged sentences that the verifier may object to


class PerturbedRuns:
    """Perturbs `size` evenly spread outcomes of an extractive run in every way, and gates each against all of them."""

    def __init__(self, runner: Runner, outcomes: Sequence[Outcome], gates: Gates, size: int) -> None:
        self._runner, self._gates, self._size = runner, gates, size
        answered = [o for o in outcomes if o.answer is not None]
        # In the order of a hash of the ids, so that the first n are an even sample.
        self._outcomes = sorted(answered, key=lambda o: hashlib.sha256(o.question.id.encode()).digest())
        self._untouched = self._scores(answered)
        self._perturber = Perturber(runner.papers, runner.assistant.retriever)

    def run(self, progress: Progress = lambda done, total: None) -> list[PerturbationResult]:
        """The result of every perturbation. The first is the rate of false alarms on undamaged answers."""
        steps: list[Callable[[], PerturbationResult]] = [self._false_alarms]
        steps += [partial(self._damage, perturbation) for perturbation in self._perturber.all()]
        steps += [self._abstain_always, self._answer_always, self._break_retrieval]
        results: list[PerturbationResult] = []
        for step in steps:
            results.append(step())
            progress(len(results), len(steps))
        return results

    def _passed(self) -> list[tuple[Outcome, Answer]]:
        """The outcomes with an answer that cites something and has no hard failure."""
        return [
            (o, o.answer)
            for o in self._outcomes
            if o.answer and not o.answer.abstained and o.answer.citations and not o.sample.failures
        ]

    def _false_alarms(self) -> PerturbationResult:
        verdicts = [s.verdict for _, answer in self._passed() for s in answer.sentences]
        alarms = mean([float(verdict in OBJECTIONS) for verdict in verdicts])
        return _result("nothing", "false alarms", (alarms.value or 0.0) <= MAX_FALSE_ALARMS, alarms)

    def _damage(self, perturbation: Perturbation) -> PerturbationResult:
        outcomes: list[Outcome] = []
        caught: list[float] = []
        for before, answer in self._passed():
            if len(outcomes) == self._size:
                break
            damaged = perturbation.damage(answer)
            if isinstance(damaged, Draft):
                damaged = self._runner.assistant.verify(damaged, repair=False)
            if damaged is None:
                continue
            outcomes.append(self._runner.record(before.question, damaged, before.sample.ranking))
            for old, new in zip(answer.sentences, damaged.sentences, strict=False):
                if perturbation.every_sentence or old.text != new.text:
                    caught.append(float(new.verdict in perturbation.caught_by))
        tripped = self._breaches(outcomes, perturbation.gate)
        share = None if perturbation.expected is None else mean(caught)
        return _result(perturbation.name, perturbation.gate, tripped, share, perturbation.expected)

    def _abstain_always(self) -> PerturbationResult:
        gate = "false_refusal_rate"
        sample = [(o, o.answer) for o in self._outcomes[: self._size] if o.answer]
        abstentions = [
            self._runner.record(
                o.question, self._runner.assistant.verify(self._perturber.abstain(answer)), o.sample.ranking
            )
            for o, answer in sample
        ]
        return _result("everything refused", gate, self._breaches(abstentions, gate))

    def _answer_always(self) -> PerturbationResult:
        gate = "false_answer_rate"
        return _result("everything answered", gate, self._ask_again(self._runner.never_abstaining, gate))

    def _break_retrieval(self) -> PerturbationResult:
        assistant = self._runner.with_retriever(WorstFirstRetriever(self._runner.assistant.retriever))
        return _result("retrieval broken", "recall@5", self._ask_again(assistant, "recall@5"))

    def _ask_again(self, assistant: Assistant, gate: str) -> bool:
        """Whether `gate` is breached if `assistant` answers."""
        runner = Runner(assistant)
        return self._breaches([runner.ask(o.question) for o in self._outcomes[: self._size]], gate)

    def _breaches(self, outcomes: Sequence[Outcome], gate: str) -> bool:
        failures = [(o.question.id, failure) for o in outcomes for failure in o.sample.failures]
        decisions = check(self._scores(outcomes), self._gates, self._untouched, failures)
        breached = [d.name for d in decisions if not d.passed and d.detail != UNMEASURED]
        if gate == NO_HARD_FAILURE:
            return NO_HARD_FAILURE in breached
        return any(name.startswith(f"{METRICS[gate].label} ") for name in breached)

    def _scores(self, outcomes: Sequence[Outcome]) -> RunScores:
        return run_scores("perturbed", [score_sample(o.sample, self._runner.logged_papers) for o in outcomes])


def _result(
    name: str, gate: str, tripped: bool, caught: Estimate | None = None, expected: float | None = None
) -> PerturbationResult:
    passed = tripped and ((caught and caught.value) or 0.0) >= (expected or 0.0)
    return PerturbationResult(name=name, gate=gate, tripped=tripped, caught=caught, expected=expected, passed=passed)
