"""What a visitor can choose: a model or quotations, how many papers to read, how strict to be."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from time import monotonic

from rag.assistant import Assistant
from rag.errors import LLMUnavailableError, UsageError
from rag.llm.client import LLMClient, ModelSummary
from rag.text.display import printable

MAX_PAPERS = 20  # that an answer can be made from
_REFRESH_SECONDS = _MAX_CONNECT_SECONDS = 1.0
_MODES = (("Automatic", "auto"), ("Quotations only", "extractive"))


def mode_choices(models: Iterable[ModelSummary] = ()) -> list[tuple[str, str]]:
    """(label, mode) of every way to answer: "auto", "extractive", and "model:NAME" of each model."""
    return [*_MODES, *((_label(model), f"model:{model.name}") for model in models)]


def with_choices(assistant: Assistant, mode: str, k: int, strict: bool) -> Assistant:
    """`assistant` with a visitor's choices; `k` is limited to MAX_PAPERS. Raises UsageError for an unknown mode."""
    kind, _, model = mode.partition(":")
    if kind not in ("auto", "extractive", "model") or bool(model) != (kind == "model"):
        raise UsageError(f"There is no mode {mode!r}.", 'Use "auto", "extractive" or "model:NAME".')
    settings = assistant.settings.replace(
        mode="extractive" if kind == "extractive" else "auto",
        model=model or assistant.settings.llm.model,
        k=max(1, min(k, MAX_PAPERS)),
        strict=strict,
    )
    return assistant.configured(settings)


def _label(model: ModelSummary) -> str:
    details = (model.parameters, model.quantization, "(cloud)" if model.remote else "")
    text = " ".join(detail for detail in details if detail)
    return printable(f"{model.name} · {text}" if text else model.name)


class AvailableModels:
    """The models of an LLM server that can answer. The server is asked at most once a second."""

    def __init__(self, client: LLMClient, connect_timeout: float) -> None:
        self.address = client.address
        self._client, self._timeout = client, min(connect_timeout, _MAX_CONNECT_SECONDS)
        self._lock, self._refreshed = Lock(), float("-inf")
        self._models: tuple[ModelSummary, ...] | None = None
        self._can_answer: dict[str, bool] = {}

    def get(self) -> tuple[ModelSummary, ...] | None:
        """The models, the latest first; None if no server answers."""
        with self._lock:
            if monotonic() - self._refreshed >= _REFRESH_SECONDS:
                self._models = self._read()
                self._refreshed = monotonic()
            return self._models

    def _read(self) -> tuple[ModelSummary, ...] | None:
        if not self._client.is_listening(self._timeout):
            return None
        try:
            models = self._client.models()
            for name in {model.name for model in models} - self._can_answer.keys():
                self._can_answer[name] = self._client.show(name).can_answer
        except LLMUnavailableError:
            return None
        return tuple(model for model in models if self._can_answer[model.name])
