"""The log as a whole: assembled once, gated, and written as four files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from eval.comparison import compare, matching
from eval.gates import Gates, check, check_perturbation, corrected_groundedness
from eval.log import CorpusInfo, EvalLog, EvalRun, LoggedPaper, PerturbationResult, QuestionSet, Scores
from eval.questions import Question
from eval.report.html import html
from eval.report.junit import junit
from eval.report.markdown import markdown
from eval.runner import mentioned_papers
from rag import __version__
from rag.errors import UsageError
from rag.index.manifest import Manifest


def assemble(
    runs: Sequence[EvalRun],
    perturbations: Sequence[PerturbationResult],
    *,
    question_set: Sequence[Question],
    asked: int,
    manifest: Manifest,
    papers: Mapping[str, LoggedPaper],
) -> EvalLog:
    """The log of `runs`, not gated yet. `asked` of the `question_set` were asked; `papers` is the corpus."""
    content = "".join(f"{q.id}\0{q.question}\0{q.gold}\0{q.key_facts}\0" for q in question_set)
    return EvalLog(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        corpus=CorpusInfo(papers=len(papers), sha256=manifest.corpus),
        questions=QuestionSet(
            total=len(question_set), asked=asked, sha256=hashlib.sha256(content.encode()).hexdigest()
        ),
        runs=tuple(runs),
        perturbations=tuple(perturbations),
        papers=mentioned_papers(runs, papers),
    )


def decide(log: EvalLog, gates: Gates, baseline: Scores | None) -> EvalLog:
    """`log` with its gates, the comparison with the baseline, and corrected groundedness.

    Floors, ceilings and regressions need all questions. Hard failures and perturbations are decided on any.
    """
    runs, decisions, comparison = [], [], {}
    for run in log.runs:
        corrected = corrected_groundedness(run, gates)
        runs.append(run.model_copy(update={"groundedness_corrected": corrected}))
        before = matching(run, baseline.runs) if baseline else None
        if before is not None:
            comparison[run.name] = compare(before, run)
        checked = check(run, gates, before, [(f.id, f.message) for f in run.hard_failures])
        decisions += checked if log.is_complete else checked[:1]
    decisions += [check_perturbation(result) for result in log.perturbations]
    return log.model_copy(update={"runs": tuple(runs), "gates": tuple(decisions), "comparison": comparison})


def write(log: EvalLog, folder: Path) -> None:
    """Write all four files. Raises UsageError if the folder cannot be written."""
    files = {
        "report.json": log.to_json(),
        "report.md": markdown(log),
        "report.html": html(log),
        "junit.xml": junit(log),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {folder}: {error.strerror}.", "Name another folder with --out.") from None
