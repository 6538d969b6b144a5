"""Two runs side by side: every metric with the paired bootstrap, and the questions that turned bad or good."""

from __future__ import annotations

from collections.abc import Sequence

from eval.log import DIGITS, Comparison, Estimate, MetricChange, RunScores, SampleScores
from eval.metrics import METRICS, aurc, bootstrap_of, mean, paired_difference


def matching(run: RunScores, runs: Sequence[RunScores]) -> RunScores | None:
    """The run of `runs` to compare `run` with: of the same name, else the only one of the same mode."""
    same = [r for r in runs if r.name == run.name] or [r for r in runs if r.mode == run.mode]
    return same[0] if len(same) == 1 else None


def compare(before: RunScores, after: RunScores) -> Comparison:
    """The changes over the questions that both runs have."""
    old, new = ({sample.id: sample for sample in run.samples} for run in (before, after))
    both = [i for i in old if i in new]
    changes = {name: _change(name, [old[i] for i in both], [new[i] for i in both]) for name in METRICS}
    return Comparison(
        metrics={name: change for name, change in changes.items() if change.n},
        turned_bad=tuple(i for i in both if old[i].good and not new[i].good),
        turned_good=tuple(i for i in both if new[i].good and not old[i].good),
        only_before=tuple(i for i in old if i not in new),
        only_after=tuple(i for i in new if i not in old),
    )


def _change(name: str, old: Sequence[SampleScores], new: Sequence[SampleScores]) -> MetricChange:
    if name == "AURC":
        columns = [column for samples in (old, new) for column in _confidence_and_loss(samples)]
        difference = bootstrap_of(lambda a, b, c, d: (aurc(c, d) or 0.0) - (aurc(a, b) or 0.0), columns)
        return _metric_change(aurc(*columns[:2]), aurc(*columns[2:]), difference)
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if name in a.metrics and name in b.metrics]
    before = {a.id: a.metrics[name] for a, _ in pairs}
    after = {b.id: b.metrics[name] for _, b in pairs}
    difference = paired_difference(before, after)
    return _metric_change(mean([*before.values()]).value, mean([*after.values()]).value, difference)


def _confidence_and_loss(samples: Sequence[SampleScores]) -> tuple[list[float], list[float]]:
    """Both columns. Confidences are rounded as in a baseline, so that rounding does not count as a change."""
    return [round(s.confidence, DIGITS) for s in samples], [s.loss for s in samples]


def _metric_change(before: float | None, after: float | None, difference: Estimate) -> MetricChange:
    low, high = difference.low, difference.high
    return MetricChange(
        before=before,
        after=after,
        **difference.model_dump(),
        significant=low is not None and high is not None and (low > 0 or high < 0),
    )
