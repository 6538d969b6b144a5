"""`rag ask` and `rag search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.batch import run_batch
from rag.cli.options import (
    BatchOption,
    ColorOption,
    ConfigOption,
    IndexOption,
    JsonOption,
    JudgeOption,
    KOption,
    ModelOption,
    ModeOption,
    QuestionArgument,
    SetOption,
    ThinkingOption,
    open_assistant,
    settings_from,
    stdin_text,
)
from rag.cli.render import console_for, explain, print_json, say, show_search, show_stream, show_timings

if TYPE_CHECKING:
    from rag.types import Answer

ABSTAINED, UNSUPPORTED = 3, 4  # exit codes of answers


def ask(
    question: QuestionArgument = None,
    k: KOption = None,
    json_: JsonOption = False,
    batch: BatchOption = False,
    mode: ModeOption = None,
    model: ModelOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
    timing: Annotated[bool, typer.Option("--timing", help="Print how long each part took.")] = False,
    show_thinking: ThinkingOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Remove sentences no retrieved paper supports.")] = False,
    explain_: Annotated[bool, typer.Option("--explain", help="Print each sentence beside its evidence.")] = False,
    judge: JudgeOption = None,
    bib: Annotated[
        Path | None, typer.Option("--bib", metavar="FILE", readable=False, help="Write BibTeX of the cited papers.")
    ] = None,
) -> None:
    """Answer a question from the corpus, every sentence with its source."""
    settings = settings_from(
        set_, config, index_dir=index, k=k, mode=mode, model=model, strict=strict or None, judge_model=judge
    )
    if batch:
        assistant = open_assistant(settings)
        raise typer.Exit(run_batch(question, lambda id, text, turns: assistant.ask(text, turns).as_json(id)))
    text = _question(question)
    assistant = open_assistant(settings)
    if json_:
        answer = assistant.ask(text)
        print_json(answer.as_json())
    else:
        console = console_for(no_color)
        # Only a terminal sees what --strict may remove.
        live = console.is_terminal or not settings.verification.strict
        answer = show_stream(assistant.stream(text), console, show_thinking, live)
        if explain_:
            explain(answer, console)
    for note in answer.notes:
        say(note)
    if timing:
        show_timings(answer)
    if bib:
        _write_bib(bib, answer)
    if answer.abstained:
        raise typer.Exit(ABSTAINED)
    if answer.unsupported:
        raise typer.Exit(UNSUPPORTED)


def search(
    question: QuestionArgument = None,
    k: KOption = None,
    json_: JsonOption = False,
    batch: BatchOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    """List the papers that match a question best, with their scores."""
    settings = settings_from(set_, config, index_dir=index, k=k)
    if batch:
        assistant = open_assistant(settings)
        raise typer.Exit(run_batch(question, lambda id, text, turns: assistant.search(text, turns).as_json(id)))
    text = _question(question)
    result = open_assistant(settings).search(text)
    if json_:
        print_json(result.as_json())
    else:
        show_search(result, console_for(no_color))


def _question(parts: list[str] | None) -> str:
    """The question from the arguments, or from stdin for `-`. Raises UsageError if there is none."""
    from rag.retrieval.question import clean_question

    return clean_question(stdin_text() if parts == ["-"] else " ".join(parts or []))


def _write_bib(path: Path, answer: Answer) -> None:
    """BibTeX of the cited papers, without those that only unsupported sentences cite. Raises UsageError."""
    from rag.corpus.bibtex import bibtex
    from rag.errors import UsageError

    numbers = sorted({n for s in answer.sentences if s.verdict != "unsupported" for n in s.citations})
    try:
        path.write_text("\n".join(bibtex(answer.context[n - 1]) for n in numbers), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.", "Check --bib.") from error
