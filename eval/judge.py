"""A model's second opinion on the verdicts of a run: reported beside them with its agreement, never a gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eval.metrics import bootstrap_of, mean
from rag.answering.opinion import Judge


def review(
    run: dict[str, Any], papers: Mapping[str, Mapping[str, str]], judge: Judge,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """`run` of a report with `judge` on every claim that cites a paper, and their agreement in `run["judge"]`.

    Of both, only "supported" counts as yes. Raises ModelUnavailable.
    """
    cases = [
        (sentence, [papers[cited[n]] for n in sentence["citations"] if n in cited])
        for o in run["outcomes"]
        for cited in [{c["n"]: c["paper_id"] for c in o.get("citations", ())}]
        for sentence in o.get("sentences", ())
        if sentence["support"] is not None and cited.keys() & set(sentence["citations"])
    ]
    verdicts, opinions = [], []
    for done, (sentence, sources) in enumerate(cases, start=1):
        text = "\n\n".join(f"{paper['title']}\n{paper['abstract']}" for paper in sources)
        sentence["judge"] = judge(sentence["text"], text).verdict
        verdicts.append(float(sentence["verdict"] == "supported"))
        opinions.append(float(sentence["judge"] == "supported"))
        progress(done, len(cases))
    return run | {
        "judge": {
            "model": judge.name,
            "agreement": mean([float(a == b) for a, b in zip(verdicts, opinions, strict=True)]).as_json(),
            "kappa": bootstrap_of(_kappa, [verdicts, opinions]).as_json(),
            "verifier_supported": mean(verdicts).as_json(),
            "judge_supported": mean(opinions).as_json(),
        }
    }


def _kappa(one: Any, other: Any) -> float | None:
    """Cohen's kappa (1960); None where both say one and the same of everything, so that chance explains it all."""
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float(((one == other).mean() - chance) / (1 - chance)) if chance < 1 else None
