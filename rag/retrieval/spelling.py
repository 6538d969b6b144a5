"""Correction of misspelt question words to words of the corpus."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rag.text.terms import STOPWORDS, fold, terms, words

if TYPE_CHECKING:
    from rag.index.bm25 import BM25Index

MIN_CORRECTED_LENGTH = 5  # letters; shorter words have too many neighbours at distance 1
_LETTERS = re.compile(r"[^\W\d_]+")


def corrected(
    query: str, bm25: BM25Index, is_vocabulary_word: Callable[[str], bool]
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """`query` with unknown words replaced by the corpus's nearest word, and the (old, new) pairs.

    A word that the encoder's vocabulary holds as a whole is not a misspelling and stays as it is.
    """
    corrections: dict[str, str] = {}
    for word in dict.fromkeys(_LETTERS.findall(query)):
        folded = fold(word)
        if folded in STOPWORDS or words(folded) != [folded]:
            continue
        if (correction := nearest_word(folded, bm25)) and not is_vocabulary_word(folded):
            corrections[word] = correction
    for word, correction in corrections.items():
        query = re.sub(rf"\b{re.escape(word)}\b", correction, query)
    return query, tuple(corrections.items())


def nearest_word(word: str, bm25: BM25Index) -> str | None:
    """The corpus's most used word at edit distance 1 (optimal string alignment) from an unknown `word`.

    None if the corpus uses `word` or another form of it, if it is too short or not letters only, or if no word
    is at distance 1.
    """
    vocabulary = bm25.vocabulary
    if len(word) < MIN_CORRECTED_LENGTH or not (word.isascii() and word.isalpha()) or word in vocabulary:
        return None
    if any(bm25.document_frequency(stem) for stem in terms(word)):
        return None
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    extract: Any = process.extract  # its overloads do not know integer distances
    neighbours: list[tuple[str, int, int]] = extract(
        word, list(vocabulary), scorer=OSA.distance, score_cutoff=1, limit=None
    )
    candidates = [candidate for candidate, _, _ in neighbours if len(candidate) >= MIN_CORRECTED_LENGTH - 1]
    return min(candidates, key=lambda w: (-vocabulary[w], w), default=None)
