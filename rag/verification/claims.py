"""What a sentence claims: which sentences are checked, and which part of them is scored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.encoders.protocols import Offsets, TokenEncoder, Vectors
from rag.retrieval.late_interaction import Idf, QueryTokens, content_tokens, normalized
from rag.text.terms import content_words

if TYPE_CHECKING:
    from rag.index.store import Index

MIN_CLAIM_WORDS = 4  # content words; a shorter sentence without a citation is not a claim
_BATCH_LENGTH = 1200  # characters of sentences encoded together, well within the encoder's window

_SOURCE = r"(?:passage|text|document|source|paper|abstract|context|excerpt|article|corpus|stud(?:y|ies)|information)s?"
_CITATIONS = re.compile(
    rf"\s*(?:\[\d[\d,;\s\u2013-]{{0,40}}\]|\u3010[^\u3011]{{1,20}}\u3011|[\u00b9\u00b2\u00b3\u2070-\u2079]+"
    rf"|\(\s*(?:(?:as|according to|mentioned|stated|see|from|in|the) )*{_SOURCE}(?:\d|,|and|or|&|\s|{_SOURCE})*\))",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*(?:#{1,6}\s+|>\s+)?(?:[-*+\u2022\u2013]\s+|\(?(?:\d{1,3}|[a-zA-Z])[.)]\s+)?")
_CONNECTIVE = (
    r"(?:(?:so|therefore|thus|hence|however|overall|in (?:summary|conclusion)|answer|note|finally)\b[,:]?\s*)?"
)
_ACCORDING_TO = re.compile(
    _CONNECTIVE
    + r"(?:(?:based|relying) (?:solely |only |primarily )?(?:up)?on|according to|as \w+ (?:in|by)|from|per|given|in)"
    r"\s+(?:(?:the|these|this|those|all|both|of|in|from|first|second|third|two|three|provided|given|retrieved|above"
    rf"|following|supplied|available|cited|passage|information|text|details|evidence)\s+)*{_SOURCE}"
    rf"(?:\s+(?:and|or|,|\d+|{_SOURCE}))*(?:\s+(?:provided|given|above|retrieved))?\s*[,:]\s*"
    r"(?:(?:it|we|you|i|one) (?:\w+ ){1,3}that\s+)?",
    re.IGNORECASE,
)
_THE_PAPER_SAYS = re.compile(
    rf"{_CONNECTIVE}(?:the |these |this )?(?:first |second |third |provided |given |same )?{_SOURCE}(?:\s+\d+)?"
    rf"(?:\s*(?:,|and)\s*(?:{_SOURCE}\s+)?\d+)*(?:\s+(?:provided|given|above))?"
    r"\s+(?:also |further |only |additionally |specifically )?"
    r"(?:states?|mentions?|says?|suggests?|explains?|notes?|indicates?|adds?|reports?|advises?)\s+(?:that\s+)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:unable to|(?:can\s?not|can't|could not|couldn't) be"
    r"|(?:i|we) (?:can\s?not|can't|do not|don't|could not|couldn't))"
    r" (?:\w+ )?(?:answer|provid|determin|find|found|confirm|give|know|say|tell|have|verif|help)"
    rf"|\b(?:{_SOURCE}|it|they|which|question)(?: \d+)?(?: (?:provided|given|above|retrieved|here))?"
    r" (?:(?:do|does|did)(?: not|n't)|fails? to|lacks?) (?:\w+ )?(?:mention|provid|specif|contain|includ|state|say"
    r"|discuss|address|give|cover|answer|offer|explain|describe|indicat|have|list|report|clarif|elaborat|detail|informat)"
    r"|\b(?:no|not enough|insufficient|lack of|without (?:more|further|additional)) (?:\w+ )?"
    rf"(?:information|mention|details?)\b|\bnone of the (?:\w+ )?{_SOURCE}\b"
    r"|\b(?:not|never|isn't|aren't) (?:\w+ )?(?:mentioned|provided|specified|stated|given|discussed|covered|addressed)"
    r" (?:\w+ )?(?:in|by)\b|\bsorry\b|\bi apologi[sz]e\b",
    re.IGNORECASE,
)
# Sentences that address the reader or describe the answer itself; no paper could support them.
_CHAT = re.compile(
    r"\b(?:let me know|feel free to|(?:not|n't) hesitate to|(?:happy|glad) to (?:help|assist)|i hope (?:this|that|it)"
    r"|(?:further|other|more|any) questions|i can (?:also )?(?:help|answer)|anything else)\b"
    r"|\b(?:these|this|the|above|my) (?:\w+ )?(?:steps|instructions|information|answers?|interpretations?|suggestions"
    r"|recommendations?|values|summary|response) (?:is|are|was|were) (?:\w+ )?(?:based|limited|general|for)\b"
    r"|\b(?:consult|contact|see|seek|speak|talk)\b.{0,50}\b(?:professionals?|doctors?|physicians?|experts?|specialists?|advice)\b",
    re.IGNORECASE,
)
_PARENTHESES = re.compile(r"\([^()]*\)")
_MARKUP = re.compile(r"\*{2,3}|`+|(?<!\w)[*_]{1,2}(?=\w)|(?<=[\w.,:!?])[*_]{1,2}(?!\w)")


def strip_citations(sentence: str) -> str:
    """The part of `sentence` that is encoded and scored: no citations, bullet, markup or lead-in."""
    text = _MARKUP.sub("", _BULLET.sub("", _CITATIONS.sub("", sentence), count=1)).strip()
    for lead_in in (_ACCORDING_TO, _THE_PAPER_SAYS):
        if (match := lead_in.match(text)) and match.end() < len(text):
            text = text[match.end() :]
    return text


def is_refusal(text: str) -> bool:
    """Whether `text` says that the sources do not contain something. Text in parentheses is ignored."""
    return _REFUSAL.search(_PARENTHESES.sub("", text)) is not None


def is_claim(sentence: str, cited: bool) -> bool:
    """Whether `sentence` makes a statement that can be checked. A sentence with a citation always does.

    Not claims: headings, announcements (ending in a colon), questions, refusals, chat with the reader, and
    sentences with fewer than MIN_CLAIM_WORDS content words.
    """
    if cited:
        return True
    if sentence.lstrip().startswith("#") or is_refusal(sentence) or _CHAT.search(sentence):
        return False
    text = strip_citations(sentence)
    return not text.endswith((":", "?")) and len(content_words(text)) >= MIN_CLAIM_WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence prepared for matching: k distinct content stems with `weights` (k,), IDF that sums to 1."""

    text: str
    stems: tuple[str, ...]
    weights: Vectors
    tokens: QueryTokens


def make_claim(text: str, offsets: Offsets, vectors: Vectors, idf: Idf) -> Claim:
    """The claim of `text`, a sentence after `strip_citations`, whose tokens have `offsets` and `vectors` (n, d)."""
    words = content_words(text)
    stems = tuple(dict.fromkeys(stem for _, _, stem in words))
    tokens = content_tokens(words, offsets, vectors, idf)
    return Claim(text=text, stems=stems, weights=normalized([idf(stem) for stem in stems]), tokens=tokens)


def encode_claims(
    sentences: Sequence[str], cited: Sequence[bool], index: Index, encoder: TokenEncoder
) -> list[Claim | None]:
    """The claim of each sentence, None if it is not one. `cited`: whether each carries a citation.

    Sentences are encoded together in batches: it is faster, and the embeddings are no worse in context.
    """
    texts = [strip_citations(s) if s and is_claim(s, c) else "" for s, c in zip(sentences, cited, strict=True)]
    claims: list[Claim | None] = [None] * len(texts)
    for batch in _batches(texts):
        tokens = encoder.encode_tokens("\n".join(texts[i] for i in batch))
        vectors = index.project(tokens.vectors)
        start = 0
        for i in batch:
            end = start + len(texts[i])
            rows = [row for row, (a, b) in enumerate(tokens.offsets) if a >= start and b <= end]
            offsets = [(tokens.offsets[row][0] - start, tokens.offsets[row][1] - start) for row in rows]
            claims[i] = make_claim(texts[i], offsets, vectors[rows], index.bm25.idf)
            start = end + 1
    return claims


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """The indices of the texts that are not empty, in batches of about _BATCH_LENGTH characters."""
    batch: list[int] = []
    for i, text in enumerate(texts):
        if batch and sum(len(texts[j]) for j in batch) + len(text) > _BATCH_LENGTH:
            yield batch
            batch = []
        if text:
            batch.append(i)
    if batch:
        yield batch
