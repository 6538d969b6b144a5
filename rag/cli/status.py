"""`rag status` and `rag config`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import typer

from rag import errors
from rag.cli.options import ColorOption, ConfigOption, IndexOption, JsonOption, SetOption, settings_from
from rag.cli.render import console_for, print_json, say
from rag.settings import Settings, describe, groups

_STATUS_SECONDS = 5.0  # a status must not hang


def status_command(
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    """Show the index and its manifest, the model, and whether Ollama answers."""
    settings = settings_from(set_, config, index_dir=index)
    report, failure = _report(settings)
    if json_:
        print_json(report)
    else:
        console = console_for(no_color)
        for name, value in _flat({n: v for n, v in report.items() if n != "passport"}):
            console.print(f"{name:28} {value}", markup=False, highlight=False, soft_wrap=True)
    if failure:
        say(f"rag: {failure}")
        raise typer.Exit(errors.exit_code(failure))


def config_command(json_: JsonOption = False, config: ConfigOption = None, set_: SetOption = None) -> None:
    """Show every setting by group, its value, and where the value came from."""
    settings = settings_from(set_, config)
    rows: dict[str, tuple[str, Any, str]] = {}
    for group, names in groups().items():
        rows |= {name: (group, settings.value(name), settings.origin(name)) for name in names}
    if not settings.llm.ollama_host and (host := os.environ.get("OLLAMA_HOST")):  # Ollama's own name for it
        rows["ollama_host"] = "llm", host, "environment OLLAMA_HOST"
    if json_:
        print_json({name: {"value": v, "origin": origin, "group": group} for name, (group, v, origin) in rows.items()})
        return
    previous = ""
    for name, (group, value, origin) in rows.items():
        if group != previous:
            print(f"[{group}]" if not previous else f"\n[{group}]")
            previous = group
        print(f"{name:24} {value!s:20} {origin:24} {describe(name)}")


def _report(settings: Settings) -> tuple[dict[str, Any], errors.RagError | None]:
    from rag import __version__
    from rag.index.folder import current_version
    from rag.index.manifest import Manifest
    from rag.index.store import Index

    report: dict[str, Any] = {"version": __version__, "index": {"path": str(settings.index_path), "state": "ready"}}
    failure: errors.RagError | None = None
    try:
        index = Index.open(settings)
        _ = index.vectors  # opens Chroma, so that corruption shows here
    except errors.RagError as error:
        states: dict[type, str] = {errors.IndexMissingError: "missing", errors.IndexMismatchError: "mismatch"}
        report["index"] |= {"state": states.get(type(error), "corrupt"), "problem": str(error)}
        failure = error
    try:
        version = current_version(settings.index_path)
        report["index"] |= {"bytes": sum(f.stat().st_size for f in version.rglob("*") if f.is_file())}
        report["manifest"] = report["passport"] = asdict(Manifest.read(version))
    except (errors.RagError, OSError):
        pass  # the state says why
    report["ollama"] = _ollama(settings)
    return report, failure


def _ollama(settings: Settings) -> dict[str, Any]:
    """Whether a server answers, and which of its models would write."""
    from rag.llm.address import server_address
    from rag.llm.ollama import OllamaClient
    from rag.llm.session import choose_model
    from rag.llm.transport import Timeouts

    timeouts = Timeouts(connect=settings.llm.connect_timeout, call=_STATUS_SECONDS)
    client = OllamaClient(server_address(settings.llm), timeouts)
    status: dict[str, Any] = {"host": client.address, "reachable": False}
    try:
        status |= {"version": client.version(), "reachable": True}
        status["model"] = choose_model(client, settings.llm.model).name
    except errors.LLMError as error:
        status["problem"] = str(error)
    return status


def _flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value
