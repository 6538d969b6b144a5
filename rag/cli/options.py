"""What the commands share: their options, the settings from them, and an open assistant."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli.render import progress_bar, say
from rag.errors import UsageError
from rag.settings import Settings

if TYPE_CHECKING:
    from rag.assistant import Assistant

QuestionArgument = Annotated[
    list[str] | None,
    typer.Argument(help="The question; - reads stdin. With --batch: a file, else stdin.", show_default=False),
]
IndexOption = Annotated[str | None, typer.Option("--index", metavar="DIR", help="Folder of the index.")]
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings file (rag.toml).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="Any setting; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
ColorOption = Annotated[bool, typer.Option("--no-color", help="No colours (NO_COLOR works too).")]
KOption = Annotated[int | None, typer.Option("-k", help="Papers to retrieve.")]
BatchOption = Annotated[
    bool, typer.Option("--batch", help="Read JSON lines {id, question, history}; write one JSON object per line.")
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", help="auto, extractive, or generative (which fails if no model answers).")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Ollama model to answer with; implies --mode generative.")
]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", metavar="MODEL", help="Ollama model that judges uncertain sentences.")
]
ThinkingOption = Annotated[bool, typer.Option("--show-thinking", help="Print a model's reasoning, dimmed.")]


def settings_from(set_: list[str] | None, config: str | None, **flags: Any) -> Settings:
    """The settings with `--set NAME=VALUE` and the other flags on top; notes on old names go to stderr.

    A model that is named must answer, unless a mode is named too. Raises SettingsError.
    """
    if flags.get("model") and not flags.get("mode"):
        flags["mode"] = "generative"
    values: dict[str, Any] = {}
    for item in set_ or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item!r} is not NAME=VALUE.", "For example: --set dense_weight=0.7")
        values[name.strip()] = value.strip()
    settings = Settings.load(values | {n: v for n, v in flags.items() if v is not None}, config)
    for note in settings.deprecations:
        say(note)
    return settings


def open_assistant(settings: Settings) -> Assistant:
    """The assistant on the index that the settings name; if there is none yet, the packaged corpus is indexed first."""
    from rag.assistant import Assistant
    from rag.errors import IndexMissingError

    try:
        return Assistant.open(settings, build=False)
    except IndexMissingError:
        say(f"No index yet: building one in {settings.index_path} (once, a minute or two).")
        with progress_bar("Embedding papers") as progress:
            return Assistant.open(settings, progress=progress)


def stdin_text() -> str:
    """All of stdin. Raises UsageError if it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("stdin is not UTF-8 text.", "Give the question as plain text.") from None
