"""The verifier against human labels.

Two formats are read, one JSON object a line: RAGTruth's (Niu et al. 2024: `question, passages, response,
unsupported[{start, end}]`) and SciFact's (Wadden et al. 2020: `claim, title, abstract, label`). What is detected, the
positive class, is text of which its source does not support every part: people mark spans, so a verdict of `partial`
is a detection, and raises suspicion by as much as another paper must be better to be cited instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.metrics import Estimate, bootstrap_of
from rag.answering import Sentence
from rag.answering.verify import Verifier
from rag.errors import UsageError
from rag.grounding import MARGIN, THRESHOLD, Source, is_claim, read_source
from rag.interaction import owners
from rag.papers import Paper, read_text
from rag.text import sentence_spans

if TYPE_CHECKING:
    from rag.assistant import Assistant

# --- labelled files ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response with its sources; `wrong` are the spans people marked as unsupported.

    `claim`: it is one sentence that cites its sources, and so is always checked. `label` groups.
    """

    question: str
    sources: tuple[tuple[str, str], ...]  # (title, text)
    response: str
    wrong: tuple[tuple[int, int], ...]
    label: str
    claim: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """Suspicion (1 - support, more for `partial`) and truth of a response and of its checkable sentences."""

    response: float
    is_wrong: bool
    flagged: bool
    sentences: tuple[tuple[float, bool, bool], ...]  # (suspicion, wrong, flagged)
    label: str
    source: int  # the same for responses to the same source


def read(path: Path) -> list[Labelled]:
    """The labelled responses of `path`. Raises UsageError for a line in neither format."""
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            found.append(_scifact(record) if "claim" in record else _ragtruth(record))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path.name}:{number}: neither RAGTruth's nor SciFact's fields: {error!r}.") from None
    if not found:
        raise UsageError(f"{path} holds no labelled response.")
    return found


def _scifact(record: dict[str, Any]) -> Labelled:
    claim, label = str(record["claim"]), str(record["label"])
    wrong = () if label == "SUPPORT" else ((0, len(claim)),)
    return Labelled("", ((str(record["title"]), str(record["abstract"])),), claim, wrong, label, True)


def _ragtruth(record: dict[str, Any]) -> Labelled:
    passages = re.split(r"(?:^|\n)passage \d+:", str(record["passages"]))
    wrong = tuple((int(span["start"]), int(span["end"])) for span in record["unsupported"])
    sources = tuple(("", text.strip()) for text in passages if text.strip())
    return Labelled(str(record["question"]), sources, str(record["response"]), wrong, str(record.get("model", "")))


Rows = Sequence[tuple[float, bool, bool]]


class LabelledVerifier(Verifier):
    """The assistant's verifier over texts that no index holds."""

    def __init__(self, assistant: Assistant) -> None:
        super().__init__(assistant.index, assistant.retriever)
        self.papers: dict[str, Paper] = {}

    def score(self, item: Labelled) -> Scored:
        """The verdicts on `item`: a response is as suspect as its worst checkable sentence, 0 if it has none."""
        given = [Paper(f"{title}\n{text}", title, text) for title, text in item.sources]
        self.papers |= {paper.paper_id: paper for paper in given}
        spans = [(0, len(item.response))] if item.claim else sentence_spans(item.response)
        spans = [(a, b) for a, b in spans if is_claim(item.response[a:b], item.claim)]
        everything = tuple(range(1, len(given) + 1))
        sentences = [Sentence(item.response[a:b], everything) for a, b in spans]
        found = []
        for (a, b), judgement in zip(spans, self.judge(item.question, sentences, given)[1], strict=True):
            if judgement.support is not None:
                wrong = any(start < b and a < end for start, end in item.wrong)
                suspicion = 1 - judgement.support + MARGIN * (judgement.verdict == "partial")
                found.append((suspicion, wrong, judgement.verdict in ("unsupported", "partial")))
        worst = max((suspicion for suspicion, _, _ in found), default=0.0)
        flagged = any(flagged for _, _, flagged in found)
        return Scored(worst, bool(item.wrong), flagged, tuple(found), item.label, hash(item.sources))

    def _source(self, paper_id: str) -> Source:
        """Title and text made ready, by as many passes of the encoder as its window takes."""
        paper = self.papers[paper_id]
        offsets: list[tuple[int, int]] = []
        states = [np.zeros((0, self.index.projection.shape[0]), dtype=np.float32)]
        at = 0
        while (part := self.retriever.encoder.token_states(paper_id[at:])).offsets and part.offsets[-1][1]:
            offsets += [(at + a, at + b) for a, b in part.offsets]
            states.append(part.states)
            at = offsets[-1][1]
        start = len(paper.title) + 1
        starts = [start + a for a, _ in sentence_spans(paper_id[start:])]
        return read_source(paper_id, owners(offsets, starts), self.index.project(np.concatenate(states)), start)


def summarise(scored: Sequence[Scored]) -> dict[str, dict[str, Estimate]]:
    """Figures for responses and for sentences, and for each kind of unsupported claim in SciFact."""
    figures = {"response": _figures(scored, _response), "sentence": _figures(scored, _sentences)}
    for label in ("CONTRADICT", "NOT_ENOUGH_INFO"):
        if any(s.label == label for s in scored):
            kept = [s for s in scored if s.label in ("SUPPORT", label)]
            figures[f"SUPPORT against {label}"] = _figures(kept, _sentences)
    return figures


def _response(scored: Scored) -> Rows:
    return ((scored.response, scored.is_wrong, scored.flagged),)


def _sentences(scored: Scored) -> Rows:
    return scored.sentences


def _figures(scored: Sequence[Scored], rows_of: Callable[[Scored], Rows]) -> dict[str, Estimate]:
    """auroc (Mann-Whitney), balanced_accuracy and f1 at the shipped threshold, best_f1 over all thresholds.

    Intervals resample sources with all that was said about them: neither the sentences of one response nor the
    responses to one source are independent (cluster bootstrap).
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
        def sampled(indices: Any) -> float | None:
            drawn = np.concatenate([rows[i] for i in indices])
            return figure(drawn) if 0 < drawn[:, 1].sum() < len(drawn) else None

        estimate = bootstrap_of(sampled, [range(len(rows))])
        return Estimate(estimate.value, estimate.low, estimate.high, count)

    return {
        "auroc": over(lambda d: float(roc_auc_score(d[:, 1], d[:, 0]))),
        "balanced_accuracy": over(lambda d: float(balanced_accuracy_score(d[:, 1], d[:, 2]))),
        "f1": over(lambda d: float(f1_score(d[:, 1], d[:, 2], zero_division=0))),
        "best_f1": over(lambda d: best_f1(d[:, 1], d[:, 0])),
    }


def as_json(name: str, scored: Sequence[Scored], figures: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    """The JSON of `rag eval grounding`: level -> metric -> value, with `n` and `intervals`."""
    result: dict[str, Any] = {"file": name, "responses": len(scored), "threshold": THRESHOLD}
    for level, estimates in figures.items():
        rounded = {metric: e.as_json() for metric, e in estimates.items()}
        result[level] = {metric: e["value"] for metric, e in rounded.items()} | {
            "n": next(iter(rounded.values()))["n"],
            "intervals": {metric: [e["low"], e["high"]] for metric, e in rounded.items()},
        }
    return result
