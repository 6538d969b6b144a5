"""Judges: optional models that decide whether a text entails a sentence, asked if the support score is uncertain.

The score misses contradiction in other words and is low for free paraphrase. `is_uncertain` selects the sentences,
and `apply_entailment` changes their verdicts. No judge can overrule the guards for numbers and names: a number or
name that the abstract lacks still makes a sentence `partial`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from rag.settings import Settings
from rag.text.terms import words
from rag.verification.numbers import numbers
from rag.verification.polarity import has_negation_or_comparison
from rag.verification.verdicts import SUPPORT_THRESHOLD, Verdict

if TYPE_CHECKING:
    from rag.llm.client import LLMClient

UNCERTAIN_BAND = 0.10  # distance from the support threshold within which the score is uncertain

EntailmentLabel = Literal["supported", "contradicted", "not_stated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entailment:
    """What a judge decided. `quote` is the part of the text that the judge points to, if any."""

    label: EntailmentLabel
    quote: str = ""
    reason: str = ""


class Judge(Protocol):
    """Decides whether a text entails a sentence."""

    name: str

    def __call__(self, sentence: str, text: str) -> Entailment:
        """Whether `text`, the titles and abstracts of the cited papers, entails `sentence`."""
        ...


def judges_from(settings: Settings, client: LLMClient | None = None) -> tuple[Judge, ...]:
    """The judges that the settings name, in the order in which they are asked.

    `client` is the LLM server of the judge model; by default the one that the settings name.
    """
    judges: list[Judge] = []
    if settings.verification.nli_model:
        from rag.verification.nli_judge import NLIJudge

        judges.append(NLIJudge(settings.verification.nli_model))
    if settings.verification.judge_model:
        from rag.llm.session import LLMSession
        from rag.verification.llm_judge import LLMJudge

        judges.append(LLMJudge(LLMSession(replace(settings.llm, model=settings.verification.judge_model), client)))
    return tuple(judges)


def is_uncertain(sentence: str, verdict: Verdict) -> bool:
    """Whether to ask a judge: support near the threshold, or a number, negation or comparison in the sentence."""
    if verdict.support is None or verdict.label == "miscited":
        return False
    near_threshold = abs(verdict.support - SUPPORT_THRESHOLD) <= UNCERTAIN_BAND
    return near_threshold or bool(numbers(sentence)) or has_negation_or_comparison(sentence)


def apply_entailment(verdict: Verdict, entailment: Entailment, judge_name: str, citation_count: int) -> Verdict:
    """The verdict on a sentence with `citation_count` citations after the judge named `judge_name` decided."""
    if entailment.label != "supported":
        contradicted = entailment.label == "contradicted"
        default = "the text says the opposite" if contradicted else "the text does not say this"
        return replace(
            verdict,
            label="unsupported",
            reason=f"{judge_name}: {entailment.reason or default}",
            suggested_citation=None,
            entailed=False,
            needed=(False,) * citation_count,
        )
    missing = (*verdict.novel_numbers, *verdict.novel_names)
    if verdict.label == "supported" or (verdict.label == "partial" and missing):
        return verdict
    return replace(
        verdict,
        label="partial" if missing else "supported",
        reason=f"not in the cited abstract: {', '.join(missing)}" if missing else "",
        suggested_citation=verdict.evidence.n if verdict.evidence and not citation_count else None,
        entailed=bool(citation_count),
        needed=(True,) * citation_count,
    )


def has_quote(text: str, quote: str) -> bool:
    """Whether `text` contains the words of `quote` in sequence; case and punctuation do not matter."""
    return f" {' '.join(words(quote))} " in f" {' '.join(words(text))} "


def quoted_sentence(quote: str, sentences: Sequence[str]) -> int:
    """The index of the first of `sentences` that contains `quote`; -1 if none does."""
    return next((i for i, sentence in enumerate(sentences) if quote and has_quote(sentence, quote)), -1)
