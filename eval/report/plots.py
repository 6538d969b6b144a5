"""The plots of report.html, as SVG. Each colour is replaced by a CSS variable, for the light and the dark page."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from eval.log import Estimate, EvalRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED, _GRID = "#101112", "#707172", "#d0d1d2"
_SERIES = ("#2a5fb1", "#c2611f", "#2c8a5a", "#8a4fb0", "#a83256", "#7a6a10")
_PAGE = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--line)"} | {
    colour: f"var(--s{i})" for i, colour in enumerate(_SERIES, start=1)
}
_BARS_HEIGHT = 0.7  # of all bars of one type, in units of the distance between types


def accuracy_by_type(runs: Sequence[EvalRun]) -> str:
    """Accuracy for each type of question with its interval, a bar for each run."""
    types = list(runs[0].by_type)
    figure, axes = _figure(5.4, 0.8 + len(types) * (0.16 + 0.15 * len(runs)))
    height = _BARS_HEIGHT / len(runs)
    for r, run in enumerate(runs):
        offset = (r - (len(runs) - 1) / 2) * height
        known = [(y + offset, run.by_type[kind]["accuracy"]) for y, kind in enumerate(types) if kind in run.by_type]
        _bars(axes, known, height * 0.9, _SERIES[r % len(_SERIES)], run.name)
    counts = {kind: next(r.by_type[kind]["accuracy"].n for r in runs if kind in r.by_type) for kind in types}
    labels = [f"{kind.removeprefix('unanswerable_')}{' ∅' if '_' in kind else ''}  ({n})" for kind, n in counts.items()]
    axes.set_yticks(range(len(types)), labels)
    axes.set_xlim(0, 1.02)
    axes.invert_yaxis()
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    if len(runs) > 1:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=_INK)
    return _svg(figure, "Accuracy by type of question")


def _bars(axes: Axes, known: Sequence[tuple[float, Estimate]], height: float, colour: str, label: str) -> None:
    positions = [y for y, _ in known]
    figures = [(e.value or 0.0, e.low or 0.0, e.high or 0.0) for _, e in known]
    values = [value for value, _, _ in figures]
    errors = [[value - low for value, low, _ in figures], [high - value for value, _, high in figures]]
    axes.barh(positions, values, height, color=colour, label=label)
    axes.plot(values, positions, "|", color=colour, markersize=10, markeredgewidth=2)
    axes.errorbar(values, positions, xerr=errors, fmt="none", ecolor=_INK, elinewidth=1, capsize=2)


def risk_coverage(runs: Sequence[EvalRun]) -> str:
    """Risk over coverage for every run; the dot is where the run itself abstains."""
    figure, axes = _figure(5.4, 3.6)
    for r, run in enumerate(runs):
        colour = _SERIES[r % len(_SERIES)]
        coverage = run.risk_coverage.coverage
        axes.plot(coverage, run.risk_coverage.risk, color=colour, linewidth=1.8, label=run.name)
        losses = sorted(sample.loss for sample in run.samples)
        best = [sum(losses[: i + 1]) / (i + 1) for i in range(len(losses))]
        axes.plot(coverage, best[: len(coverage)], color=colour, linewidth=1, linestyle=(0, (3, 3)), alpha=0.7)
        point, accuracy = run.metrics["coverage"].value, run.metrics["selective_accuracy"].value
        if point is not None and accuracy is not None:
            axes.plot([point], [1 - accuracy], "o", color=colour, markersize=7)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("coverage: share of questions answered", color=_MUTED)
    axes.set_ylabel("risk: share of wrong answers", color=_MUTED)
    axes.grid(color=_GRID, linewidth=0.8)
    if len(runs) > 1:
        axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, "Risk over coverage")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 10, "axes.edgecolor": _MUTED, "text.color": _INK}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_INK, length=0, labelsize=10)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure, label: str) -> str:
    from matplotlib import rc_context

    file = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "rag"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    for colour, variable in _PAGE.items():
        svg = svg.replace(colour, variable)
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
