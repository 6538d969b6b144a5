"""`rag verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag.cli.ask import UNSUPPORTED
from rag.cli.options import ColorOption, JsonOption, open_assistant, stdin_text, with_settings
from rag.cli.render import console_for, explain, print_json, say
from rag.settings import Settings


@with_settings("judge_model", "index_dir")
def verify_command(
    settings: Settings,
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A text with citations and titles; - reads it from stdin.")
    ],
    json_: JsonOption = False,
    no_color: ColorOption = False,
) -> None:
    r"""Check any text with \[n] and a list of titles, or titles in brackets, against the corpus."""
    from rag.corpus.reading import read_text

    text = stdin_text() if source == "-" else read_text(Path(source))
    check = open_assistant(settings).verify_text(text)
    answer = check.answer
    if json_:
        record = answer.as_json()
        names = ("schema", "sentences", "citations", "grounding")
        print_json({name: record[name] for name in names} | {"unknown": list(check.unknown)})
    else:
        explain(answer, console_for(no_color))
    for title in check.unknown:
        say(f"Not in the corpus: {title}")
    if answer.unsupported or check.unknown or any(s.verdict == "miscited" for s in answer.sentences):
        raise typer.Exit(UNSUPPORTED)
