"""Shared by all reports: the verdict in one line, and the format of figures."""

from __future__ import annotations

from eval.log import Estimate, EvalLog, EvalRun, MetricChange

HEADLINES = (
    "accuracy", "recall@5", "key_fact_recall", "groundedness", "citation_recall", "numeric_fidelity",
    "false_refusal_rate", "false_answer_rate",
)  # fmt: skip


def verdict(log: EvalLog) -> str:
    """The decision of the gates, in one line."""
    if errors := log.error_count:
        return f"{errors} question{'s' * (errors != 1)} ended in an error"
    breached, gates = sum(1 for _ in log.breaches()), len(log.gates)
    return f"{breached} of {gates} gates breached" if breached else f"{gates} gate{'s' * (gates != 1)} passed"


def subtitle(log: EvalLog) -> str:
    """The number of questions and the corpus, in one line."""
    asked, total = log.questions.asked, log.questions.total
    count = f"All {total} questions" if log.is_complete else f"{asked} of {total} questions"
    when = log.created[:16].replace("T", " ")
    return f"{count} on {log.corpus.papers} papers · rag {log.version} · {when} UTC"


def interval(estimate: Estimate | None) -> str:
    """`0.812 [0.770, 0.850]`; a dash if there is no value."""
    if estimate is None or estimate.value is None:
        return "–"
    digits = 1 if abs(estimate.value) > 2 else 3
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def signed(change: MetricChange) -> str:
    """`+0.012 [-0.004, +0.030]`."""
    return f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def number(value: float | None) -> str:
    """`0.812`; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def latency(run: EvalRun) -> str:
    """`31 / 48`: the median and the 95th percentile in milliseconds."""
    return " / ".join("–" if ms is None else f"{ms:.0f}" for ms in (run.latency_ms.p50, run.latency_ms.p95))
