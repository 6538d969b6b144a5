"""`rag verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag.cli.ask import UNSUPPORTED
from rag.cli.options import (
    ColorOption,
    ConfigOption,
    IndexOption,
    JsonOption,
    JudgeOption,
    SetOption,
    open_assistant,
    settings_from,
    stdin_text,
)
from rag.cli.render import console_for, explain, print_json, say


def verify_command(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Text with citations and titles; - reads stdin.")],
    judge: JudgeOption = None,
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    r"""Check any text with \[n] and a list of titles, or titles in brackets, against the corpus."""
    from rag.corpus.reading import read_text

    settings = settings_from(set_, config, index_dir=index, judge_model=judge)
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
