"""What the command lines share: their options, the settings from them, and an index opened or built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag import errors
from rag.render import progress_bar, say
from rag.settings import Settings

if TYPE_CHECKING:
    from rag.assistant import Assistant
    from rag.index import Report

IndexOption = Annotated[str | None, typer.Option("--index", metavar="DIR", help="Folder of the index.")]
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings file (rag.toml).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="Any setting; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
ColorOption = Annotated[bool, typer.Option("--no-color", help="No colours (NO_COLOR works too).")]
KOption = Annotated[int | None, typer.Option("-k", help="Papers to retrieve.")]
BatchOption = Annotated[
    bool, typer.Option("--batch", help="Read JSON lines {id, question, history}; write one JSON object a line.")
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", help="auto, extractive, or ollama (which fails where no model answers).")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Ollama model to answer with; means --mode ollama.")]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", metavar="MODEL", help="Ollama model as a second opinion on doubtful sentences.")
]


def settings_from(set_: list[str] | None, config: str | None, **flags: Any) -> Settings:
    """The settings with `--set NAME=VALUE` and the other flags on top. Raises UsageError.

    A model (`llm`) that is named insists on being asked, unless a mode is named too.
    """
    if flags.get("llm") and not flags.get("mode"):
        flags["mode"] = "ollama"
    given: dict[str, Any] = {}
    for item in set_ or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise errors.UsageError(f"--set {item!r} is not NAME=VALUE.", "For instance: --set dense_weight=0.7")
        given[name.strip()] = value.strip()
    return Settings.load(given | {n: v for n, v in flags.items() if v is not None}, config)


def open_assistant(settings: Settings) -> Assistant:
    """The assistant on the index the settings name; the packaged corpus is indexed first if there is none."""
    from rag.assistant import Assistant

    try:
        return Assistant.open(settings)
    except errors.IndexMissing:
        say(f"No index yet: building one in {settings.index_path} (once, a minute or two).")
        build_index(settings, None, rebuild=False)
        return Assistant.open(settings)


def build_index(settings: Settings, paths: list[Path] | None, rebuild: bool) -> tuple[Report, list[str]]:
    """Index `paths`, or what was indexed before; what was done, and the records that could not be read."""
    from rag.index import build, indexed_paths
    from rag.papers import packaged_corpus, read_papers

    given = [str(p.expanduser().absolute()) for p in paths] if paths else indexed_paths(settings)
    found, problems = read_papers([Path(p) for p in given] or [packaged_corpus()])
    for problem in problems:
        say(f"skipped: {problem}")
    with progress_bar("Embedding papers") as progress:
        return build(found, settings, given, progress, rebuild), [str(problem) for problem in problems]
