"""Logs of schema 1, as version 0.1 wrote them, converted to schema 2. Kept for one release."""

from __future__ import annotations

from typing import Any

_ANSWER_FIELDS = ("abstained", "query", "sentences", "citations", "hits", "latency_ms")


def from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """`data` of schema 1 in schema 2. Raises ValueError if it does not have the fields of schema 1.

    Schema 1 has neither the context of an answer nor the verifier's counts: they are empty.
    """
    try:
        return data | {"schema": 2, "runs": [_run(run) for run in data["runs"]]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not of schema 1: {error!r}") from None


def _run(run: dict[str, Any]) -> dict[str, Any]:
    converted = {name: value for name, value in run.items() if name != "outcomes"}
    converted |= {
        "mode": "generative" if run["mode"] == "ollama" else run["mode"],
        "samples": [_sample(outcome) for outcome in run["outcomes"]],
    }
    if "hard_failures" in run:
        converted["hard_failures"] = [{"id": f["id"], "message": f["failure"]} for f in run["hard_failures"]]
        converted["errors"] = [{"id": e["id"], "message": e["error"]} for e in run["errors"]]
    return converted


def _sample(outcome: dict[str, Any]) -> dict[str, Any]:
    if "answer" not in outcome:  # a baseline, or a question that ended in an error
        return outcome
    answer = {name: outcome[name] for name in _ANSWER_FIELDS}
    sample = {name: value for name, value in outcome.items() if name not in _ANSWER_FIELDS}
    asked_again = outcome["abstained"] and outcome["answerable"]
    return sample | {
        "answer": answer | {"text": outcome["answer"], "context": [], "grounding": None},
        "forced_loss": outcome["loss"] if asked_again else None,
        "leave_one_out": outcome["metrics"].get("leave_one_out"),
    }
