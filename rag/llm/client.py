"""`LLMClient`: the interface of a language-model server, and the values that rag exchanges with one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from rag.errors import LLMUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """A model on the server: its size in bytes, and what the server lists about it ("3.2B", "Q4_K_M").

    `remote`: the model runs elsewhere, in the cloud.
    """

    name: str
    size: int = 0
    parameters: str = ""
    quantization: str = ""
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model can do.

    `context_length` is in tokens, None if unknown. `thinking` holds the values that its `think` accepts, if the server
    lists them.
    """

    name: str
    capabilities: frozenset[str]
    context_length: int | None = None
    thinking: tuple[bool | str, ...] = ()

    @property
    def can_answer(self) -> bool:
        """Whether the model writes text; others only embed."""
        return "completion" in self.capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """A step of a download; counts are bytes of all layers seen so far, 0 if the step downloads nothing."""

    status: str
    completed: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One conversation to continue.

    `messages` have "role" and "content". `num_ctx` is the context length and `max_tokens` the longest reply, both in
    tokens. `think`: whether or how much to reason first; None for a model that does not reason. `keep_alive`: how long
    the model stays loaded, such as "10m", or a number of seconds; empty for the server's default.
    """

    model: str
    messages: tuple[dict[str, str], ...]
    num_ctx: int
    max_tokens: int
    temperature: float
    seed: int
    think: bool | str | None = None
    keep_alive: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChunk:
    """A part of a reply. The last one is `done` and has the counts; a count is 0 if the server does not send it.

    `done_reason` is "stop", "length", or empty on old servers.
    """

    text: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    output_seconds: float = 0.0


class ModelRefusedError(LLMUnavailableError):
    """The server works, but refuses this model or this request."""


class LLMClient(Protocol):
    """One language-model server.

    Every method but `is_listening`, `preload` and `close` raises LLMUnavailableError (ModelRefusedError if the server
    works but refuses).
    """

    address: str  # for messages

    def version(self) -> str:
        """The version of the server; empty if it does not say."""
        ...

    def models(self) -> tuple[ModelSummary, ...]:
        """Every model on the server, the latest first."""
        ...

    def loaded(self) -> dict[str, int]:
        """The context length in tokens of each model in memory; empty if the server does not say."""
        ...

    def show(self, name: str) -> ModelInfo:
        """What model `name` can do."""
        ...

    def pull(self, name: str) -> Iterator[PullProgress]:
        """Download model `name`. A download that was ended early continues at the next call."""
        ...

    def chat(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """The reply as it is written; the last chunk is `done`. Closing the iterator stops the generation.

        Raises PromptTooLongError if the server refuses the prompt as too long.
        """
        ...

    def is_listening(self, timeout: float) -> bool:
        """Whether the server accepts connections, within `timeout` seconds. Cheap: imports nothing."""
        ...

    def preload(self) -> None:
        """Start to import what `chat` needs on another thread, and return at once."""
        ...

    def close(self) -> None:
        """End every exchange at once, also from another thread; later calls raise LLMUnavailableError."""
        ...
