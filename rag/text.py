r"""The only place that cuts text: folding, tokens, stems and sentence spans.

Display text is never changed. Search text is *folded*: compatibility forms and accents removed (NFKD),
LaTeX residue undone (``T\"ULU`` and ``TÜLU`` both fold to ``tulu``), lower case. Every offset returned
here counts characters of the text that was passed in.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

# Lucene's EnglishAnalyzer default set (33 words), by name in its documentation.
LUCENE_STOPWORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there "
    "these they this to was will with".split()
)
# Words that ask, or that every abstract uses about itself; they say nothing about the subject.
QUESTION_STOPWORDS = frozenset(
    "what which who whom whose how why when where do does did doing done can could should would may might "
    "must shall has have had having been being am were i me my we our us you your he she him her its "
    "them those from about than so some any all each other more most also only very too there here "
    "please tell explain describe give list find show name say says said mention mentions "
    "paper papers study studies article articles work works author authors propose proposes proposed "
    "research abstract corpus question answer".split()
)
STOPWORDS = LUCENE_STOPWORDS | QUESTION_STOPWORDS

_LATEX_ACCENT = re.compile(r"\\[\"'`^~=.]\s*\{?\\?([A-Za-z])\}?|\\[uvHtcdbrk]\{\\?([A-Za-z])\}")
_LATEX_GROUP = re.compile(r"\\(?:text|math|emph|bf|it|rm|tt|sc|underline|mbox|url|href)[a-z]*\s*\{([^{}]*)\}")
_LATEX_COMMAND = re.compile(r"\\([A-Za-z]+)")
_LATEX_ESCAPE = re.compile(r"\\([%&_#$ ,;!{}])")
_WORD = re.compile(r"[^\W_]+")
_LETTERS_APART = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ß": "ss"})
# Format and control characters (zero-width, bidirectional overrides) carry no search meaning.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def fold(text: str) -> str:
    """Search form of `text`: no accents, no LaTeX residue, lower case. Folding twice changes nothing."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text))
    if "\\" in text:
        text = _LATEX_ACCENT.sub(lambda m: m.group(1) or m.group(2), text)
        text = _LATEX_GROUP.sub(r"\1", text)
        text = _LATEX_ESCAPE.sub(r"\1", text)
        text = _LATEX_COMMAND.sub(r"\1", text).replace("\\", " ")
    text = text.lower()
    if not text.isascii():  # lower case may decompose further: "\u0130" is an i and a dot
        text = unicodedata.normalize("NFKD", text.translate(_LETTERS_APART))
        text = "".join(c for c in text if not unicodedata.combining(c)).translate(_LETTERS_APART)
    return text


def undressed(text: str) -> str:
    """`text` for an encoder: LaTeX residue gives way to zero-width spaces, which word-piece tokenizers drop.

    As long as `text`, so that offsets into the one hold for the other.
    """
    if "\\" not in text:
        return text
    text = _LATEX_ACCENT.sub(_only_group, text)
    text = _LATEX_GROUP.sub(_only_group, text)
    text = _LATEX_ESCAPE.sub(_only_group, text)
    return _LATEX_COMMAND.sub(_only_group, text).replace("\\", " ")


def _only_group(match: re.Match[str]) -> str:
    """The match with zero-width spaces for all but its group."""
    number = match.lastindex or 0
    before, after = match.start(number) - match.start(), match.end() - match.end(number)
    return "\u200b" * before + match[number] + "\u200b" * after


def printable(text: str) -> str:
    """Display form safe for a terminal: control characters and bidirectional overrides shown as spaces."""
    return _UNPRINTABLE.sub(" ", text)


def words(text: str) -> list[str]:
    """Folded runs of letters and digits, in order."""
    return _WORD.findall(fold(text))


@lru_cache(maxsize=1)
def _stemmer() -> object:
    import Stemmer

    return Stemmer.Stemmer("english")


def stem_all(tokens: list[str]) -> list[str]:
    """Snowball (Porter2) stems of already folded tokens."""
    return _stemmer().stemWords(tokens)  # type: ignore[attr-defined, no-any-return]


def terms(text: str) -> list[str]:
    """Index terms of `text`: folded words, stopwords removed, stemmed."""
    return stem_all([w for w in words(text) if w not in STOPWORDS])


def bigrams(items: list[str]) -> list[str]:
    """Adjacent pairs of `items`, joined by a space."""
    return [f"{a} {b}" for a, b in pairwise(items)]


# --- sentences ---------------------------------------------------------------------------------------

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
        return True  # nothing but space follows
    opens_lower = following.group(1).islower()
    if text[stop] in "!?" and not opens_lower:
        return True
    if stop > start and text[stop - 1].isspace():  # " . " in tokenised text, which is often all lower case
        apart = text[start:stop].split()
        return bool(apart) and len(apart[-1]) > 1
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

    Survives abbreviations, decimals, initials, citations before or after the full stop, list items,
    headings, fenced code and LaTeX maths. The spans cover everything but white space.
    """
    protected = [m.span() for m in _FENCE.finditer(text)]
    cuts: list[int] = []
    for match in _BREAK.finditer(text):
        if not any(a < match.start() < b - 1 for a, b in protected):
            cuts.append(match.end() if match.group().strip("\n \t") == "" else match.start())
    start, hard = 0, sorted(set(cuts))
    for match in _END.finditer(text):
        if any(a < match.start() < b for a, b in protected):
            continue
        while hard and hard[0] <= match.start():
            start = max(start, hard.pop(0))
        if _is_end(text, start, match):
            cuts.append(match.end())
            start = match.end()
    spans: list[tuple[int, int]] = []
    edges = [0, *sorted(set(cuts)), len(text)]
    for a, b in pairwise(edges):
        piece = text[a:b]
        stripped = piece.strip()
        if stripped:
            offset = a + piece.index(stripped[0]) if piece[0].isspace() else a
            spans.append((offset, offset + len(stripped)))
    return spans
