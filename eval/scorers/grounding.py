"""Metrics of how well the papers support an answer, from the verifier's counts."""

from __future__ import annotations

from collections.abc import Mapping

from eval.log import EvalSample, LoggedPaper
from rag.verification.claims import strip_citations
from rag.verification.names import names
from rag.verification.numbers import numbers


def score(sample: EvalSample, papers: Mapping[str, LoggedPaper]) -> dict[str, float | None]:
    """The metrics of the group "grounding" for an answer that is not an abstention."""
    answer = sample.answer
    values: dict[str, float | None] = {"leave_one_out": sample.leave_one_out}
    if answer is None or answer.abstained or answer.grounding is None:
        return values
    texts = [strip_citations(sentence.text) for sentence in answer.sentences]
    return values | {
        "groundedness": answer.grounding.groundedness,
        "citation_recall": answer.grounding.citation_recall,
        "citation_precision": answer.grounding.citation_precision,
        "numeric_fidelity": _fidelity(answer.grounding.novel_numbers, sum(len(numbers(text)) for text in texts)),
        "name_fidelity": _fidelity(answer.grounding.novel_names, sum(len(names(text)) for text in texts)),
    }


def _fidelity(novel: int | None, total: int) -> float | None:
    """The share of `total` that is not `novel`; None if there is nothing to count."""
    return None if novel is None or not total else max(0.0, 1 - novel / total)
