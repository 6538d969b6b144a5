"""Metrics of answers and of abstention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eval.log import EvalSample, LoggedPaper
from eval.metrics import key_fact_recall, source_precision, source_recall
from rag.text.terms import words

ENOUGH_FACTS = 0.5  # least key-fact recall of a right answer


def score(sample: EvalSample, papers: Mapping[str, LoggedPaper]) -> dict[str, float | None]:
    """The metrics of the groups "answers" and "abstention", AURC aside."""
    answer = sample.answer
    if answer is None:
        return {}
    answered = not answer.abstained
    accuracy = float(is_right(sample, papers) if sample.answerable else answer.abstained)
    values: dict[str, float | None] = {"accuracy": accuracy, "coverage": float(answered)}
    if sample.answerable:
        gold, acceptable = paper_ids(sample.gold, papers), paper_ids(sample.acceptable, papers)
        cited = list(dict.fromkeys(citation.paper_id for citation in answer.citations))
        values["key_fact_recall"] = key_fact_recall(answer.text, sample.key_facts) if answered else 0.0
        values["source_recall"] = source_recall(cited, gold) if answered else 0.0
        values["source_precision"] = source_precision(cited, gold | acceptable) if answered else None
        values["false_refusal_rate"] = 1.0 - answered
    else:
        values["false_answer_rate"] = float(answered)
    if answered:
        values |= {"selective_accuracy": accuracy, "length": float(len(words(answer.text)))}
    return values


def is_right(sample: EvalSample, papers: Mapping[str, LoggedPaper]) -> bool:
    """Whether the answer has enough of the key facts and cites a gold or acceptable paper."""
    answer = sample.answer
    if answer is None or answer.abstained or not sample.answerable:
        return False
    sources = paper_ids((*sample.gold, *sample.acceptable), papers)
    facts = key_fact_recall(answer.text, sample.key_facts) or 0.0
    return facts >= ENOUGH_FACTS and any(citation.paper_id in sources for citation in answer.citations)


def paper_ids(titles: Iterable[str], papers: Mapping[str, LoggedPaper]) -> set[str]:
    """The ids of the papers with these titles; a title that no paper has stands for itself."""
    ids = {paper.title: paper_id for paper_id, paper in papers.items()}
    return {ids.get(title, title) for title in titles}
