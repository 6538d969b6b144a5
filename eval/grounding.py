"""The verifier against human labels.

Two formats are read, one JSON object per line: RAGTruth's (Niu et al. 2024: `question, passages, response,
unsupported[{start, end}]`) and SciFact's (Wadden et al. 2020: `claim, title, abstract, label`). The positive class is
text that the sources do not support in every part, because annotators mark spans. So a verdict of `partial` counts as a
detection, and raises the suspicion by the margin at which rag replaces a citation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.log import Estimate
from eval.metrics import bootstrap_of
from rag.corpus.reading import read_text
from rag.errors import UsageError
from rag.text.sentences import sentence_spans
from rag.types import Paper, Sentence
from rag.verification.claims import is_claim
from rag.verification.sources import EncodedSources
from rag.verification.verdicts import MISCITED_MARGIN, SUPPORT_THRESHOLD
from rag.verification.verifier import Verifier

if TYPE_CHECKING:
    from rag.assistant import Assistant

# --- labelled files ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One response with its sources. `wrong` are the spans that annotators marked as unsupported.

    `claim`: the response is one sentence that cites its sources, so it is always checked. `label` groups responses.
    """

    question: str
    sources: tuple[tuple[str, str], ...]  # (title, text)
    response: str
    wrong: tuple[tuple[int, int], ...]
    label: str
    claim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Suspicion (1 - support, more for `partial`) and label of a response and of its claims."""

    response: float
    is_wrong: bool
    flagged: bool
    sentences: tuple[tuple[float, bool, bool], ...]  # (suspicion, wrong, flagged)
    label: str
    source: int  # the same for responses to the same source


def read(path: Path) -> list[Labelled]:
    """The labelled responses of `path`. Raises UsageError for a line in neither format."""
    items = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            items.append(_scifact(record) if "claim" in record else _ragtruth(record))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path.name}:{number}: neither RAGTruth's nor SciFact's fields: {error!r}.") from None
    if not items:
        raise UsageError(f"{path} holds no labelled response.")
    return items


def _scifact(record: dict[str, Any]) -> Labelled:
    claim, label = str(record["claim"]), str(record["label"])
    wrong = () if label == "SUPPORT" else ((0, len(claim)),)
    sources = ((str(record["title"]), str(record["abstract"])),)
    return Labelled(question="", sources=sources, response=claim, wrong=wrong, label=label, claim=True)


def _ragtruth(record: dict[str, Any]) -> Labelled:
    passages = re.split(r"(?:^|\n)passage \d+:", str(record["passages"]))
    wrong = tuple((int(span["start"]), int(span["end"])) for span in record["unsupported"])
    sources = tuple(("", text.strip()) for text in passages if text.strip())
    return Labelled(
        question=str(record["question"]),
        sources=sources,
        response=str(record["response"]),
        wrong=wrong,
        label=str(record.get("model", "")),
    )


# --- verdicts ----------------------------------------------------------------------------------------

Rows = Sequence[tuple[float, bool, bool]]


def labelled_verifier(assistant: Assistant) -> Verifier:
    """A verifier for texts that no index holds."""
    from rag.index.store import Index

    index = Index.open(assistant.settings)
    return Verifier(index, assistant.encoder, sources=EncodedSources(index, assistant.encoder))


def score(item: Labelled, verifier: Verifier) -> Scored:
    """The verdicts on `item`. A response is as suspect as its most suspect claim; 0 if it has none."""
    context = [Paper(paper_id=f"{title}\n{text}", title=title, abstract=text) for title, text in item.sources]
    spans = [(0, len(item.response))] if item.claim else sentence_spans(item.response)
    spans = [(a, b) for a, b in spans if is_claim(item.response[a:b], item.claim)]
    all_sources = tuple(range(1, len(context) + 1))
    sentences = [Sentence(text=item.response[a:b], citations=all_sources) for a, b in spans]
    rows = []
    for (a, b), verdict in zip(spans, verifier.assess(item.question, sentences, context), strict=True):
        if verdict.support is not None:
            is_wrong = any(start < b and a < end for start, end in item.wrong)
            suspicion = 1 - verdict.support + MISCITED_MARGIN * (verdict.label == "partial")
            rows.append((suspicion, is_wrong, verdict.label in ("unsupported", "partial")))
    return Scored(
        response=max((suspicion for suspicion, _, _ in rows), default=0.0),
        is_wrong=bool(item.wrong),
        flagged=any(flagged for _, _, flagged in rows),
        sentences=tuple(rows),
        label=item.label,
        source=hash(item.sources),
    )


# --- figures -----------------------------------------------------------------------------------------


def summarise(scored: Sequence[Scored]) -> dict[str, dict[str, Estimate]]:
    """Figures for responses and for sentences, and for each kind of unsupported claim in SciFact."""
    figures = {"response": _figures(scored, _response), "sentence": _figures(scored, _sentences)}
    for label in ("CONTRADICT", "NOT_ENOUGH_INFO"):
        if any(s.label == label for s in scored):
            pair = [s for s in scored if s.label in ("SUPPORT", label)]
            figures[f"SUPPORT against {label}"] = _figures(pair, _sentences)
    return figures


def _response(scored: Scored) -> Rows:
    return ((scored.response, scored.is_wrong, scored.flagged),)


def _sentences(scored: Scored) -> Rows:
    return scored.sentences


def _figures(scored: Sequence[Scored], rows_of: Callable[[Scored], Rows]) -> dict[str, Estimate]:
    """auroc (Mann-Whitney), balanced_accuracy and f1 at the shipped threshold, best_f1 over all thresholds.

    Intervals resample sources with all their responses (cluster bootstrap): the sentences of one response are not
    independent, and the responses to one source are not either.
    """
    from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_curve, roc_auc_score

    clusters: dict[int, list[tuple[float, bool, bool]]] = {}
    for s in scored:
        clusters.setdefault(s.source, []).extend(rows_of(s))
    rows = [np.array(cluster, dtype=np.float64).reshape(-1, 3) for cluster in clusters.values()]
    count = sum(len(r) for r in rows)

    def best_f1(truth: Any, suspicion: Any) -> float:
        precision, recall, _ = precision_recall_curve(truth, suspicion)
        return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))

    def over(figure: Callable[[Any], float]) -> Estimate:
        def resampled(indices: Any) -> float | None:
            sample = np.concatenate([rows[i] for i in indices])
            return figure(sample) if 0 < sample[:, 1].sum() < len(sample) else None

        estimate = bootstrap_of(resampled, [range(len(rows))])
        return estimate.model_copy(update={"n": count})

    return {
        "auroc": over(lambda d: float(roc_auc_score(d[:, 1], d[:, 0]))),
        "balanced_accuracy": over(lambda d: float(balanced_accuracy_score(d[:, 1], d[:, 2]))),
        "f1": over(lambda d: float(f1_score(d[:, 1], d[:, 2], zero_division=0))),
        "best_f1": over(lambda d: best_f1(d[:, 1], d[:, 0])),
    }


def as_json(name: str, scored: Sequence[Scored], figures: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    """The JSON of `rag eval grounding`: level -> metric -> value, with `n` and `intervals`."""
    result: dict[str, Any] = {"file": name, "responses": len(scored), "threshold": SUPPORT_THRESHOLD}
    for level, estimates in figures.items():
        result[level] = {metric: e.value for metric, e in estimates.items()} | {
            "n": next(iter(estimates.values())).n,
            "intervals": {metric: [e.low, e.high] for metric, e in estimates.items()},
        }
    return result
