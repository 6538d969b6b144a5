"""Metrics of the ranking."""

from __future__ import annotations

from collections.abc import Mapping

from eval.log import EvalSample, LoggedPaper
from eval.metrics import condensed, retrieval
from eval.scorers.answers import paper_ids

_METRICS = ("nDCG@10", "recall@5", "recall@10", "MRR@10", "hit@1")


def score(sample: EvalSample, papers: Mapping[str, LoggedPaper]) -> dict[str, float | None]:
    """The retrieval metrics of an answerable question. Acceptable papers are removed from the ranking first."""
    if not sample.answerable:
        return {}
    qrels = {sample.id: dict.fromkeys(paper_ids(sample.gold, papers), 1)}
    ranking = condensed(sample.ranking, paper_ids(sample.acceptable, papers))
    values = retrieval(qrels, {sample.id: ranking}, _METRICS)
    return {name: values[name][sample.id] for name in _METRICS}
