"""Recorded conversations with an Ollama server: generated answers can be scored again without a model.

A tape is JSON lines `{"call", "key", "reply"}`. The key is a hash of everything the reply depends on, so a tape never
answers a prompt that it did not hear: where retrieval or the prompt has changed, a replay ends with an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rag.answering.ollama import Address, Card, Model, Server
from rag.errors import ModelUnavailable, UsageError
from rag.papers import read_text


class Tape(Server):
    """A server that writes down what `real` says; without `real`, one that says what `path` holds."""

    def __init__(self, path: Path, real: Server | None = None) -> None:
        super().__init__(real.where if real else Address("tape", path.name, 0))
        self.path, self.real = path, real
        self.replies: dict[str, Any] = {}
        if real is None:
            try:
                lines = read_text(path).splitlines()
                self.replies = {record["key"]: record["reply"] for record in map(json.loads, lines)}
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{path} is no recording: {error!r}.", "Record one: rag eval run --record") from None
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")

    def version(self) -> str:
        return str(self._reply("version", {}, lambda real: real.version()))

    def models(self) -> tuple[Model, ...]:
        found = self._reply("models", {}, lambda real: [asdict(model) for model in real.models()])
        return tuple(Model(**model) for model in found)

    def loaded(self) -> dict[str, int]:
        """Nothing: which models happen to be in memory must not change what is asked."""
        return {}

    def show(self, name: str) -> Card:
        def call(real: Server) -> dict[str, Any]:
            card = asdict(real.show(name))
            return card | {"capabilities": sorted(card["capabilities"])}

        card = self._reply("show", {"model": name}, call)
        return Card(card["name"], frozenset(card["capabilities"]), card["context_length"], tuple(card["thinking"]))

    def chat(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """What the model wrote, in one piece, and the server's last object."""
        # The context grows with the order of the questions, which does not change what is said.
        asked = {k: v for k, v in request.items() if k not in ("options", "keep_alive")}
        options = {k: v for k, v in request.get("options", {}).items() if k != "num_ctx"}
        yield from self._reply("chat", {**asked, "options": options}, lambda real: _joined(list(real.chat(request))))

    def _reply(self, call: str, arguments: dict[str, Any], ask: Any) -> Any:
        key = f"{call}-{hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:24]}"
        if key not in self.replies:
            if self.real is None:
                raise ModelUnavailable(
                    f"{self.path.name} holds no reply to this {call} call: the prompt is not the one recorded.",
                    "Record again: rag eval run --record",
                )
            self.replies[key] = ask(self.real)
            with self.path.open("a", encoding="utf-8") as file:
                record = {"call": call, "key": key, "reply": self.replies[key]}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return self.replies[key]


def _joined(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    message = {"role": "assistant"}
    for field in ("thinking", "content"):
        if text := "".join((line.get("message") or {}).get(field) or "" for line in lines):
            message[field] = text
    return [{"message": message, "done": False}, {**lines[-1], "message": {"role": "assistant", "content": ""}}]
