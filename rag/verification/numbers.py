"""The guard against numbers that are not in the cited abstract."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number in a text: `value`, `tolerance` (the rounding error), `unit` ("" if unknown), `text` as written."""

    value: float
    tolerance: float
    unit: str
    text: str


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SPELLED_OUT = {w: i for i, w in enumerate(_ONES)} | {w: 10 * i for i, w in enumerate(_TENS, 2)}
_SCALES = {"thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "b": 1e9, "trillion": 1e12, "t": 1e12}
# One row of synonyms per unit, with the canonical one first. Any other word after a number is not a unit.
_UNITS = {
    name: row.split()[0]
    for row in (
        "% percent percents percentage point points pp;x × times fold;ms millisecond milliseconds;s sec secs second "
        "seconds;min mins minute minutes;h hr hrs hour hours;day days;week weeks;month months;year years;kb;mb;gb;tb;"
        "hz;khz;mhz;ghz;fps;bit bits;kg;mg;g;km;cm;mm;nm;w;kw;mw;kwh;°c;°f"
    ).split(";")
    for name in row.split()
}
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,/])(?<![A-Za-z][-\u2010\u2011])"
    r"(?:(?P<digits>\d{1,3}(?:[,\u202f\u2009]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\.?\d|st\b|nd\b|rd\b|th\b)"
    rf"|(?P<word>(?:{'|'.join(_TENS)})(?:[-\s](?:{'|'.join(_ONES[1:10])}))?|{'|'.join(_ONES[2:])})\b)"
    r"(?:[\s-]?(?P<scale>thousand|million|billion|trillion)\b|(?P<letter>[kmbt])\b)?"
    r"(?:[\s-]{0,2}(?P<unit>%|×|°[cf]|[a-z]+))?",
    re.IGNORECASE,
)
_APPROXIMATE = re.compile(
    r"\b(?:over|more than|at least|above|exceed\w*|beyond|nearly|almost|up to)\s+\S?$", re.IGNORECASE
)
_PER_CENT = re.compile(r"\bper\s+cent\b", re.IGNORECASE)
_ACCENT = re.compile(r"\\[\"'`^]\{?(?=[A-Za-z])")
_LATEX = {r"\%": "%", r"\times": " × ", "{,}": ",", r"\,": "", r"\sim": " ", "$": "", "~": " ", "\u00a0": " "}


def undo_latex(text: str) -> str:
    """`text` with numbers, units and accents that are written in LaTeX as plain text. Also used for names."""
    for latex, plain in _LATEX.items():
        text = text.replace(latex, plain)
    return _PER_CENT.sub("percent", _ACCENT.sub("", text))


@lru_cache(maxsize=512)
def numbers(text: str) -> tuple[Number, ...]:
    """Every number of `text` that is not part of a name: 10\\%, 4,523,000, 4.5M, twenty-five times."""
    text = undo_latex(text)
    return tuple(number for m in _NUMBER.finditer(text) if (number := _number(text, m)) is not None)


def _number(text: str, m: re.Match[str]) -> Number | None:
    unit = _UNITS.get((m["unit"] or "").lower(), "")
    scale = _SCALES[(m["scale"] or m["letter"]).lower()] if m["scale"] or m["letter"] else 1.0
    end = max(m.end(group) for group in ("digits", "word", "scale", "letter"))
    if m["word"]:
        value, tolerance = float(sum(_SPELLED_OUT[w] for w in re.split(r"[-\s]", m["word"].lower()))), 0.0
    elif text[end : end + 1].isalpha() and not unit:
        return None  # "3D", "8xH100": part of a name
    else:
        digits = re.sub(r"[^\d.]", "", m["digits"])
        value, tolerance = float(digits), 0.5 * 10.0 ** -len(digits.partition(".")[2])
        if _APPROXIMATE.search(text, max(0, m.start() - 12), m.start()):
            tolerance *= 2
    written = text[m.start() : m.end() if unit else end].strip()
    return Number(value=value * scale, tolerance=tolerance * scale, unit=unit, text=written)


def novel_numbers(claim: str, texts: Iterable[str]) -> tuple[Number, ...]:
    """The numbers of `claim` that none of `texts` contains."""
    in_texts = [number for text in texts for number in numbers(text)]
    return tuple(number for number in numbers(claim) if not any(_agrees(number, source) for source in in_texts))


def _agrees(number: Number, source: Number) -> bool:
    """Whether `number` is the number `source` of a paper, or is rounded from it."""
    tolerance = (number.tolerance if source.tolerance < number.tolerance else 0.0) + 1e-9 * number.value
    difference = abs(number.value - source.value)
    if {number.unit, source.unit} == {"%", ""} and difference > tolerance:
        fraction, percent = sorted((number.value, source.value))
        return fraction <= 1.0 and abs(100 * fraction - percent) <= 1e-6
    return difference <= tolerance and (number.unit == source.unit or not (number.unit and source.unit))


def number_reason(novel: Number, evidence: str, abstract: str) -> str:
    """The reason for a number that the cited abstract lacks; it names the closest number of its kind, if any."""
    for text in (evidence, abstract):
        comparable = [
            n
            for n in numbers(text)
            if n.unit == novel.unit and (novel.unit or 0.1 < (n.value or 1) / (novel.value or 1) < 10)
        ]
        if comparable:
            closest = min(comparable, key=lambda n: abs(n.value - novel.value))
            return f"says {novel.text}, the abstract says {closest.text}"
    return f"{novel.text} is not in the cited abstract"
