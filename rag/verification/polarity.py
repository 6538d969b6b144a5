"""The guard against negations and opposites, and the word lists for negation and comparison."""

from __future__ import annotations

import re
from functools import lru_cache

from rag.text.terms import STOPWORDS, stem_all, words

_NEGATIONS = frozenset("not no never without cannot neither nor hardly fail fails failed lack lacks unable".split())
_OPPOSITES = (
    (
        "increase higher rise grow raise more elevate upregulate",
        "decrease reduce lower fall decline drop less downregulate",
    ),
    ("improve enhance better benefit", "degrade worsen worse hurt harm impair deteriorate"),
    ("outperform surpass exceed", "underperform"),
    ("faster", "slower"),
    ("larger", "smaller"),
    ("positive", "negative"),
    ("activate promote induce", "inhibit suppress block prevent"),
    ("robust", "vulnerable brittle"),
    ("effective", "ineffective"),
    ("open", "closed proprietary"),
)
_NEGATION_OR_COMPARISON = re.compile(
    r"\b(?:not|no|never|without|neither|nor|fails?|lacks?|unlike|than|versus|vs|compared|whereas|more|less|fewer|better"
    r"|worse|higher|lower|faster|slower|larger|smaller|(?:out|under)perform\w*|(?:in|de)creas\w*|reduc\w*|improv\w*)\b"
    r"|n['\u2019]t\b",
    re.IGNORECASE,
)
_CLAIM_SCOPE, _EVIDENCE_SCOPE = 3, 2  # content words after a negation that count as negated


def has_negation_or_comparison(sentence: str) -> bool:
    """Whether `sentence` negates or compares something, which the support score cannot check."""
    return _NEGATION_OR_COMPARISON.search(sentence) is not None


def polarity_conflict(sentence: str, evidence: str) -> str | None:
    """Why `sentence` seems to contradict `evidence`, a sentence about the same subject; None if it does not."""
    sentence_stems, evidence_stems = set(stem_all(words(sentence))), set(stem_all(words(evidence)))
    denied, denied_in_evidence = _negated(sentence, _CLAIM_SCOPE), _negated(evidence, _EVIDENCE_SCOPE)
    if not denied_in_evidence and any(scope & evidence_stems for scope in denied):
        return "denies what the abstract affirms"
    if not denied and any(scope and scope <= sentence_stems for scope in denied_in_evidence):
        return "affirms what the abstract denies"
    for a, b in _opposites():
        in_sentence = (bool(sentence_stems & a), bool(sentence_stems & b))
        in_evidence = (bool(evidence_stems & a), bool(evidence_stems & b))
        if {in_sentence, in_evidence} == {(True, False), (False, True)}:
            return "says the opposite of the abstract"
    return None


@lru_cache(maxsize=1)
def _opposites() -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    return tuple((frozenset(stem_all(a.split())), frozenset(stem_all(b.split()))) for a, b in _OPPOSITES)


def _negated(text: str, scope: int) -> list[set[str]]:
    """For each negation in `text`, the stems of the `scope` content words after it."""
    tokens = words(re.sub(r"n['\u2019]t\b", " not", text))
    cues = [i for i, token in enumerate(tokens) if token in _NEGATIONS]
    return [set(stem_all([t for t in tokens[i + 1 : i + 12] if t not in STOPWORDS][:scope])) for i in cues]
