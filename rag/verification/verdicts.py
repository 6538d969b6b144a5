"""The verdict on one sentence: the support by the papers it cites and by the others, and what the guards find.

The guards (numbers, names, polarity) check details that the support score misses. They are heuristics, so they never
make a sentence `unsupported`, only `partial`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from rag.types import Evidence, VerdictLabel
from rag.verification.claims import Claim
from rag.verification.names import novel_names
from rag.verification.numbers import Number, novel_numbers, number_reason
from rag.verification.polarity import polarity_conflict
from rag.verification.support import Match, Source, best_sentence, match

SUPPORT_THRESHOLD = 0.56  # support from which a text counts as saying what the sentence says
MISCITED_MARGIN = 0.10  # by which another paper must support a sentence better than the cited ones
POLARITY_MIN_SUPPORT = 0.6  # support by a single sentence from which its polarity is compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one sentence. `support` is None if the sentence is not a claim.

    `evidence` is the sentence that supports the claim most. `suggested_citation` is the number of the paper to cite
    instead (miscited), or of the one that supports a sentence without a citation. `entailed`: the cited papers
    together support the sentence. `needed`: for each citation, ALCE's relevance. `novel_numbers` and `novel_names`
    are not in the cited papers.
    """

    label: VerdictLabel
    support: float | None = None
    reason: str = ""
    evidence: Evidence | None = None
    suggested_citation: int | None = None
    entailed: bool = False
    needed: tuple[bool, ...] = ()
    novel_numbers: tuple[str, ...] = ()
    novel_names: tuple[str, ...] = ()


def assess(
    claim: Claim | None,
    sources: Sequence[Source],
    citations: Sequence[int] = (),
    question_stems: frozenset[str] = frozenset(),
    threshold: float = SUPPORT_THRESHOLD,
) -> Verdict:
    """The verdict on a sentence with `citations`, where [n] is `sources[n - 1]`; `claim` is None if it is not one.

    Several citations count together; a sentence is miscited only if a single other paper supports it better. If there
    is no citation, the best of `sources` counts as cited, but the sentence is not `entailed`.
    """
    not_needed = (False,) * len(citations)
    if claim is None:
        return Verdict(label="not_a_claim", needed=not_needed)
    if not sources:
        return Verdict(label="unsupported", support=0.0, reason="no paper was retrieved")
    matches = [match(claim, source, question_stems) for source in sources]
    scores = [m.support for m in matches]
    best = _highest(scores, range(len(sources)))
    cited = list(dict.fromkeys(n - 1 for n in citations)) or [best]
    support = reduce(or_, (matches[i] for i in cited)).support
    if others := [i for i in range(len(sources)) if i not in cited]:
        better = _highest(scores, others)
        if scores[better] >= max(threshold, support + MISCITED_MARGIN):
            return Verdict(
                label="miscited",
                support=support,
                reason=f"another retrieved paper says this (support {scores[better]:.2f}, cited {support:.2f})",
                evidence=_evidence(claim, sources, [better])[0],
                suggested_citation=better + 1,
                needed=not_needed,
            )
    evidence, evidence_support = _evidence(claim, sources, cited)
    texts = [sources[i].text for i in cited]
    new_numbers, new_names = novel_numbers(claim.text, texts), novel_names(claim.text, texts)
    is_supported = support >= threshold
    if is_supported:
        reasons = _guard_reasons(claim, evidence, evidence_support, texts, new_numbers, new_names)
    else:
        subject = "the cited text does not say this" if citations else "no retrieved paper says this"
        reasons = [f"{subject} (support {support:.2f})"]
    return Verdict(
        label="unsupported" if not is_supported else "partial" if reasons else "supported",
        support=support,
        reason="; ".join(reasons),
        evidence=evidence,
        suggested_citation=best + 1 if is_supported and not citations else None,
        entailed=is_supported and bool(citations),
        needed=tuple(_is_needed(n - 1, cited, matches, threshold) for n in citations) if is_supported else not_needed,
        novel_numbers=tuple(number.text for number in new_numbers),
        novel_names=new_names,
    )


def _highest(scores: Sequence[float], indices: Iterable[int]) -> int:
    return max(indices, key=lambda i: scores[i])


def _guard_reasons(
    claim: Claim,
    evidence: Evidence | None,
    evidence_support: float,
    texts: Sequence[str],
    new_numbers: Sequence[Number],
    new_names: Sequence[str],
) -> list[str]:
    """What the guards object to in a sentence that `texts` support."""
    evidence_text = evidence.text if evidence else ""
    reasons = [number_reason(number, evidence_text, " ".join(texts)) for number in new_numbers]
    reasons += [f"{name} is not in the cited abstract" for name in new_names]
    if evidence_support >= POLARITY_MIN_SUPPORT and (conflict := polarity_conflict(claim.text, evidence_text)):
        reasons.append(conflict)
    return reasons


def _evidence(claim: Claim, sources: Sequence[Source], indices: Iterable[int]) -> tuple[Evidence | None, float]:
    """The sentence of the sources at `indices` that alone supports `claim` most, and its support."""
    best: tuple[Evidence | None, float] = (None, 0.0)
    for i in indices:
        at, support = best_sentence(claim, sources[i])
        if support > best[1]:
            best = evidence_at(sources[i], i + 1, at), support
    return best


def evidence_at(source: Source, n: int, i: int) -> Evidence:
    """Sentence `i` of `source`, which is cited as [n], as evidence."""
    span = source.sentence(i)
    return Evidence(n=n, paper_id=source.paper_id, text=span.text, start=span.start, end=span.end)


def _is_needed(index: int, cited: Collection[int], matches: Sequence[Match], threshold: float) -> bool:
    """Whether the citation of paper `index` is relevant (ALCE): it supports the sentence, or the others do not."""
    rest = [matches[i] for i in cited if i != index]
    return matches[index].support >= threshold or not rest or reduce(or_, rest).support < threshold
