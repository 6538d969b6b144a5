"""report.md: the summary for the page of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from eval.log import Comparison, EvalLog, EvalRun, JudgeAgreement
from eval.metrics import METRICS
from eval.report.figures import HEADLINES, interval, latency, number, signed, subtitle, verdict

_BY_TYPE = ("accuracy", "recall@5", "key_fact_recall")
_QUESTIONS_LISTED = 20


def markdown(log: EvalLog) -> str:
    """Verdict, figures, types, perturbations, and the questions that turned bad or good."""
    lines = [f"# Evaluation: {verdict(log)}", "", subtitle(log), ""]
    if breaches := [f"- **{_md(g.run)}: {g.name}**: {_md(g.detail)}" for g in log.breaches()]:
        lines += [*breaches, ""]
    lines += _figures(log.runs)
    lines += _splits(log.runs)
    for run in log.runs:
        if run.judge:
            lines += [_judge(run.name, run.judge), ""]
    for run in log.runs:
        lines += [f"## {_md(run.name)} by type", "", *_types(run)]
    if log.perturbations:
        lines += ["## Perturbations", "", *_perturbations(log)]
    for name, comparison in log.comparison.items():
        lines += [f"## {_md(name)} against the baseline", "", *_changes(comparison)]
    return "\n".join(lines)


def _figures(runs: Sequence[EvalRun]) -> list[str]:
    rows = []
    for name, metric in METRICS.items():
        n = max(run.metrics[name].n for run in runs)
        rows.append([metric.label, *(interval(run.metrics[name]) for run in runs), str(n)])
    rows.append(["Groundedness, corrected", *(number(run.groundedness_corrected) for run in runs), ""])
    rows.append(["Latency p50 / p95 (ms)", *(latency(run) for run in runs), ""])
    return _table(["metric", *(run.name for run in runs), "n"], rows)


def _splits(runs: Sequence[EvalRun]) -> list[str]:
    columns = [(run, split) for run in runs for split in ("dev", "test")]
    rows = [
        [METRICS[name].label, *(interval(run.by_split[split].get(name)) for run, split in columns)]
        for name in HEADLINES
    ]
    return _table(["split", *(f"{run.name} {split}".strip() for run, split in columns)], rows)


def _judge(run: str, judge: JudgeAgreement) -> str:
    return (
        f"The judge {_md(judge.model)} agrees with {interval(judge.agreement)} of the verdicts on {_md(run)} "
        f"(n = {judge.agreement.n}, Cohen's kappa {interval(judge.kappa)})."
    )


def _types(run: EvalRun) -> list[str]:
    rows = [
        [kind, *(interval(figures.get(name)) for name in _BY_TYPE), str(figures["accuracy"].n)]
        for kind, figures in run.by_type.items()
    ]
    return _table(["type", *(METRICS[name].label for name in _BY_TYPE), "n"], rows)


def _perturbations(log: EvalLog) -> list[str]:
    rows = [
        [
            result.name,
            METRICS[result.gate].label if result.gate in METRICS else result.gate,
            "yes" if result.passed else "NO",
            interval(result.caught),
            str(result.caught.n) if result.caught else "",
        ]
        for result in log.perturbations
    ]
    return _table(["perturbation", "gate that it must breach", "passed", "sentences caught", "n"], rows)


def _changes(comparison: Comparison) -> Iterator[str]:
    rows = [
        [METRICS[name].label, number(change.before), number(change.after), signed(change)]
        for name, change in comparison.metrics.items()
        if change.significant
    ]
    yield from _table(["metric", "before", "after", "difference"], rows) if rows else ["No significant change.", ""]
    for title, ids in (("Turned bad", comparison.turned_bad), ("Turned good", comparison.turned_good)):
        listed = ", ".join(f"`{i}`" for i in ids[:_QUESTIONS_LISTED])
        more = f" and {len(ids) - _QUESTIONS_LISTED} more" if len(ids) > _QUESTIONS_LISTED else ""
        yield from (f"{title}: {len(ids)}. {listed}{more}".rstrip(), "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_md(cell) for cell in row)} |" for row in cells] + [""]


def _md(text: str) -> str:
    """`text` on one line, with markup escaped: the texts of models and papers are not trusted."""
    return re.sub(r"([|`*_\\])", r"\\\1", escape(" ".join(text.split()), quote=False))
