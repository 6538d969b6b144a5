"""`rag status`: the index and its manifest, and the Ollama server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import typer

from rag import errors
from rag.cli.options import ColorOption, JsonOption, with_settings
from rag.cli.render import console_for, print_json, say
from rag.settings import Settings

_SERVER_SECONDS = 5.0  # to wait for a reply, so that a status never hangs
# What is the matter with the index, by the error of opening it; "corrupt" for any other.
_STATES: dict[type[errors.RagError], str] = {
    errors.IndexMissingError: "missing",
    errors.IndexMismatchError: "mismatch",
    errors.IndexLockedError: "locked",
    errors.EmbeddingModelError: "mismatch",
}


@with_settings("index_dir")
def status_command(settings: Settings, json_: JsonOption = False, no_color: ColorOption = False) -> None:
    """Show the index and how it was built, and whether an Ollama server answers."""
    report, failure = index_report(settings)
    report["ollama"] = server_report(settings)
    if json_:
        print_json(report | ({"passport": report["manifest"]} if "manifest" in report else {}))  # its deprecated name
    else:
        console = console_for(no_color)
        for name, value in _flat(report):
            console.print(f"{name:28} {value}", markup=False, highlight=False, soft_wrap=True)
    if failure:
        say(f"rag: {failure}")
        raise typer.Exit(errors.exit_code(failure))


def index_report(settings: Settings) -> tuple[dict[str, Any], errors.RagError | None]:
    """The version of rag, the index and its manifest; and why the index cannot be used, if it cannot."""
    from rag import __version__
    from rag.index.folder import current_version
    from rag.index.manifest import Manifest
    from rag.index.store import Index

    index: dict[str, Any] = {"path": None, "state": "ready"}
    report: dict[str, Any] = {"version": __version__, "index": index}
    failure: errors.RagError | None = None
    try:
        index["path"] = str(settings.index_path)
        _ = Index.open(settings).vectors  # opens Chroma, so that corruption shows here
    except errors.RagError as error:
        index |= {"state": _STATES.get(type(error), "corrupt"), "problem": str(error)}
        failure = error
    with suppress(errors.RagError, OSError):  # the state says why
        version = current_version(settings.index_path)
        index["bytes"] = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
        report["manifest"] = asdict(Manifest.read(version))
    return report, failure


def server_report(settings: Settings) -> dict[str, Any]:
    """Whether a server answers, and which of its models would answer."""
    from rag.llm.address import server_address
    from rag.llm.ollama import OllamaClient
    from rag.llm.session import choose_model
    from rag.llm.transport import Timeouts

    timeouts = Timeouts(connect=settings.llm.connect_timeout, call=_SERVER_SECONDS)
    client = OllamaClient(server_address(settings.llm), timeouts)
    report: dict[str, Any] = {"host": client.address, "reachable": False}
    try:
        report |= {"version": client.version(), "reachable": True}
        report["model"] = choose_model(client, settings.llm.model).name
    except errors.LLMError as error:
        report["problem"] = str(error)
    return report


def _flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in `report`."""
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value
