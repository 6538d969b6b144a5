"""Decides whether a run passes. `eval/gates.toml` holds the bounds; these are the rules.

Hard failures, perturbations without effect and missing figures always breach. A floor or ceiling is breached if the
whole interval lies beyond it. A regression is a breach if the figure worsened by more than `drop` and the
paired-bootstrap interval of the difference excludes zero. So neither noise nor a negligible difference breaches a gate.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from eval.comparison import compare
from eval.log import DIGITS, EvalRun, GateDecision, MetricChange, PerturbationResult, Record, RunScores
from eval.metrics import METRICS, corrected_rate
from rag.errors import UsageError

HERE = Path(__file__).parent
GATES, BASELINE = HERE / "gates.toml", HERE / "baseline.json"
HIGHEST_GROUNDEDNESS_FLOOR = 0.80  # a perfect system scores about 0.90 if the verifier has 10% false alarms
UNMEASURED = "no question to measure it on"
NO_HARD_FAILURE = "no hard failure"

_HARD_FAILURES_SHOWN = 3


class VerifierErrors(Record):
    """Error rates of the verifier, as `corrected_rate` takes them."""

    false_alarm: float
    miss: float


class ModeGates(Record):
    """The bounds for one mode, by metric."""

    at_least: dict[str, float] = Field(default={})
    at_most: dict[str, float] = Field(default={})
    no_worse: tuple[str, ...] = Field(default=())
    verifier: VerifierErrors | None = Field(default=None)


class Gates(Record):
    """The bounds for every mode. `drop` is the smallest regression that counts."""

    drop: float
    extractive: ModeGates = Field(default=ModeGates())
    generative: ModeGates = Field(default=ModeGates())

    def of(self, run: RunScores) -> ModeGates:
        """The bounds for the mode of `run`."""
        return self.extractive if run.mode == "extractive" else self.generative


def read_gates(path: Path = GATES) -> tuple[Gates, list[str]]:
    """The gates in `path`, and notes about deprecated names. Raises UsageError for an unknown name or a bad value."""
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.", "Fix it, or name another file with --gates.") from None
    notes = []
    if "ollama" in tables and "generative" not in tables:
        tables["generative"] = tables.pop("ollama")
        notes.append(f"The table [ollama] in {path} is deprecated: use [generative].")
    try:
        gates = Gates.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    for mode, table in (("extractive", gates.extractive), ("generative", gates.generative)):
        if unknown := sorted({*table.at_least, *table.at_most, *table.no_worse} - METRICS.keys()):
            raise UsageError(f"{path}: [{mode}] names unknown metrics: {', '.join(unknown)}.")
        if table.at_least.get("groundedness", 0.0) > HIGHEST_GROUNDEDNESS_FLOOR:
            raise UsageError(
                f"{path}: the floor of groundedness in [{mode}] is above {HIGHEST_GROUNDEDNESS_FLOOR}.",
                "Lower it: a higher floor would fail a run for the verifier's own errors.",
            )
    return gates, notes


def check(
    run: RunScores, gates: Gates, baseline: RunScores | None = None, hard_failures: Iterable[tuple[str, str]] = ()
) -> list[GateDecision]:
    """Every gate for `run`, in the order of the file.

    `baseline` is the run to compare with. `hard_failures` are (question id, message).
    """
    table = gates.of(run)
    decisions = [_no_hard_failure(run.name, [f"{i}: {message}" for i, message in hard_failures])]
    decisions += [_bounded(run, name, bound, is_floor=True) for name, bound in table.at_least.items()]
    decisions += [_bounded(run, name, bound, is_floor=False) for name, bound in table.at_most.items()]
    if baseline is not None:
        changes = compare(baseline, run).metrics
        decisions += [_no_worse(run.name, name, changes.get(name), gates.drop) for name in table.no_worse]
    return decisions


def check_perturbation(result: PerturbationResult) -> GateDecision:
    """Whether the perturbation had the effect that it must have."""
    effect = "within bounds" if result.name == "nothing" else "breached"
    detail = f"{result.gate}: {effect if result.tripped else f'not {effect}'}"
    if result.caught and result.caught.value is not None:
        detail += f", {result.caught.value:.0%} of {result.caught.n} caught"
    if result.expected:
        detail += f" ({result.expected:.0%} expected)"
    return GateDecision(run="perturbation", name=result.name, passed=result.passed, detail=detail)


def _no_hard_failure(run: str, failures: list[str]) -> GateDecision:
    listed = failures[:_HARD_FAILURES_SHOWN]
    if len(failures) > len(listed):
        listed.append(f"{len(failures) - len(listed)} more")
    return GateDecision(run=run, name=NO_HARD_FAILURE, passed=not failures, detail="; ".join(listed) or "none")


def _bounded(run: RunScores, name: str, bound: float, *, is_floor: bool) -> GateDecision:
    label = f"{METRICS[name].label} at {'least' if is_floor else 'most'} {bound:g}"
    e = run.metrics.get(name)
    if e is None or e.value is None or e.low is None or e.high is None:
        return GateDecision(run=run.name, name=label, passed=False, detail=UNMEASURED)
    passed = e.high >= bound if is_floor else e.low <= bound
    detail = f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}], n = {e.n}"
    return GateDecision(run=run.name, name=label, passed=passed, detail=detail)


def _no_worse(run: str, name: str, change: MetricChange | None, drop: float) -> GateDecision:
    label = f"{METRICS[name].label} no worse than the baseline"
    if change is None or change.value is None:
        return GateDecision(run=run, name=label, passed=False, detail=UNMEASURED)
    breached = METRICS[name].sign * change.value < -drop and change.significant
    interval = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}], n = {change.n}"
    detail = f"{change.before:.3f} -> {change.after:.3f} ({interval})"
    return GateDecision(run=run, name=label, passed=not breached, detail=detail)


def corrected_groundedness(run: EvalRun, gates: Gates) -> float | None:
    """Groundedness corrected for the verifier's false alarms and misses in this mode (Rogan & Gladen 1978)."""
    rates = gates.of(run).verifier
    estimate = run.metrics.get("groundedness")
    if rates is None or estimate is None or estimate.value is None:
        return None
    return round(corrected_rate(estimate.value, rates.false_alarm, rates.miss), DIGITS)
