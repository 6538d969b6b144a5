"""Metrics by their standard names, each with its definition and source, and means with their intervals.

Every metric is a pure function of the question, the ranking and the answer. It is None for a question that it does not
apply to. Its mean leaves such questions out; n is the number of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.log import Estimate
from rag.text.terms import fold, stem_all

RESAMPLES = 2000
CONFIDENCE = 0.95

# --- means and their intervals -----------------------------------------------------------------------


def mean(values: Sequence[float | None]) -> Estimate:
    """The mean of `values` (None left out) and its percentile-bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    The seed is fixed: the same values always give the same interval.
    """
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if not len(known):
        return Estimate()
    value = float(known.mean())
    if len(known) < 2 or np.ptp(known) == 0:
        return Estimate(value=value, low=value, high=value, n=len(known))
    from scipy.stats import bootstrap

    interval = bootstrap(
        (known,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(known)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value=value, low=float(interval.low), high=float(interval.high), n=len(known))


def paired_difference(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Estimate:
    """The mean of `after - before` over the questions that both have, with its paired-bootstrap interval.

    Koehn 2004; Sakai 2006 for IR. The difference is significant if the interval excludes zero.
    """
    both = [(before[i], after[i]) for i in before if i in after]
    return mean([b - a for a, b in both if a is not None and b is not None])


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-th percentile (0 to 100), linear between neighbours."""
    return float(np.percentile(np.array(values), q)) if values else None


# --- retrieval ---------------------------------------------------------------------------------------

# Our name -> the name in ir-measures, which computes them with trec_eval's code. `METRICS` defines them.
RETRIEVAL = {
    "nDCG@10": "nDCG@10",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@100": "R@100",
    "MRR@10": "RR@10",
    "hit@1": "Success@1",
}


def retrieval(
    qrels: Mapping[str, Mapping[str, int]], runs: Mapping[str, Sequence[str]], names: Collection[str] = tuple(RETRIEVAL)
) -> dict[str, dict[str, float]]:
    """Metric -> query -> value, for every query of `qrels` that has a relevant document.

    `runs` are ranked document ids. A query without a run scores 0.
    """
    import ir_measures

    judged = {query: grades for query, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    measures = {ir_measures.parse_measure(RETRIEVAL[name]): name for name in names}
    values = {name: dict.fromkeys(judged, 0.0) for name in names}
    rows = [ir_measures.Qrel(q, doc, grade) for q, grades in judged.items() for doc, grade in grades.items()]
    ranked = [ir_measures.ScoredDoc(q, doc, -float(i)) for q in judged for i, doc in enumerate(runs.get(q, ()))]
    if ranked:
        for row in ir_measures.iter_calc(list(measures), rows, ranked):
            values[measures[row.measure]][row.query_id] = float(row.value)
    return values


def condensed(ranking: Sequence[str], ignored: Collection[str]) -> list[str]:
    """`ranking` without the papers that are neither right nor wrong (condensed lists, Sakai 2007)."""
    return [paper for paper in ranking if paper not in ignored]


# --- answers -----------------------------------------------------------------------------------------

_FACT_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|%")


def _fact_tokens(text: str) -> str:
    tokens = [t.replace(",", "") if t[0].isdigit() else t for t in _FACT_TOKEN.findall(fold(text))]
    return f" {' '.join(stem_all(tokens))} "


def holds_fact(answer: str, fact: str) -> bool:
    """Whether `answer` has the stems of `fact` in a row. Case, accents, LaTeX and thousands commas are ignored."""
    return _fact_tokens(fact) in _fact_tokens(answer)


def key_fact_recall(answer: str, facts: Sequence[str]) -> float | None:
    """Share of the key facts that the answer holds: nugget recall (Voorhees 2003), matched by phrase."""
    return sum(holds_fact(answer, fact) for fact in facts) / len(facts) if facts else None


def source_precision(cited: Collection[str], right: Collection[str]) -> float | None:
    """Share of the cited papers that are gold or acceptable; None without a citation."""
    return sum(paper in right for paper in cited) / len(cited) if cited else None


def source_recall(cited: Collection[str], gold: Collection[str]) -> float | None:
    """Share of the gold papers that are cited."""
    return sum(paper in cited for paper in gold) / len(gold) if gold else None


def corrected_rate(observed: float, false_alarm: float, miss: float) -> float:
    """The true share of grounded sentences, given the `observed` share and the verifier's error rates.

    Rogan & Gladen 1978: (observed - miss) / (1 - false_alarm - miss), clipped to [0, 1]. `miss` is the share of
    ungrounded sentences that the verifier passes, `false_alarm` the share of grounded ones that it fails.
    """
    informative = 1 - false_alarm - miss
    return min(1.0, max(0.0, (observed - miss) / informative)) if informative > 0 else observed


# --- abstention --------------------------------------------------------------------------------------


def risk_coverage(confidences: Sequence[float], errors: Sequence[float]) -> tuple[list[float], list[float]]:
    """(coverage, risk) when the k most confident answers are given, k = 1..n (El-Yaniv & Wiener 2010).

    Risk is the mean error among them. Equal confidences share their errors, so that their order does not matter.
    """
    order = np.argsort(-np.array(confidences), kind="stable")
    ranked, wrong = np.array(confidences)[order], np.array(errors, dtype=np.float64)[order]
    if not len(wrong):
        return [], []
    _, group = np.unique(-ranked, return_inverse=True)
    shared = (np.bincount(group, weights=wrong) / np.bincount(group))[group]
    counts = np.arange(1, len(wrong) + 1)
    return list(counts / len(wrong)), list(np.cumsum(shared) / counts)


def aurc(confidences: Sequence[float], errors: Sequence[float]) -> float | None:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman, Uziel & El-Yaniv 2019)."""
    risks = risk_coverage(confidences, errors)[1]
    return float(np.mean(risks)) if risks else None


def bootstrap_of(
    statistic: Callable[..., float | None], columns: Sequence[Sequence[Any]], resamples: int = 500
) -> Estimate:
    """`statistic(*columns)` with its percentile-bootstrap interval; rows of `columns` are resampled together.

    For figures that are not means. Resamples for which the statistic is undefined (None) are left out.
    """
    # scipy.stats.bootstrap(paired=True) does not leave them out: one undefined resample, such as a kappa over identical
    # labels, makes its whole interval NaN.
    arrays = [np.asarray(column) for column in columns]
    n = len(arrays[0])
    value = statistic(*arrays) if n else None
    if value is None:
        return Estimate(n=n)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(0, n, n)
        if (sample := statistic(*(array[rows] for array in arrays))) is not None:
            drawn.append(sample)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]) if drawn else (value, value)
    return Estimate(value=float(value), low=float(low), high=float(high), n=n)


# --- the catalogue -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metric:
    """What a figure of a run means. `better` is "higher", "lower" or "" (neither)."""

    label: str
    group: str
    better: str
    definition: str

    @property
    def sign(self) -> int:
        """1 if a higher value is better or neither is, -1 if a lower one is."""
        return -1 if self.better == "lower" else 1


METRICS: dict[str, Metric] = {
    "nDCG@10": Metric(
        "nDCG@10", "retrieval", "higher",
        "Discounted gain of the first ten papers over that of the ideal order (Järvelin & Kekäläinen 2002).",
    ),
    "recall@5": Metric("Recall@5", "retrieval", "higher", "Share of the gold papers among the first five."),
    "recall@10": Metric("Recall@10", "retrieval", "higher", "Share of the gold papers among the first ten."),
    "MRR@10": Metric("MRR@10", "retrieval", "higher", "1/rank of the first gold paper, 0 beyond ten (Voorhees 1999)."),
    "hit@1": Metric("Hit@1", "retrieval", "higher", "Whether the first paper is a gold one (Success@1)."),
    "accuracy": Metric(
        "Accuracy", "answers", "higher",
        "Share of questions with the right outcome: an answerable one gets at least half of its key facts and cites a "
        "gold or acceptable paper; for an unanswerable one rag abstains.",
    ),
    "key_fact_recall": Metric(
        "Key-fact recall", "answers", "higher",
        "Share of a question's key facts that the answer holds (nugget recall, Voorhees 2003); 0 for an abstention.",
    ),
    "source_precision": Metric(
        "Source precision", "answers", "higher", "Share of the cited papers that are gold or acceptable."
    ),
    "source_recall": Metric(
        "Source recall", "answers", "higher", "Share of the gold papers that are cited; 0 for an abstention."
    ),
    "groundedness": Metric(
        "Groundedness", "grounding", "higher",
        "Share of an answer's claims that the retrieved papers support according to the verifier; a partly supported "
        "claim counts half (faithfulness: Es et al. 2023, RAGAS).",
    ),
    "citation_recall": Metric(
        "Citation recall", "grounding", "higher",
        "Share of claims that their cited papers together entail (ALCE, Gao et al. 2023), by the verifier's verdict.",
    ),
    "citation_precision": Metric(
        "Citation precision", "grounding", "higher",
        "Share of citations that are needed for that (ALCE, Gao et al. 2023).",
    ),
    "numeric_fidelity": Metric(
        "Numeric fidelity", "grounding", "higher", "Share of an answer's numbers that are in the cited abstracts."
    ),
    "name_fidelity": Metric(
        "Name fidelity", "grounding", "higher", "Share of an answer's names that are in the cited abstracts."
    ),
    "leave_one_out": Metric(
        "Leave-one-out attribution", "grounding", "higher",
        "Share of claims that change, cite another paper or disappear if the paper cited first is removed from the "
        "corpus (counterfactual attribution; Cohen-Wang et al. 2024, ContextCite).",
    ),
    "coverage": Metric("Coverage", "abstention", "", "Share of questions that are answered (El-Yaniv & Wiener 2010)."),
    "selective_accuracy": Metric(
        "Selective accuracy", "abstention", "higher", "Accuracy among the questions that are answered."
    ),
    "false_refusal_rate": Metric(
        "False refusals", "abstention", "lower", "Share of the answerable questions for which rag abstains."
    ),
    "false_answer_rate": Metric(
        "False answers", "abstention", "lower", "Share of the unanswerable questions that are answered."
    ),
    "AURC": Metric(
        "AURC", "abstention", "lower",
        "Area under the risk-coverage curve: mean error over all coverages if the most confident answers are given "
        "first (Geifman, Uziel & El-Yaniv 2019).",
    ),
    "length": Metric("Length (words)", "answers", "", "Words of an answer that is not an abstention."),
}  # fmt: skip
"""Every figure of a run. All but AURC are means of one value per question."""
