"""Sentence spans: where the sentences of a text begin and end, in characters of that text."""

from __future__ import annotations

import re
from itertools import pairwise

_ABBREVIATIONS = frozenset(
    "e.g i.e cf vs al fig figs eq eqs sec secs ref refs tab no nos dr mr mrs ms prof st approx resp "
    "w.r.t dept vol ed eds pp ch inc ltd co corp jr sr jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
# Abbreviations that may also end a sentence: a capital after them starts a new one.
_MAY_END = frozenset({"etc", "inc", "ltd", "co", "corp", "jr", "sr", "no", "ms"})
_MARKER = r"(?:\[[\d,;\s\u2013-]{1,40}\]|\u3010[^\u3011]{1,20}\u3011|[\u00b9\u00b2\u00b3\u2070-\u2079]+)"
_END = re.compile(
    r"(?:[.!?\u2026]+|[\u3002\uff01\uff1f]+)"  # the stop itself, Western or CJK
    r"[\"'\u201d\u2019)\]*_]*"  # closing quotes and brackets
    rf"(?:\s*{_MARKER})*"  # citations set after the stop belong to the sentence before it
)
_BREAK = re.compile(r"\n[^\S\n]*\n\s*|\n(?=[^\S\n]*(?:[-*\u2022\u2013]|\d{1,3}[.)]|#{1,6})\s)|(?<=:)\n|\n(?=\||```)")
_FENCE = re.compile(r"```.*?(?:```|\Z)|\$\$.+?\$\$|\$[^$\n]{1,200}\$|\\\(.+?\\\)|\\\[.+?\\\]|`[^`\n]+`", re.DOTALL)
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[A-Za-z])$")
_STARTS = re.compile(r"[\s]*(?:[\"'\u201c\u2018(\[*_#\u2022-]|\\)*\s*(\S)")


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the stop matched in `text` closes the sentence that began at `start`."""
    stop, end = match.start(), match.end()
    if text[stop] in "\u3002\uff01\uff1f":
        return True
    if end < len(text) and not text[end].isspace():
        return False
    following = _STARTS.match(text, end)
    if following is None:
        return True  # only white space follows
    opens_lower = following.group(1).islower()
    if text[stop] in "!?" and not opens_lower:
        return True
    if stop > start and text[stop - 1].isspace():  # " . " in tokenised text, which is often all lower case
        preceding = text[start:stop].split()
        return bool(preceding) and len(preceding[-1]) > 1
    before = re.search(r"[^\s(\[{\"'\u201c]*$", text[start:stop])
    word = before.group(0).lower() if before else ""
    if text[stop] == "." and stop + 1 <= len(text):
        if _LIST_NUMBER.search(text[start:stop]) and not text[start:stop].strip(" \n0123456789").strip():
            return False  # "1." opening a list item
        if word in _ABBREVIATIONS and not (word in _MAY_END and following.group(1).isupper() and len(word) > 2):
            return False
        if len(word) == 1 and word.isalpha() and word not in "aix" and following.group(1).isupper():
            return False  # an initial: "J. Smith"
    # A lower-case letter continues the sentence, unless it opens a name such as "mPLUG" or "iBOT".
    if opens_lower:
        name = text[following.start(1) : following.start(1) + 24].split(maxsplit=1)[0]
        return any(c.isupper() for c in name)
    return True


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of every sentence of `text`, in order, without surrounding white space.

    Handles abbreviations, decimals, initials, citations before or after the full stop, list items,
    headings, fenced code and LaTeX maths. The spans cover everything but white space.
    """
    protected = [m.span() for m in _FENCE.finditer(text)]
    cuts: list[int] = []
    for match in _BREAK.finditer(text):
        if not any(a < match.start() < b - 1 for a, b in protected):
            cuts.append(match.end() if match.group().strip("\n \t") == "" else match.start())
    start, line_breaks = 0, sorted(set(cuts))
    for match in _END.finditer(text):
        if any(a < match.start() < b for a, b in protected):
            continue
        while line_breaks and line_breaks[0] <= match.start():
            start = max(start, line_breaks.pop(0))
        if _is_end(text, start, match):
            cuts.append(match.end())
            start = match.end()
    spans: list[tuple[int, int]] = []
    edges = [0, *sorted(set(cuts)), len(text)]
    for a, b in pairwise(edges):
        part = text[a:b]
        stripped = part.strip()
        if stripped:
            offset = a + part.index(stripped[0]) if part[0].isspace() else a
            spans.append((offset, offset + len(stripped)))
    return spans
