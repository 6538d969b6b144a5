"""The support score: how well the text of a paper covers a claim. Untrained and deterministic.

A sentence becomes a `Claim` and a paper a `Source` once. Their `Match` is two arrays, so that the support by several
papers together is the element-wise maximum of their matches. Blind spots: free paraphrase scores low, and
contradiction does not lower the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.encoders.protocols import Vectors
from rag.retrieval.late_interaction import max_similarities
from rag.text.sentences import sentence_spans
from rag.text.terms import terms
from rag.types import Span
from rag.verification.claims import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A paper prepared for matching: n tokens of `text`, whose part from `abstract_start` on is the abstract.

    `vectors` (n, d) has unit rows; token i belongs to sentence `token_sentences[i]` of the abstract, -1 before it.
    `spans` are the sentences in characters of the abstract, `sentence_stems` the stems of each.
    """

    paper_id: str
    text: str
    abstract_start: int
    stems: frozenset[str]
    vectors: Vectors
    spans: tuple[tuple[int, int], ...]
    sentence_stems: tuple[frozenset[str], ...]
    token_sentences: NDArray[np.int64]

    def sentence(self, i: int) -> Span:
        """Sentence `i` of the abstract."""
        start, end = self.spans[i]
        return Span(text=self.text[self.abstract_start + start : self.abstract_start + end], start=start, end=end)


def make_source(
    text: str, token_sentences: NDArray[np.int64], vectors: Vectors, *, abstract_start: int = 0, paper_id: str = ""
) -> Source:
    """The source with `text`, whose tokens have `vectors` (n, d) and belong to the sentences `token_sentences` (n,).

    The text before `abstract_start` is the title: it counts for support, but is never shown as evidence.
    """
    abstract = text[abstract_start:]
    spans = tuple(sentence_spans(abstract))
    sentence_stems = tuple(frozenset(terms(abstract[start:end])) for start, end in spans)
    return Source(
        paper_id=paper_id,
        text=text,
        abstract_start=abstract_start,
        stems=frozenset(terms(text[:abstract_start])).union(*sentence_stems),
        vectors=vectors,
        spans=spans,
        sentence_stems=sentence_stems,
        token_sentences=token_sentences,
    )


@dataclass(frozen=True, slots=True)
class Match:
    """How well a text covers a claim, stem by stem and token by token; `|` joins the matches of several texts.

    `stem_matches` (k,) is 1 for each stem of the claim that the text contains, else 0; `similarities` (m,) is the
    highest cosine of each token of the claim to a token of the text.
    """

    claim: Claim
    stem_matches: Vectors
    similarities: Vectors

    def __or__(self, other: Match) -> Match:
        return Match(
            self.claim,
            np.maximum(self.stem_matches, other.stem_matches),
            np.maximum(self.similarities, other.similarities),
        )

    @property
    def support(self) -> float:
        """The mean of the two IDF-weighted means, in [0, 1]. A part without stems or tokens is left out."""
        parts = [
            float(values @ weights)
            for values, weights in (
                (self.stem_matches, self.claim.weights),
                (self.similarities, self.claim.tokens.weights),
            )
            if len(weights)
        ]
        return min(1.0, max(0.0, sum(parts) / len(parts))) if parts else 0.0


def match(claim: Claim, source: Source, question_stems: frozenset[str] = frozenset()) -> Match:
    """How well `source` covers `claim`. Stems of the question count as covered."""
    return _match(claim, source.stems | question_stems, source.vectors)


def best_sentence(claim: Claim, source: Source) -> tuple[int, float]:
    """The sentence of the abstract that alone supports `claim` most, and its support; (-1, 0.0) if none does."""
    best, support = -1, 0.0
    for i, stems in enumerate(source.sentence_stems):
        alone = _match(claim, stems, source.vectors[source.token_sentences == i]).support
        if alone > support:
            best, support = i, alone
    return best, support


def _match(claim: Claim, stems: frozenset[str], vectors: Vectors) -> Match:
    stem_matches = np.array([stem in stems for stem in claim.stems], dtype=np.float32)
    return Match(claim, stem_matches, max_similarities(claim.tokens, vectors))
