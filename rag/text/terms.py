r"""Terms of a text: what the index, the question and the verifier compare.

Display text is never changed. Search text is *folded*: compatibility forms and accents removed (NFKD), LaTeX
residue undone (``T\"ULU`` and ``TÜLU`` both fold to ``tulu``), lower case.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

# Lucene's EnglishAnalyzer default set (33 words), as its documentation lists it.
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
# Words that join or frame a statement, and the names that language models give to their context.
DISCOURSE_WORDS = frozenset(
    "passage passages mentioned stated provided given according based however therefore thus hence additionally "
    "furthermore moreover overall finally alternatively instead meanwhile consequently nevertheless specifically "
    "notably important importantly worth note noting please sure yes remember summary conclusion e.g i.e etc".split()
)

_LATEX_ACCENT = re.compile(r"\\[\"'`^~=.]\s*\{?\\?([A-Za-z])\}?|\\[uvHtcdbrk]\{\\?([A-Za-z])\}")
_LATEX_GROUP = re.compile(r"\\(?:text|math|emph|bf|it|rm|tt|sc|underline|mbox|url|href)[a-z]*\s*\{([^{}]*)\}")
_LATEX_COMMAND = re.compile(r"\\([A-Za-z]+)")
_LATEX_ESCAPE = re.compile(r"\\([%&_#$ ,;!{}])")
# Format and control characters (zero-width, bidirectional overrides) carry no search meaning.
_INVISIBLE_CHARACTERS = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_INVISIBLE = re.compile(f"[{_INVISIBLE_CHARACTERS}]")
_WORD = re.compile(r"[^\W_]+")
# A word as it is written: combining accents and invisible characters do not end it.
_WRITTEN_WORD = re.compile(rf"[^\W_](?:[{_INVISIBLE_CHARACTERS}\u0300-\u036f]*[^\W_])*[\u0300-\u036f]*")
_WITHOUT_DECOMPOSITION = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ß": "ss"})
_ZERO_WIDTH_SPACE = "\u200b"


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
        text = unicodedata.normalize("NFKD", text.translate(_WITHOUT_DECOMPOSITION))
        text = "".join(c for c in text if not unicodedata.combining(c)).translate(_WITHOUT_DECOMPOSITION)
    return text


def mask_latex(text: str) -> str:
    """`text` for an encoder: zero-width spaces, which tokenizers drop, in place of LaTeX residue.

    The result is as long as `text`, so that offsets into one are valid for the other.
    """
    if "\\" not in text:
        return text
    text = _LATEX_ACCENT.sub(_mask_all_but_group, text)
    text = _LATEX_GROUP.sub(_mask_all_but_group, text)
    text = _LATEX_ESCAPE.sub(_mask_all_but_group, text)
    return _LATEX_COMMAND.sub(_mask_all_but_group, text).replace("\\", " ")


def _mask_all_but_group(match: re.Match[str]) -> str:
    number = match.lastindex or 0
    before, after = match.start(number) - match.start(), match.end() - match.end(number)
    return _ZERO_WIDTH_SPACE * before + match[number] + _ZERO_WIDTH_SPACE * after


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


def content_words(text: str, ignored: frozenset[str] = STOPWORDS | DISCOURSE_WORDS) -> list[tuple[int, int, str]]:
    """(start, end, stem) of every word of `text` that is not `ignored`, in characters of `text`."""
    matches = [(m.start(), m.end(), m.group()) for m in _WRITTEN_WORD.finditer(mask_latex(text))]
    parts = [(a, b, part) for a, b, written in matches for part in _WORD.findall(fold(written)) if part not in ignored]
    return [(a, b, stem) for (a, b, _), stem in zip(parts, stem_all([p[2] for p in parts]), strict=True)]


def terms(text: str) -> list[str]:
    """Index terms of `text`: its words without stop words, folded and stemmed."""
    return [stem for _, _, stem in content_words(text, STOPWORDS)]


def bigrams(items: list[str]) -> list[str]:
    """Adjacent pairs of `items`, joined by a space."""
    return [f"{a} {b}" for a, b in pairwise(items)]
