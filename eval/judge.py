"""A judge model's labels for the claims of a run, and their agreement with the verifier. They never gate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from eval.log import EvalRun, EvalSample, JudgeAgreement, LoggedPaper
from eval.metrics import bootstrap_of, mean
from rag.types import Progress
from rag.verification.judges import Judge


def add_judge(
    run: EvalRun, papers: Mapping[str, LoggedPaper], judge: Judge, progress: Progress = lambda done, total: None
) -> EvalRun:
    """`run` with the label of `judge` on every claim that cites a paper, and its agreement with the verifier.

    For both, only "supported" counts as yes. Raises what the judge raises.
    """
    total = sum(len(_cited_claims(sample)) for sample in run.samples)
    by_verifier: list[float] = []
    by_judge: list[float] = []
    samples = []
    for sample in run.samples:
        labels: dict[int, str] = {}
        for i, paper_ids in _cited_claims(sample).items():
            assert sample.answer is not None
            sentence = sample.answer.sentences[i]
            text = "\n\n".join(f"{papers[p].title}\n{papers[p].abstract}" for p in paper_ids)
            labels[i] = judge(sentence.text, text).label
            by_verifier.append(float(sentence.verdict == "supported"))
            by_judge.append(float(labels[i] == "supported"))
            progress(len(by_judge), total)
        samples.append(_labelled(sample, labels))
    agreement = JudgeAgreement(
        model=judge.name,
        agreement=mean([float(a == b) for a, b in zip(by_verifier, by_judge, strict=True)]),
        kappa=bootstrap_of(cohen_kappa, [by_verifier, by_judge]),
        verifier_supported=mean(by_verifier),
        judge_supported=mean(by_judge),
    )
    return run.model_copy(update={"samples": tuple(samples), "judge": agreement})


def _cited_claims(sample: EvalSample) -> dict[int, list[str]]:
    """The claims of an answer that cite a paper: index of the sentence -> ids of the papers."""
    if sample.answer is None:
        return {}
    by_number = {citation.n: citation.paper_id for citation in sample.answer.citations}
    cited = {
        i: [by_number[n] for n in sentence.citations if n in by_number]
        for i, sentence in enumerate(sample.answer.sentences)
        if sentence.support is not None
    }
    return {i: paper_ids for i, paper_ids in cited.items() if paper_ids}


def _labelled(sample: EvalSample, labels: Mapping[int, str]) -> EvalSample:
    if sample.answer is None or not labels:
        return sample
    sentences = tuple(
        sentence.model_copy(update={"judge": labels.get(i)}) for i, sentence in enumerate(sample.answer.sentences)
    )
    return sample.model_copy(update={"answer": sample.answer.model_copy(update={"sentences": sentences})})


def cohen_kappa(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Cohen's kappa (1960); None if both give every claim the same label, because kappa is undefined then."""
    from sklearn.metrics import cohen_kappa_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns if kappa is undefined
        kappa = float(cohen_kappa_score(one, other))
    return None if math.isnan(kappa) else kappa
