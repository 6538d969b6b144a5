"""Sentences with a known verdict, and drafts as a model writes them, for the tests of verification."""

from __future__ import annotations

from collections.abc import Sequence

from rag.answering.citations import split_sentences
from rag.types import Answer, Draft, Paper, SearchResult
from rag.verification.verifier import Verifier

QUESTION = "what mitigates forgetting?"
RFT = "reinforcement-fine-tuning-naturally-"  # the beginning of the id of the paper that PARAPHRASE is about
PARAPHRASE = "Reinforcement fine-tuning naturally protects prior knowledge thanks to the implicit regularization of RFT"
IN_NO_PAPER = "Penguins of the Antarctic coast eat fish and breed in large colonies every winter"


def paper_named(corpus: Sequence[Paper], start: str) -> Paper:
    """The paper whose id begins with `start`."""
    return next(paper for paper in corpus if paper.paper_id.startswith(start))


def model_draft(text: str, context: Sequence[Paper]) -> Draft:
    """`text` as a model's draft, where [n] is `context[n - 1]`."""
    return Draft(
        search=SearchResult(question=QUESTION, query=QUESTION),
        text=text,
        mode="generative",
        model="m",
        context=tuple(context),
        sentences=split_sentences(text, len(context)),
    )


def verified(
    verifier: Verifier, context: Sequence[Paper], text: str, *, repair: bool = True, strict: bool = False
) -> Answer:
    """`text` as a model's answer from `context`, verified."""
    return verifier.verify(model_draft(text, context), repair=repair, strict=strict)
