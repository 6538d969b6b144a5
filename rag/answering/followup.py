"""The retrieval query of a follow-up question, made from the conversation without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.answering import Turn
from rag.text import STOPWORDS, stem_all, words

# "What about ...", "And ...": such a question is the rest of the one before it.
_ELLIPSIS = re.compile(
    r"\s*(?:(?:and|but|so|or|also|then)\b(?!\s+(?:is|are)\s+there)|(?:what|how) about\b|why not\b)", re.IGNORECASE
)
# Words that stand for something said before. "That" only where it is not a conjunction.
_POINTS_BACK = re.compile(
    r"\b(?:these|those|this|former|latter|aforementioned|same ones?)\b"
    r"|\bthat(?=\s*(?:[?.!,]|\Z|one\b|(?:paper|work|study|method|model|approach|technique|dataset|result|finding)s?\b))"
    r"|\b(?:is|was|does|did|do|of|about|from|with|on|to|than|like) that\b"
    r"|\bthe (?:first|second|third|last|other) (?:one|paper|two)s?\b|\bwhich ones?\b|\bany others?\b|\banything else\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:it|its|they|them|their|theirs|he|she|his|her)\b", re.IGNORECASE)
_NEW_CLAUSE = re.compile(r",|\b(?:and|or|but|when|if|while|because|since|which|that|as|after|before)\b", re.IGNORECASE)
# Words that ask about a subject without naming one: a question of nothing but these leans on the one before.
_GENERIC = frozenset(
    stem_all(
        "dataset data benchmark baseline method approach technique model models metric score number size cost time "
        "training train trained evaluate evaluation evaluated result performance accuracy limitation limitations "
        "drawback advantage benefit problem issue difference example detail details experiment reason compare "
        "comparison code available released language languages task tasks parameter parameters used using use uses "
        "need needed better best worse much many work works fast faster summary summarize elaborate further "
        "please exactly specifically mean means happen else main key important contribution finding conclusion".split()
    )
)
_CARRIED = 12  # words at most: a longer tail would drown the new question


def retrieval_query(question: str, history: Sequence[Turn]) -> str:
    """`question`, with the content words it leans on carried over from the latest question that stood alone.

    A question that names its own subject is returned as it is.
    """
    return carried(question, history) if history and _leans(question) else question


def carried(question: str, history: Sequence[Turn]) -> str:
    """`question` with the content words of the latest question that stood alone, and of those since."""
    seen = set(stem_all(words(question)))
    words_before: list[str] = []
    for turn in reversed(history):
        words_before = _content(turn.question, seen) + words_before
        if not _leans(turn.question):
            break
    return " ".join([question.strip(), *words_before[:_CARRIED]])


def _leans(question: str) -> bool:
    """Whether `question` cannot be understood alone."""
    if _ELLIPSIS.match(question) or _POINTS_BACK.search(question) or not _names_subject(question):
        return True
    pronoun = _PRONOUN.search(question)
    before = question[: pronoun.start()] if pronoun else ""
    # "How does LoRA work, and what are its limits?" says itself what "its" means.
    return pronoun is not None and not (_NEW_CLAUSE.search(before) and _names_subject(before))


def _names_subject(text: str) -> bool:
    content = [word for word in words(text) if word not in STOPWORDS]
    return any(stem not in _GENERIC for stem in stem_all(content))


def _content(text: str, seen: set[str]) -> list[str]:
    """The words of `text` that carry meaning, as written, that are not `seen`; they are seen then."""
    kept = []
    for token in re.findall(r"[^\s,;:?!()\"“”]+", text):
        parts = [word for word in words(token) if word not in STOPWORDS]
        stems = stem_all(parts)
        if parts and not all(stem in seen or stem in _GENERIC for stem in stems):
            kept.append(token.strip(".'’"))
            seen.update(stems)
    return kept
