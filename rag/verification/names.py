"""The guard against names of models, datasets and methods that are not in the cited abstract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from rag.text.terms import fold, terms
from rag.verification.numbers import undo_latex

_TOKEN = re.compile(r"(?<![^\W_])[^\W_]+(?:\.\d+)*(?:[-+\u2010\u2011][^\W_]+(?:\.\d+)*)*")
_PART = re.compile(r"[^\W_]+?(?:\.\d+)+(?![^\W_])|[^\W_]+")
_BEFORE_FIRST_WORD = frozenset(".!?:;\"'\u201c\u2018([*\u2022-")  # a capital after one of these may begin a sentence
_COMMON_NAMES = frozenset("ai ml nlp gpu gpus cpu api us uk eu sota i".split())
_EXPANSIONS = {"llm": "languagemodel", "lm": "languagemodel", "vlm": "visionlanguage", "mllm": "multimodal"}


def names(text: str) -> tuple[str, ...]:
    """Names in `text` as written: words with inner capitals, with letters and digits, or capitalised mid-sentence."""
    text = undo_latex(text)
    return tuple(dict.fromkeys(name for m in _TOKEN.finditer(text) if (name := _name(text, m))))


def _name(text: str, token: re.Match[str]) -> str:
    """The name in the match `token` of `text`; "" if it is an ordinary word."""
    parts = re.split(r"[-+\u2010\u2011]", token.group())
    while parts and (parts[-1].islower() and parts[-1].isalpha()):
        parts.pop()  # "CLIP-based"
    while parts and (parts[0].islower() or parts[0][0].isdigit()) and not re.fullmatch(r"\d+D", parts[0]):
        parts.pop(0)  # "non-BERT", "7B-Instruct"; numbers have their own guard
    name = "-".join(parts)
    if len(name) < 2:
        return ""
    before = text[: token.start()].rstrip()[-1:]
    mid_sentence = bool(before) and before not in _BEFORE_FIRST_WORD and text[token.start() - 1] != "-"
    title_case = all(p.istitle() and p.isalpha() for p in parts)
    inner_capital = any(c.isupper() for c in name[1:].replace("-", "")) and not title_case
    is_name = inner_capital or any(c.isdigit() for c in name) or (mid_sentence and name[0].isupper())
    return name if is_name else ""


def novel_names(claim: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The names of `claim` that none of `texts` contains in any spelling."""
    return tuple(name for name in names(claim) if not any(_has_name(text, name) for text in texts))


@lru_cache(maxsize=512)
def _joined_words(text: str) -> tuple[frozenset[str], str]:
    """All runs of up to five words of `text` written as one word, and the initials of its words."""
    parts = _PART.findall(fold(undo_latex(text)))
    runs = {"".join(parts[i : i + n]) for n in range(1, 6) for i in range(len(parts))}
    return frozenset(runs), "".join(p[0] for p in parts)


def _has_name(text: str, name: str) -> bool:
    """Whether `text` contains `name` in some spelling: hyphens, spaces, plurals and acronyms do not matter."""
    runs, initials = _joined_words(text)
    key = "".join(_PART.findall(fold(name)))
    singular = key.removesuffix("s")
    expanded = _EXPANSIONS.get(singular, singular)
    if {key, singular, key + "s", expanded, expanded + "s"} & runs or key in _COMMON_NAMES:
        return True
    if name.isalpha() and name.istitle():
        return set(terms(name)) <= set(terms(text))  # an ordinary word that happens to be capitalised
    parts = fold(name).split("-")
    if len(parts) > 1 and all(len(p) > 2 and p.isalpha() for p in parts):
        return runs.issuperset(parts)
    acronym = name.removesuffix("s")
    return acronym.isupper() and acronym.isalpha() and acronym.lower() in initials
