"""The log of the evaluation: its documentation, its baseline, and files of earlier schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from eval import gates
from eval.cli import app
from eval.log import Scores, read_log, read_scores
from eval.log_docs import documentation
from rag.errors import UsageError

PASSED, FAULT = 0, 2

ONE = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}
OLD_LOG: dict[str, Any] = {
    "schema": 1,
    "version": "0.1.0",
    "created": "2025-01-01T00:00:00+00:00",
    "corpus": {"papers": 1, "sha256": "x"},
    "questions": {"total": 2, "asked": 1, "sha256": "y"},
    "runs": [
        {
            "name": "extractive",
            "mode": "extractive",
            "model": None,
            "settings": {"k": 5},
            "metrics": {"accuracy": ONE},
            "by_type": {"fact": {"accuracy": ONE}},
            "by_split": {"dev": {}, "test": {"accuracy": ONE}},
            "latency_ms": {"p50": 1.0, "p95": 1.0},
            "risk_coverage": {"coverage": [1.0], "risk": [0.0]},
            "hard_failures": [],
            "errors": [],
            "judge": None,
            "groundedness_corrected": None,
            "outcomes": [
                {
                    "id": "q",
                    "question": "What does it do?",
                    "history": [],
                    "type": "fact",
                    "split": "test",
                    "answerable": True,
                    "gold": ["Birds"],
                    "acceptable": [],
                    "key_facts": ["flies"],
                    "good": True,
                    "failures": [],
                    "error": None,
                    "confidence": 0.5,
                    "loss": 0.0,
                    "metrics": {"accuracy": 1.0},
                    "facts_found": [True],
                    "query": "What does it do?",
                    "answer": "It flies. [1]",
                    "abstained": False,
                    "sentences": [
                        {
                            "text": "It flies.",
                            "citations": [1],
                            "verdict": "supported",
                            "support": 1.0,
                            "reason": "",
                            "evidence": {"paper_id": "p", "start": 0, "end": 9},
                            "repaired_from": None,
                        }
                    ],
                    "citations": [{"n": 1, "paper_id": "p", "title": "Birds", "evidence": []}],
                    "hits": [{"paper_id": "p", "score": 1.0}],
                    "ranking": ["p"],
                    "latency_ms": 1.0,
                }
            ],
        }
    ],
    "sabotage": [
        {"name": "nothing", "gate": "false alarms", "tripped": True, "caught": ONE, "expected": None, "passed": True}
    ],
    "papers": {"p": {"title": "Birds", "abstract": "It flies."}},
    "gates": [],
    "comparison": {},
}


def invoke(*arguments: object) -> Result:
    """`rag eval` in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_documentation_of_the_log_is_up_to_date() -> None:
    page = Path(__file__).parents[1] / "docs" / "eval-log.md"
    assert page.read_text(encoding="utf-8") == documentation(), "python -m eval.log_docs > docs/eval-log.md"


def test_the_shipped_baseline_is_of_the_current_schema() -> None:
    text = gates.BASELINE.read_text(encoding="utf-8")
    baseline = Scores.from_json(text)
    assert json.loads(text)["schema"] == 2 and baseline.to_json() == text
    (run,) = baseline.runs
    assert len(run.samples) == baseline.questions.total


BASELINE_1: dict[str, Any] = {
    "schema": 1,
    "version": "0.1.0",
    "corpus": {"papers": 1, "sha256": "x"},
    "questions": {"total": 1, "asked": 1, "sha256": "y"},
    "runs": [
        {
            "name": "m",
            "mode": "ollama",
            "model": "m",
            "metrics": {"accuracy": ONE},
            "outcomes": [{"id": "q", "good": True, "confidence": 0.5, "loss": 0.0, "metrics": {"accuracy": 1.0}}],
        }
    ],
}


def test_a_baseline_of_schema_1_is_converted(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(BASELINE_1))
    (run,) = read_scores(tmp_path / "old.json").runs
    assert (run.mode, run.metrics["accuracy"].value, run.samples[0].metrics) == ("generative", 1.0, {"accuracy": 1.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, "its schema is 3; this version reads 1 and 2"),
        ({"schema": 2}, "runs.0"),
        ({"runs": [{"name": "m"}]}, "not of schema 1"),
        ({"surprise": 1}, "surprise: Extra inputs"),
    ],
)
def test_a_log_of_another_schema_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "log.json").write_text(json.dumps(BASELINE_1 | changes))
    with pytest.raises(UsageError, match=message):
        read_scores(tmp_path / "log.json")


def test_a_log_of_schema_1_is_gated_but_not_scored_again(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps(OLD_LOG), encoding="utf-8")
    (run,) = read_log(old).runs
    assert run.samples[0].answer and run.samples[0].answer.text == "It flies. [1]"
    assert [result.name for result in read_log(old).perturbations] == ["nothing"]
    assert invoke("gate", old).exit_code == PASSED
    refused = invoke("score", old, "--out", tmp_path / "new")
    assert refused.exit_code == FAULT and "schema 1" in refused.stderr and not (tmp_path / "new").exists()
