"""What the commands share: their options, the settings that these give, and an open assistant."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from rag.cli.render import progress_bar, say
from rag.errors import IndexMissingError, UsageError
from rag.settings import Settings

if TYPE_CHECKING:
    from rag.assistant import Assistant

_P = ParamSpec("_P")
_PANEL = "Settings"

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
ColorOption = Annotated[bool, typer.Option("--no-color", help="Print without colours; NO_COLOR=1 does the same.")]
ThinkingOption = Annotated[bool, typer.Option("--show-thinking", help="Print a model's reasoning, dimmed, on stderr.")]

IndexOption = Annotated[
    str | None,
    typer.Option("--index", metavar="DIR", help="Folder of the index.", rich_help_panel=_PANEL),
]
KOption = Annotated[
    int | None,
    typer.Option("-k", metavar="N", help="How many papers to retrieve; 5 by default.", rich_help_panel=_PANEL),
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="Who answers: generative (a model), extractive (quotations), or auto (a model if a server answers).",
        rich_help_panel=_PANEL,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="The Ollama model that answers; implies --mode generative.",
        rich_help_panel=_PANEL,
    ),
]
StrictOption = Annotated[
    bool | None,
    typer.Option("--strict", help="Remove sentences that no retrieved paper supports.", rich_help_panel=_PANEL),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="An Ollama model that judges sentences of uncertain support.",
        rich_help_panel=_PANEL,
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Configuration file instead of rag.toml.", rich_help_panel=_PANEL),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="Set any setting that `rag config` lists; may be repeated.",
        rich_help_panel=_PANEL,
    ),
]
# The options of settings, by the name of the setting.
_SETTING_OPTIONS: dict[str, Any] = {
    "k": KOption,
    "mode": ModeOption,
    "model": ModelOption,
    "strict": StrictOption,
    "judge_model": JudgeOption,
    "index_dir": IndexOption,
}


def with_settings(*names: str) -> Callable[[Callable[Concatenate[Settings, _P], None]], Callable[..., None]]:
    """A decorator that gives a command the options of the settings `names`, --config and --set.

    The command takes the settings as its first parameter. Typer reads options from the signature of a function, so
    the decorator puts these into it in the place of that parameter.
    """
    options = {name: _SETTING_OPTIONS[name] for name in names} | {"config": ConfigOption, "set_": SetOption}

    def decorate(command: Callable[Concatenate[Settings, _P], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            flags = {name: values.pop(name) for name in options}
            settings = settings_from(flags.pop("set_"), flags.pop("config"), **flags)
            command(settings, **values)  # type: ignore[call-arg]  # the rest of the signature

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        kind = inspect.Parameter.KEYWORD_ONLY
        added = [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in options.items()]
        signature = inspect.Signature([*(parameter.replace(kind=kind) for parameter in own), *added])
        run.__signature__ = signature  # type: ignore[attr-defined]
        return run

    return decorate


def settings_from(set_: list[str] | None, config: str | None, **flags: Any) -> Settings:
    """The settings with `--set NAME=VALUE` and the other flags on top; notes on old names go to stderr.

    If a model is named, a model must answer, unless a mode is named too. Raises SettingsError.
    """
    if flags.get("model") and not flags.get("mode"):
        flags["mode"] = "generative"
    values: dict[str, Any] = {}
    for item in set_ or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item!r} is not NAME=VALUE.", "For example: --set dense_weight=0.7")
        values[name.strip()] = value.strip()
    settings = Settings.load(values | {name: value for name, value in flags.items() if value is not None}, config)
    for note in settings.deprecations:
        say(note)
    return settings


def open_assistant(settings: Settings) -> Assistant:
    """The assistant on the index that the settings name; if there is none yet, the packaged corpus is indexed first."""
    from rag.assistant import Assistant

    try:
        return Assistant.open(settings, build=False)
    except IndexMissingError:
        say(f"There is no index yet. Building one in {settings.index_path}: this takes a minute or two, once.")
        with progress_bar("Embedding papers") as progress:
            return Assistant.open(settings, progress=progress)


def stdin_text() -> str:
    """All of stdin. Raises UsageError if it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("stdin is not UTF-8 text.", "Convert it to UTF-8.") from None
