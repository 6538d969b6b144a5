"""Comparing two runs, and deciding whether one may pass: `eval/gates.toml` says what, this says how.

Hard failures, errors in the sabotage and missing figures always breach. A floor or a ceiling is breached where the
whole interval lies beyond it; a regression where a figure has worsened by more than `drop` and the paired-bootstrap
interval of the difference excludes zero. So noise does not gate, and neither does a difference nobody would feel.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.metrics import METRICS, Estimate, aurc, bootstrap_of, corrected_rate, mean, paired_difference
from rag.errors import UsageError

HERE = Path(__file__).parent
GATES, BASELINE = HERE / "gates.toml", HERE / "baseline.json"
HIGHEST_GROUNDEDNESS_FLOOR = 0.80  # a perfect system scores about 0.90 where the verifier has 10% false alarms
UNMEASURED = "nothing to measure it on"

_TABLE = {"at_least", "at_most", "no_worse", "verifier"}

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gate:
    """One decision about one run, with the line that explains it."""

    run: str
    name: str
    passed: bool
    detail: str

    def as_json(self) -> dict[str, Any]:
        """`{"run", "name", "passed", "detail"}`."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'BREACH'}  {self.run}: {self.name}: {self.detail}"


# --- reports on disk ---------------------------------------------------------------------------------


def read_report(path: Path) -> dict[str, Any]:
    """A report.json or a baseline. Raises UsageError if it is neither."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if report["schema"] != 1 or not all({"name", "mode", "outcomes"} <= run.keys() for run in report["runs"]):
            raise ValueError("another schema")
        return report
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no report of `rag eval run`: {error}.", "Give a report.json.") from None


def baseline_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a later run needs of `report` to be compared with it: the figures of each question, without answers."""
    keys = ("id", "good", "confidence", "loss", "metrics")
    runs = [
        {
            **{k: run[k] for k in ("name", "mode", "model", "metrics")},
            "outcomes": [{k: o[k] for k in keys} for o in run["outcomes"]],
        }
        for run in report["runs"]
    ]
    return {k: report[k] for k in ("schema", "version", "questions", "corpus")} | {"runs": runs}


def matching(run: Run, runs: Sequence[Run]) -> Run | None:
    """The run of `runs` to compare `run` with: of the same name, else the only one of the same mode."""
    same = [r for r in runs if r["name"] == run["name"]] or [r for r in runs if r["mode"] == run["mode"]]
    return same[0] if len(same) == 1 else None


# --- comparison --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """How one metric moved over the questions both runs have."""

    before: float | None
    after: float | None
    difference: Estimate

    @property
    def significant(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side; the lists are ids of questions."""

    metrics: dict[str, Change]
    turned_bad: list[str]
    turned_good: list[str]
    only_before: list[str]
    only_after: list[str]

    def as_json(self) -> dict[str, Any]:
        """The JSON of `rag eval diff` for one pair of runs."""
        changes = {
            name: {"before": c.before, "after": c.after, "significant": c.significant, **c.difference.as_json()}
            for name, c in self.metrics.items()
        }
        return {**asdict(self), "metrics": changes}


def compare(before: Run, after: Run) -> Comparison:
    """Every metric over the questions both runs have, with the paired bootstrap, and the questions that turned."""
    old, new = ({o["id"]: o for o in run["outcomes"]} for run in (before, after))
    both = [i for i in old if i in new]
    changes: dict[str, Change] = {}
    for name in METRICS:
        if name == "AURC":
            changes[name] = _aurc_change([old[i] for i in both], [new[i] for i in both])
            continue
        pairs = [i for i in both if name in old[i]["metrics"] and name in new[i]["metrics"]]
        a, b = ({i: float(run[i]["metrics"][name]) for i in pairs} for run in (old, new))
        changes[name] = Change(mean([*a.values()]).value, mean([*b.values()]).value, paired_difference(a, b))
    return Comparison(
        {name: c for name, c in changes.items() if c.difference.n},
        [i for i in both if old[i]["good"] and not new[i]["good"]],
        [i for i in both if new[i]["good"] and not old[i]["good"]],
        [i for i in old if i not in new],
        [i for i in new if i not in old],
    )


def _aurc_change(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Change:
    columns = [[o[key] for o in run] for run in (old, new) for key in ("confidence", "loss")]
    difference = bootstrap_of(lambda a, b, c, d: (aurc(c, d) or 0.0) - (aurc(a, b) or 0.0), columns)
    return Change(aurc(columns[0], columns[1]), aurc(columns[2], columns[3]), difference)


# --- gates -------------------------------------------------------------------------------------------


def read_gates(path: Path = GATES) -> dict[str, Any]:
    """The gates in `path`. Raises UsageError for a name or a value that cannot be one."""
    try:
        gates = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.", "Mend it, or name another with --gates.") from None
    drop = gates.get("drop")
    if not isinstance(drop, float) or set(gates) - {"drop", "extractive", "ollama"}:
        raise UsageError(f"{path}: it needs `drop` and tables [extractive] and [ollama] only.")
    for mode in ("extractive", "ollama"):
        table = gates.get(mode, {})
        named = [*table.get("at_least", {}), *table.get("at_most", {}), *table.get("no_worse", [])]
        unknown = sorted({n for n in named if n not in METRICS} | (set(table) - _TABLE))
        if unknown:
            raise UsageError(f"{path}: [{mode}] has unknown names: {', '.join(unknown)}.")
        if table.get("at_least", {}).get("groundedness", 0) > HIGHEST_GROUNDEDNESS_FLOOR:
            raise UsageError(f"{path}: a floor for groundedness above {HIGHEST_GROUNDEDNESS_FLOOR} gates the verifier.")
    return gates


def check(run: Run, gates: Mapping[str, Any], baseline: Run | None = None) -> list[Gate]:
    """Every gate for `run`, in the order of the file; `baseline` is the run it must not fall behind."""
    table = gates.get(run["mode"] or "extractive", {})
    hard = run.get("hard_failures", [])
    told = "; ".join(f"{f['id']}: {f['failure']}" for f in hard[:3])
    told += f"; {len(hard) - 3} more" if len(hard) > 3 else ""
    found = [Gate(run["name"], "no hard failure", not hard, told or "none")]
    for name, bound in table.get("at_least", {}).items():
        found.append(_bounded(run, name, bound, lambda e, b: e["high"] >= b, "at least"))
    for name, bound in table.get("at_most", {}).items():
        found.append(_bounded(run, name, bound, lambda e, b: e["low"] <= b, "at most"))
    if baseline is not None:
        changes = compare(baseline, run).metrics
        found += [_no_worse(run, name, changes.get(name), gates["drop"]) for name in table.get("no_worse", [])]
    return found


def _bounded(run: Run, name: str, bound: float, holds: Any, words: str) -> Gate:
    estimate = run["metrics"].get(name) or {}
    label = f"{METRICS[name].label} {words} {bound:g}"
    if estimate.get("value") is None:
        return Gate(run["name"], label, False, UNMEASURED)
    shown = f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}], n = {estimate['n']}"
    return Gate(run["name"], label, bool(holds(estimate, bound)), shown)


def _no_worse(run: Run, name: str, change: Change | None, drop: float) -> Gate:
    label = f"{METRICS[name].label} no worse than the baseline"
    if change is None or change.difference.value is None:
        return Gate(run["name"], label, False, UNMEASURED)
    d = change.difference
    sign = -1 if METRICS[name].better == "lower" else 1
    breached = sign * (d.value or 0.0) < -drop and change.significant
    shown = f"{change.before:.3f} -> {change.after:.3f} ({d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], n = {d.n})"
    return Gate(run["name"], label, not breached, shown)


def corrected_groundedness(run: Run, gates: Mapping[str, Any]) -> float | None:
    """Groundedness corrected for the verifier's false alarms and misses in this mode (Rogan & Gladen 1978)."""
    rates = gates.get(run["mode"] or "extractive", {}).get("verifier")
    observed = (run["metrics"].get("groundedness") or {}).get("value")
    if rates is None or observed is None:
        return None
    return round(corrected_rate(observed, rates["false_alarm"], rates["miss"]), 4)
