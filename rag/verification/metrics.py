"""Metrics of an answer, after ALCE (Gao et al. 2023, "Enabling Large Language Models to Generate Text with Citations").

The support score takes the place of ALCE's entailment model.
"""

from __future__ import annotations

from collections.abc import Iterable

from rag.types import Grounding, VerdictLabel
from rag.verification.verdicts import Verdict

_GROUNDED_SHARE: dict[VerdictLabel, float] = {"supported": 1.0, "miscited": 1.0, "partial": 0.5}


def measure(verdicts: Iterable[Verdict]) -> Grounding:
    """The metrics of an answer from the verdicts on its sentences. All are None if there is no claim."""
    claims = [(verdict, verdict.support) for verdict in verdicts if verdict.support is not None]
    if not claims:
        return Grounding()
    needed = [n for verdict, _ in claims for n in verdict.needed]
    return Grounding(
        groundedness=sum(_GROUNDED_SHARE.get(v.label, 0.0) for v, _ in claims) / len(claims),
        citation_precision=sum(needed) / len(needed) if needed else None,
        citation_recall=sum(v.entailed for v, _ in claims) / len(claims),
        citation_coverage=sum(bool(v.needed) for v, _ in claims) / len(claims),
        misattributed=sum(v.label == "miscited" for v, _ in claims),
        novel_numbers=sum(len(v.novel_numbers) for v, _ in claims),
        novel_names=sum(len(v.novel_names) for v, _ in claims),
        min_support=min(support for _, support in claims),
    )
