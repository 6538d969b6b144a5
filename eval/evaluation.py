"""One evaluation from its options to its log: `rag eval run` without the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eval.gates import BASELINE, GATES, Gates, read_gates
from eval.judge import add_judge
from eval.log import EvalLog, EvalRun, PerturbationResult, Scores, read_scores
from eval.perturbed_runs import PerturbedRuns
from eval.questions import FOLDER, choose, read
from eval.report.assemble import assemble, decide
from eval.runner import Runner, mentioned_papers
from eval.substitutes import CachingEncoder
from rag.assistant import Assistant
from rag.cli.options import open_assistant
from rag.cli.render import progress_bar, say
from rag.errors import UsageError
from rag.settings import Settings

if TYPE_CHECKING:
    from rag.llm.client import LLMClient
    from rag.verification.judges import Judge

EXTRACTIVE = "extractive"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `rag eval run`."""

    out: Path
    mode: str = EXTRACTIVE
    models: tuple[str, ...] = ()
    judge: str = ""
    record: Path | None = None
    replay: Path | None = None
    split: str = ""
    types: tuple[str, ...] = ()
    limit: int = 0
    leave_one_out: int = 40
    perturbations: int = 40
    gates: Path | None = None
    baseline: Path | None = None
    questions: Path | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for options that do not go together."""
        if self.mode not in (EXTRACTIVE, "generative"):
            raise UsageError(f"--mode {self.mode} is neither extractive nor generative.")
        if self.mode == "generative" and not self.models:
            raise UsageError("--mode generative needs --model.", "`rag models` lists the models of the server.")
        if self.mode == EXTRACTIVE and self.models:
            raise UsageError("--model needs --mode generative.")
        if (self.record or self.replay) and not (self.models or self.judge):
            raise UsageError("--record and --replay need --mode generative or --judge.")
        if self.record and self.replay:
            raise UsageError("--record and --replay exclude each other.")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"{self.out} is not a folder.", "Name a folder with --out.")


def evaluate(options: RunOptions, settings: Settings) -> EvalLog:
    """Ask, score, perturb and gate. Raises what the assistant raises if it cannot answer the first question."""
    settings = settings.replace(mode=options.mode, judge_model="")  # no model decides a gate
    gates, baseline = rules(options.gates, options.baseline)
    question_set = read(options.questions or FOLDER)
    asked = choose(question_set, options.split, options.types, options.limit)
    assistant = open_assistant(settings)
    assistant = assistant.configured(encoder=CachingEncoder(assistant.encoder))
    judge = _judge(options, settings) if options.judge else None
    runs: list[EvalRun] = []
    perturbations: list[PerturbationResult] = []
    for model in dict.fromkeys(options.models or ("",)):
        runner = Runner(_answering(assistant, model, options))
        with progress_bar(f"Asking {model}".strip(), "questions") as progress:
            outcomes = runner.ask_all(asked, progress=progress, leave_one_out=options.leave_one_out)
        runs.append(runner.summarise(model or EXTRACTIVE, outcomes))
        if options.perturbations and options.mode == EXTRACTIVE:
            with progress_bar("Perturbing", "kinds") as progress:
                perturbations = PerturbedRuns(runner, outcomes, gates, options.perturbations).run(progress)
    if judge:
        runs = _judged(runs, runner, judge)
    log = assemble(
        runs,
        perturbations,
        question_set=question_set,
        asked=len(asked),
        manifest=assistant.manifest,
        papers=runner.logged_papers,
    )
    return decide(log, gates, baseline)


def rules(gates: Path | None, baseline: Path | None) -> tuple[Gates, Scores | None]:
    """The gates and the baseline, by default those of the harness. Raises UsageError."""
    bounds, notes = read_gates(gates or GATES)
    for note in notes:
        say(note)
    path = baseline or BASELINE
    return bounds, read_scores(path) if baseline or path.is_file() else None


def _answering(assistant: Assistant, model: str, options: RunOptions) -> Assistant:
    """`assistant` with `model` as its language model; unchanged if `model` is empty."""
    if not model:
        return assistant
    settings = assistant.settings.replace(model=model)
    return assistant.configured(settings, client=_client(model, options, settings))


def _client(model: str, options: RunOptions, settings: Settings, prefix: str = "") -> LLMClient:
    """The server of `settings`; with --record or --replay, a recording of it in one file for each model."""
    from eval.recording import RecordingClient
    from rag.llm.ollama import OllamaClient

    folder = options.record or options.replay
    server = None if options.replay else OllamaClient.from_settings(settings.llm)
    if not folder:
        assert server is not None
        return server
    return RecordingClient(folder / f"{prefix}{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.jsonl", server)


def _judge(options: RunOptions, settings: Settings) -> Judge:
    """The judge model. Raises LLMUnavailableError, before any question is asked."""
    from rag.llm.session import LLMSession
    from rag.verification.llm_judge import LLMJudge

    client = _client(options.judge, options, settings, prefix="judge_")
    session = LLMSession(replace(settings.llm, model=options.judge), client)
    _ = session.model_info
    return LLMJudge(session)


def _judged(runs: Sequence[EvalRun], runner: Runner, judge: Judge) -> list[EvalRun]:
    papers = mentioned_papers(runs, runner.logged_papers)
    judged = []
    for run in runs:
        with progress_bar(f"Judging {run.name}", "claims") as progress:
            judged.append(add_judge(run, papers, judge, progress))
    return judged
