"""From samples to figures: every scorer on every sample, then means, intervals and curves.

`rag eval run` and `rag eval score` share this code, so that scoring a log again gives the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval import metrics as m
from eval.log import (
    DIGITS,
    Estimate,
    EvalLog,
    EvalRun,
    EvalSample,
    Incident,
    Latency,
    LoggedPaper,
    RiskCoverage,
    RunScores,
)
from eval.questions import TYPES
from eval.scorers import answers, grounding, retrieval
from rag.errors import UsageError

SCORERS = (retrieval.score, answers.score, grounding.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A sample with its scores, and the values behind them, which are not rounded."""

    sample: EvalSample
    values: Mapping[str, float | None]


def score_sample(sample: EvalSample, papers: Mapping[str, LoggedPaper]) -> Scored:
    """`sample` with its metrics, the key facts found, its loss, and whether it is good."""
    if sample.answer is None:
        return Scored(sample=sample, values={})
    values: dict[str, float | None] = {}
    for score in SCORERS:
        values |= score(sample, papers)
    loss = sample.forced_loss if sample.forced_loss is not None else 1.0 - answers.is_right(sample, papers)
    rounded = {n: round(v, DIGITS) for n in m.METRICS if (v := values.get(n)) is not None}
    update = {
        "metrics": rounded,
        "facts_found": tuple(m.holds_fact(sample.answer.text, fact) for fact in sample.key_facts),
        "loss": loss,
        "good": not sample.error and not sample.failures and values["accuracy"] == 1.0,
    }
    return Scored(sample=sample.model_copy(update=update), values=values)


def estimates(scored: Sequence[Scored]) -> dict[str, Estimate]:
    """Every metric with its interval and n, over the questions that did not end in an error."""
    known = [s for s in scored if s.sample.answer is not None]
    figures = {name: m.mean([s.values.get(name) for s in known]) for name in m.METRICS if name != "AURC"}
    columns = [s.sample.confidence for s in known], [s.sample.loss for s in known]
    figures["AURC"] = m.bootstrap_of(lambda confidences, losses: m.aurc(confidences, losses) or 0.0, columns)
    return {name: figures[name] for name in m.METRICS}


def run_scores(name: str, scored: Sequence[Scored]) -> RunScores:
    """The figures of an extractive run, for the gates."""
    return RunScores(name=name, mode="extractive", metrics=estimates(scored), samples=tuple(s.sample for s in scored))


def summarise(
    name: str,
    mode: Literal["extractive", "generative"],
    model: str | None,
    settings: Mapping[str, Any],
    scored: Sequence[Scored],
) -> EvalRun:
    """One run of the log."""
    samples = tuple(s.sample for s in scored)
    known = [s for s in scored if s.sample.answer is not None]
    types = [kind for kind in TYPES if any(s.sample.type == kind for s in known)]
    latencies = [a.latency_ms for sample in samples if (a := sample.answer) and a.latency_ms is not None]
    ranked = sorted((s.sample for s in known), key=lambda sample: -sample.confidence)
    coverage, risk = m.risk_coverage([s.confidence for s in ranked], [s.loss for s in ranked])
    return EvalRun(
        name=name,
        mode=mode,
        model=model,
        settings=dict(settings),
        metrics=estimates(known),
        by_type={kind: _applicable([s for s in known if s.sample.type == kind]) for kind in types},
        by_split={split: _applicable([s for s in known if s.sample.split == split]) for split in ("dev", "test")},
        latency_ms=Latency(p50=m.percentile(latencies, 50), p95=m.percentile(latencies, 95)),
        risk_coverage=RiskCoverage(coverage=tuple(coverage), risk=tuple(risk)),
        hard_failures=tuple(Incident(id=s.id, message=failure) for s in samples for failure in s.failures),
        errors=tuple(Incident(id=s.id, message=s.error) for s in samples if s.error),
        samples=samples,
    )


def _applicable(scored: Sequence[Scored]) -> dict[str, Estimate]:
    return {name: estimate for name, estimate in estimates(scored).items() if estimate.n}


def rescore(log: EvalLog) -> EvalLog:
    """`log` with every figure computed again from its answers. The results of judges, gates and perturbations stay.

    Raises UsageError for a log of schema 1: it lacks the verifier's counts.
    """
    logged = (sample.answer for run in log.runs for sample in run.samples)
    if any(answer and not answer.abstained and answer.grounding is None for answer in logged):
        raise UsageError("This report is of schema 1, without the verifier's counts.", "Run `rag eval run` again.")
    runs = []
    for run in log.runs:
        scored = [score_sample(sample, log.papers) for sample in run.samples]
        again = summarise(run.name, run.mode, run.model, run.settings, scored)
        runs.append(again.model_copy(update={"judge": run.judge}))
    return log.model_copy(update={"runs": tuple(runs)})
