"""Abstention: when the retrieved papers do not answer the question."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from rag.text.terms import stem_all, words
from rag.types import SearchResult

AbstentionPolicy = Callable[[SearchResult], str]  # the reason to abstain, in one line; "" to answer

NEAR_TOP_RATIO = 0.9  # share of the best score from which a hit may be the paper that the question is about

# Details of an experiment that abstracts rarely give. Questions ask for them by name and hardly ever paraphrase them.
_DETAILS = (
    "gpu,gpus,tpu,tpus,epochs,batch size,learning rate,optimizer,random seed,temperature,layers,parameters,"
    "hyperparameters,author,authors,affiliation,funding,license,licence,price,annotators,kappa,deviation,"
    "perplexity,bleu,rouge,comet,f1,auc,auroc,memory,venue,conference,dropout,weight decay,warmup,vocabulary,"
    "context length,backbone,hours"
)
_ASKED_FOR = re.compile(r"\b(?:how (?:many|much|long)|what|which|who|whose)\b((?:\W+\w+){1,5})", re.IGNORECASE)


def abstention_reason(search: SearchResult, threshold: float) -> str:
    """Why the hits do not seem to answer the question; "" if they may.

    `threshold` is the lowest answerability at which to answer.
    """
    if not search.hits:
        return "Nothing was found."
    near_top = [hit.paper for hit in search.hits if hit.score >= NEAR_TOP_RATIO * search.hits[0].score]
    if detail := missing_detail(search.question, [f"{p.title} {p.abstract}" for p in near_top]):
        return f"The most relevant abstracts do not mention {detail}."
    score = search.answerability
    if score < threshold:
        return f"No paper matches the question well enough (answerability {score:.2f}, threshold {threshold:g})."
    return ""


def never_abstain(search: SearchResult) -> str:
    """The policy that always answers."""
    return ""


def missing_detail(question: str, abstracts: Iterable[str]) -> str | None:
    """The experimental detail that `question` asks for, if none of `abstracts` mentions it; None otherwise."""
    asked_for = _ASKED_FOR.search(question)
    if asked_for is None:
        return None
    stems = f" {' '.join(stem_all(words(asked_for[1])))} "
    for detail in _details():
        if f" {' '.join(detail)} " in stems:
            if any(set(detail) <= set(stem_all(words(abstract))) for abstract in abstracts):
                return None
            return " ".join(word for word in words(asked_for[1]) if stem_all([word])[0] in detail)
    return None


@lru_cache(maxsize=1)
def _details() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(stem_all(detail.split())) for detail in _DETAILS.split(","))
