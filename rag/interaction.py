"""Late interaction: how near the word pieces of a text come to those of a query or a claim.

Every content piece of the query looks for its nearest piece of the text (MaxSim: Khattab & Zaharia 2020,
ColBERT), here with the untrained states of the sentence encoder and weighted by inverse document frequency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag.text import STOPWORDS, fold, stem_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Offsets = Sequence[tuple[int, int]]
Idf = Callable[[str], float]

_TERM = re.compile(r"[^\W_]+")
# Words that join or frame a statement, and the names language models give to what they were given.
_MUTE = frozenset(
    "passage passages mentioned stated provided given according based however therefore thus hence additionally "
    "furthermore moreover overall finally alternatively instead meanwhile consequently nevertheless specifically "
    "notably important importantly worth note noting please sure yes remember summary conclusion e.g i.e etc".split()
)


@dataclass(frozen=True, slots=True)
class Pieces:
    """The m content word pieces of a text: `states` (m, d), unit rows; `weights` (m,), IDF, sum 1."""

    states: Floats
    weights: Floats


def owners(offsets: Offsets, starts: Sequence[int]) -> NDArray[np.int64]:
    """Which sentence each word piece belongs to, by where they start: the last one begun, -1 before the first."""
    return np.searchsorted(np.asarray(starts, dtype=np.int64), [start for start, _ in offsets], side="right") - 1


def content(text: str) -> list[tuple[int, int, str]]:
    """(start, end, stem) of every content word of `text`, in characters of `text`."""
    found = [(m.start(), m.end(), fold(m.group())) for m in _TERM.finditer(text)]
    found = [w for w in found if w[2] not in STOPWORDS and w[2] not in _MUTE]
    return [(a, b, s) for (a, b, _), s in zip(found, stem_all([w[2] for w in found]), strict=True)]


def unit(weights: Sequence[float]) -> Floats:
    """`weights` scaled to sum 1, where there is anything to scale."""
    array = np.asarray(weights, dtype=np.float32)
    return array / array.sum() if array.sum() > 0 else array


def content_pieces(words: Sequence[tuple[int, int, str]], offsets: Offsets, states: Floats, idf: Idf) -> Pieces:
    """The pieces of the content `words` of a text whose word pieces have `offsets` and `states` (n, d)."""
    rows: list[int] = []
    weights: list[float] = []
    at = 0
    for row, (start, end) in enumerate(offsets):
        while at < len(words) and words[at][1] <= start:
            at += 1
        if at < len(words) and words[at][0] < end:
            rows.append(row)
            weights.append(idf(words[at][2]))
    return Pieces(states[rows], unit(weights))


def nearest(pieces: Pieces, states: Floats) -> Floats:
    """For each of the m pieces, the highest cosine to any row of `states` (n, d); shape (m,)."""
    if not len(states) or not len(pieces.states):
        return np.zeros(len(pieces.states), dtype=np.float32)
    return np.asarray((pieces.states @ states.T).max(axis=1), dtype=np.float32)


def nearness(pieces: Pieces, states: Floats) -> float:
    """The weighted mean of `nearest`, in [-1, 1]; 0 without any content piece."""
    return float(nearest(pieces, states) @ pieces.weights)
