"""`rag ask` and `rag search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.batch import run_batch
from rag.cli.options import ColorOption, JsonOption, ThinkingOption, open_assistant, stdin_text, with_settings
from rag.cli.render import console_for, explain, print_json, say, show_search, show_timings
from rag.cli.stream import show_stream
from rag.errors import UsageError
from rag.settings import Settings

if TYPE_CHECKING:
    from rag.types import Answer

ABSTAINED, UNSUPPORTED = 3, 4  # exit codes of answers

QuestionArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUESTION",
        help="The question, or - to read it from stdin. With --batch: a file of requests, or stdin without one.",
        show_default=False,
    ),
]
BatchOption = Annotated[
    bool, typer.Option("--batch", help="Read JSON lines {id, question, history}; write one JSON object per line.")
]


@with_settings("k", "mode", "model", "strict", "judge_model", "index_dir")
def ask(
    settings: Settings,
    question: QuestionArgument = None,
    explain_: Annotated[bool, typer.Option("--explain", help="Print each sentence beside its evidence.")] = False,
    bib: Annotated[
        Path | None, typer.Option("--bib", metavar="FILE", readable=False, help="Write BibTeX of the cited papers.")
    ] = None,
    json_: JsonOption = False,
    batch: BatchOption = False,
    timing: Annotated[bool, typer.Option("--timing", help="Print how long each part took, on stderr.")] = False,
    show_thinking: ThinkingOption = False,
    no_color: ColorOption = False,
) -> None:
    """Answer a question from the corpus, every sentence with its source."""
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
        # Only a terminal shows what --strict may remove.
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


@with_settings("k", "index_dir")
def search(
    settings: Settings,
    question: QuestionArgument = None,
    json_: JsonOption = False,
    batch: BatchOption = False,
    no_color: ColorOption = False,
) -> None:
    """List the papers that match a question best, with their scores."""
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
    """Write BibTeX of the cited papers, without those that only unsupported sentences cite. Raises UsageError."""
    from rag.corpus.bibtex import bibtex

    numbers = sorted({n for s in answer.sentences if s.verdict != "unsupported" for n in s.citations})
    try:
        path.write_text("\n".join(bibtex(answer.context[n - 1]) for n in numbers), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.", "Check --bib.") from error
