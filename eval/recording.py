"""Recorded exchanges with a language-model server, so that generated answers can be scored again without a model.

A recording is JSON lines `{"call", "key", "reply"}`. The key is a hash of everything that the reply depends on, so a
recording never answers another prompt: if retrieval or the prompt has changed, a replay raises an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rag.corpus.reading import read_text
from rag.errors import LLMUnavailableError, UsageError
from rag.llm.client import ChatChunk, ChatRequest, LLMClient, ModelInfo, ModelSummary, PullProgress

# The context length grows with the order of the questions; neither field changes what a model writes.
_NOT_IN_KEY = ("num_ctx", "keep_alive")


class RecordingClient:
    """Records the replies of `client` in `path`; without a client, replays the replies in `path`."""

    def __init__(self, path: Path, client: LLMClient | None = None) -> None:
        self.address = client.address if client else f"the recording {path.name}"
        self._path, self._client = path, client
        self._replies: dict[str, Any] = {}
        if client is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
            return
        try:
            records = [json.loads(line) for line in read_text(path).splitlines()]
            self._replies = {record["key"]: record["reply"] for record in records}
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not a recording: {error!r}.", "Record one: rag eval run --record") from None

    def version(self) -> str:
        """See `LLMClient.version`."""
        return str(self._reply("version", {}, lambda client: client.version()))

    def models(self) -> tuple[ModelSummary, ...]:
        """See `LLMClient.models`."""
        models = self._reply("models", {}, lambda client: [asdict(model) for model in client.models()])
        return tuple(ModelSummary(**model) for model in models)

    def loaded(self) -> dict[str, int]:
        """Always empty: the models in the memory of the server must not change a request."""
        return {}

    def show(self, name: str) -> ModelInfo:
        """See `LLMClient.show`."""

        def call(client: LLMClient) -> dict[str, Any]:
            info = asdict(client.show(name))
            return info | {"capabilities": sorted(info["capabilities"])}

        info = self._reply("show", {"model": name}, call)
        return ModelInfo(
            name=info["name"],
            capabilities=frozenset(info["capabilities"]),
            context_length=info["context_length"],
            thinking=tuple(info["thinking"]),
        )

    def pull(self, name: str) -> Iterator[PullProgress]:
        """See `LLMClient.pull`; downloads are not recorded."""
        if self._client is None:
            raise LLMUnavailableError(f"{self._path.name} is a recording: it cannot download {name}.")
        return self._client.pull(name)

    def chat(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """All text of the model in one chunk, then the last chunk with its counts."""
        arguments = {name: value for name, value in asdict(request).items() if name not in _NOT_IN_KEY}
        chunks = self._reply("chat", arguments, lambda client: _joined(list(client.chat(request))))
        yield from (ChatChunk(**chunk) for chunk in chunks)

    def is_listening(self, timeout: float) -> bool:
        """See `LLMClient.is_listening`; a recording always replies."""
        return self._client is None or self._client.is_listening(timeout)

    def preload(self) -> None:
        """See `LLMClient.preload`."""
        if self._client is not None:
            self._client.preload()

    def close(self) -> None:
        """See `LLMClient.close`."""
        if self._client is not None:
            self._client.close()

    def _reply(self, call: str, arguments: dict[str, Any], ask: Callable[[LLMClient], Any]) -> Any:
        """The reply to `call` with `arguments`: the recorded one, else that of the client, which is then recorded."""
        key = f"{call}-{hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:24]}"
        if key not in self._replies:
            if self._client is None:
                raise LLMUnavailableError(
                    f"{self._path.name} holds no reply to this {call} call: the prompt is not the recorded one.",
                    "Record again: rag eval run --record",
                )
            self._replies[key] = ask(self._client)
            with self._path.open("a", encoding="utf-8") as file:
                record = {"call": call, "key": key, "reply": self._replies[key]}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return self._replies[key]


def _joined(chunks: list[ChatChunk]) -> list[dict[str, Any]]:
    """All text in one chunk, and the last chunk without its text."""
    whole = ChatChunk(text="".join(c.text for c in chunks), thinking="".join(c.thinking for c in chunks))
    return [asdict(whole), *(asdict(last) | {"text": "", "thinking": ""} for last in chunks[-1:])]
