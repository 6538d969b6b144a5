"""`rag config`."""

from __future__ import annotations

import os
from typing import Any

from rag.cli.options import JsonOption, with_settings
from rag.cli.render import print_json
from rag.settings import Settings, describe, groups


@with_settings()
def config_command(settings: Settings, json_: JsonOption = False) -> None:
    """Show every setting by group: its value, where the value came from, and what it means."""
    rows: dict[str, dict[str, Any]] = {}
    for group, names in groups().items():
        for name in names:
            rows[name] = {"value": settings.value(name), "origin": settings.origin(name), "group": group}
    if not settings.llm.ollama_host and (host := os.environ.get("OLLAMA_HOST")):  # Ollama's own name for it
        rows["ollama_host"] |= {"value": host, "origin": "environment OLLAMA_HOST"}
    if json_:
        print_json(rows)
        return
    for group, names in groups().items():
        print(f"[{group}]")
        for name in names:
            print(f"{name:24} {rows[name]['value']!s:20} {rows[name]['origin']:24} {describe(name)}")
        print()
