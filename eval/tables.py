"""The tables that `rag eval` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from eval.log import Comparison, Estimate, EvalLog
from eval.metrics import METRICS
from eval.report.figures import interval, number, signed

_IDS_SHOWN = 5


def print_figures(log: EvalLog) -> None:
    """The metrics of every run, side by side."""
    rows = {metric.label: [run.metrics[name] for run in log.runs] for name, metric in METRICS.items()}
    print_estimates(f"{log.questions.asked} questions", rows, [run.name for run in log.runs])


def print_estimates(title: str, rows: Mapping[str, Sequence[Estimate]], columns: Sequence[str] = ("",)) -> None:
    """Rows of estimates, with a column for each run."""
    cells = [
        [name, *(interval(estimate) for estimate in estimates), f"{max(e.n for e in estimates)}"]
        for name, estimates in rows.items()
    ]
    _print(title, ("metric", *(f"{column} [95%]".strip() for column in columns), "n"), cells)


def print_comparison(name: str, comparison: Comparison, questions: Mapping[str, str]) -> None:
    """The changes of every metric, and the questions that turned; `questions` is id -> text."""
    rows = []
    for metric, change in comparison.metrics.items():
        better = (change.value or 0.0) * METRICS[metric].sign > 0
        word = ("better" if better else "worse") if change.significant and METRICS[metric].better else ""
        figures = number(change.before), number(change.after), signed(change)
        rows.append([METRICS[metric].label, *figures, f"{change.n}", word])
    _print(name, ("metric", "before", "after", "difference [95%]", "n", ""), rows)
    for title, ids in (("Turned bad", comparison.turned_bad), ("Turned good", comparison.turned_good)):
        print(f"\n{title}: {len(ids)}")
        for i in ids:
            print(f"  {i}  {questions.get(i, '')}".rstrip())
    for title, ids in (("Only before", comparison.only_before), ("Only after", comparison.only_after)):
        if ids:
            print(f"\n{title}: {len(ids)} ({', '.join(ids[:_IDS_SHOWN])}{', …' if len(ids) > _IDS_SHOWN else ''})")


def _print(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 1000  # nothing is cut in a file
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head in ("metric", "") else "right")
    for row in rows:
        table.add_row(*row)
    console.print(title, style="bold")
    console.print(table)
