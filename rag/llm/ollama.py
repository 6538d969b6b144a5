"""An Ollama server, through the official `ollama` package.

The package lacks some of what rag needs; `rag.llm.transport` adds it. If both `truncate` and `shift` are false, a
server (since 0.12.6) refuses a prompt that does not fit instead of truncating it silently, and stops instead of
pushing the passages out of the context while it writes.

The package takes 0.4 s to import, so it is imported when a server is called, or by `preload`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from rag.errors import LLMError
from rag.llm import failures, replies
from rag.llm.address import Address, is_listening, server_address
from rag.llm.client import ChatChunk, ChatRequest, ModelInfo, ModelSummary, PullProgress
from rag.llm.transport import Exchange, ExchangeError, Timeouts
from rag.settings import LLMSettings

if TYPE_CHECKING:
    import ollama

_PULL_SECONDS = 600.0  # between two lines of a download: the server is silent while it verifies a large layer
_NO_TRUNCATION = {"truncate": False, "shift": False}


class OllamaClient:
    """The server at `address`; an `LLMClient`, usable from several threads."""

    def __init__(self, address: Address, timeouts: Timeouts | None = None) -> None:
        self.address = str(address)
        self._address, self._timeouts = address, timeouts or Timeouts()
        self._exchanges: set[Exchange] = set()
        self._closed = False
        self._lock = Lock()

    @classmethod
    def from_settings(cls, settings: LLMSettings) -> OllamaClient:
        """The server that the settings or OLLAMA_HOST name, with the timeouts of the settings."""
        timeouts = Timeouts(
            connect=settings.connect_timeout, first_token=settings.first_token_timeout, token=settings.token_timeout
        )
        return cls(server_address(settings), timeouts)

    def version(self) -> str:
        """The version of the server; empty if it does not say. Raises LLMUnavailableError."""
        import httpx

        with self._exchange(replies.clean_version) as (_, exchange):
            # The package has no method for this call.
            http = httpx.Client(
                base_url=self._url, transport=cast("Any", exchange), trust_env=False, headers=_headers()
            )
            http.get("/api/version")
            return str(exchange.reply["version"])

    def models(self) -> tuple[ModelSummary, ...]:
        """Every model on the server, the latest first. Raises LLMUnavailableError."""
        with self._exchange(replies.clean_models) as (client, exchange):
            models = client.list().models
            remote_hosts = [entry["remote_host"] for entry in exchange.reply["models"]]
        return tuple(_summary(model, host) for model, host in zip(models, remote_hosts, strict=True))

    def loaded(self) -> dict[str, int]:
        """The context length in tokens of each model in memory; empty if the server does not say."""
        try:
            with self._exchange(replies.clean_loaded) as (client, _):
                models = client.ps().models
        except LLMError:
            return {}
        return {str(model.model): length for model in models if (length := model.context_length)}

    def show(self, name: str) -> ModelInfo:
        """What model `name` can do. Raises LLMUnavailableError, and ModelRefusedError if there is no such model."""
        with self._exchange(replies.clean_info, name) as (client, exchange):
            reply = client.show(replies.as_text(name))
            thinking = tuple(exchange.reply["thinking"])
        info = reply.modelinfo or {}
        architecture = str(info.get("general.architecture"))
        capabilities = reply.capabilities
        if not capabilities:  # servers before 0.6.4 do not say
            embeds = any(key.endswith(".pooling_type") for key in info)
            capabilities = ["embedding" if embeds else "completion"]
        if not thinking and "gptoss" in architecture.replace("-", ""):
            thinking = ("low", "medium", "high")  # cannot be turned off
        length = replies.as_int(info.get(f"{architecture}.context_length"))
        return ModelInfo(
            name=name, capabilities=frozenset(capabilities), context_length=length or None, thinking=thinking
        )

    def pull(self, name: str) -> Generator[PullProgress, None, None]:
        """Download model `name`; if the download ends early, the next call continues it. Raises LLMUnavailableError."""
        layers: dict[str, tuple[int, int]] = {}
        with closing(self._pull(name)) as steps:
            for step in steps:
                if step.digest:
                    layers[step.digest] = step.completed or 0, step.total or 0
                yield PullProgress(
                    status=step.status or "",
                    completed=sum(completed for completed, _ in layers.values()),
                    total=sum(total for _, total in layers.values()),
                )
                if step.status == "success":
                    return
        raise failures.download_ended(name)

    def chat(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """The reply as it is written; the last chunk is `done`.

        Closing the iterator closes the connection, and the server stops generating. Raises LLMUnavailableError, and
        PromptTooLongError if the server refuses the prompt as too long.
        """
        with closing(self._chat(request)) as parts:
            for part in parts:
                yield ChatChunk(
                    text=part.message.content or "",
                    thinking=part.message.thinking or "",
                    done=bool(part.done),
                    done_reason=part.done_reason or "",
                    prompt_tokens=part.prompt_eval_count or 0,
                    output_tokens=part.eval_count or 0,
                    output_seconds=(part.eval_duration or 0) / 1e9,
                )
                if part.done:
                    return
        raise failures.connection_broken(self._address)

    def is_listening(self, timeout: float) -> bool:
        """Whether the server accepts connections, within `timeout` seconds."""
        return is_listening(self._address, timeout)

    def preload(self) -> None:
        """Import the package on another thread, so that the import overlaps with other work."""
        Thread(target=_import_package, name="import ollama", daemon=True).start()

    def close(self) -> None:
        """End every exchange at once, also from another thread; later calls raise LLMUnavailableError."""
        with self._lock:
            self._closed = True
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.connection.cancel()

    def _pull(self, name: str) -> Generator[ollama.ProgressResponse, None, None]:
        with self._exchange(replies.clean_pull_line, name, first=_PULL_SECONDS, between=_PULL_SECONDS) as (client, _):
            yield from client.pull(replies.as_text(name), stream=True)

    def _chat(self, request: ChatRequest) -> Generator[ollama.ChatResponse, None, None]:
        timeouts = self._timeouts
        with self._exchange(
            replies.clean_chat_line,
            request.model,
            first=timeouts.first_token,
            between=timeouts.token,
            chat=True,
        ) as (client, _):
            yield from client.chat(
                replies.as_text(request.model),
                [{name: replies.as_text(text) for name, text in message.items()} for message in request.messages],
                stream=True,
                think=cast("Any", request.think),  # a server accepts every level that it lists
                options={
                    "num_ctx": request.num_ctx,
                    "num_predict": request.max_tokens,
                    "temperature": request.temperature,
                    "seed": request.seed,
                },
                keep_alive=_keep_alive(request.keep_alive),
            )

    @contextmanager
    def _exchange(
        self,
        clean: Callable[[dict[str, Any]], dict[str, Any]],
        name: str = "",
        *,
        first: float | None = None,
        between: float | None = None,
        chat: bool = False,
    ) -> Iterator[tuple[ollama.Client, Exchange]]:
        """The package's client for one request about model `name`, and its transport; failures become LLMErrors."""
        import httpcore
        import httpx
        import ollama

        address, connect = self._address, self._timeouts.connect
        exchange = Exchange(
            address.host,
            address.port,
            connect=connect,
            first=first or self._timeouts.call,
            between=between,
            clean=clean,
            extra_fields=_NO_TRUNCATION if chat else {},
        )
        with self._lock:
            if self._closed:
                raise failures.cancelled()
            self._exchanges.add(exchange)
        try:
            with ollama.Client(
                self._url, transport=exchange, follow_redirects=False, trust_env=False, headers=_headers()
            ) as client:
                yield client, exchange
        except (OSError, ValueError, ExchangeError, httpcore.ProtocolError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise failures.from_exception(
                error, exchange, address, name=name, connect_seconds=connect, chat=chat
            ) from error
        finally:
            exchange.close()
            with self._lock:
                self._exchanges.discard(exchange)

    @property
    def _url(self) -> str:
        return str(replace(self._address, path=quote(self._address.path, safe="/%")))


def _summary(model: ollama.ListResponse.Model, remote_host: str) -> ModelSummary:
    name, details = model.model or "", model.details
    return ModelSummary(
        name=name,
        size=int(model.size or 0),
        parameters=(details and details.parameter_size) or "",
        quantization=(details and details.quantization_level) or "",
        remote=bool(remote_host) or name.endswith(("-cloud", ":cloud")),
    )


def _headers() -> dict[str, Any]:
    """The headers of a request; the package itself would send OLLAMA_API_KEY with any white space in it."""
    headers: dict[str, Any] = {"Connection": "close", "Accept-Encoding": "identity"}
    if key := "".join(os.environ.get("OLLAMA_API_KEY", "").split()):
        headers["Authorization"] = f"Bearer {key}".encode()
    return headers


def _keep_alive(value: str) -> float | str | None:
    """A number of seconds as int, other text as it is, None if empty: Ollama accepts text only with a unit."""
    return int(value) if re.fullmatch(r"-?\d+", value) else value or None


def _import_package() -> None:
    import ollama  # noqa: F401
