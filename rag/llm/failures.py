"""Failures of an exchange with an Ollama server as errors for the user: what is wrong, and what to do."""

from __future__ import annotations

import json
import re
from typing import Any

from rag.errors import LLMError, LLMUnavailableError, PromptTooLongError
from rag.llm.address import DEFAULT_PORT, Address
from rag.llm.client import ModelRefusedError
from rag.llm.replies import ErrorLineError
from rag.llm.transport import Exchange, HTTPStatusError, NotJSONError, ReplyTooLargeError

_TOO_LONG = re.compile(r"exceeds? the (?:available )?context|context (?:length|size|window)|longer than the context")


def cancelled() -> LLMUnavailableError:
    """The client was closed."""
    return LLMUnavailableError("The request to the model was cancelled.", "Ask again.")


def connection_broken(address: Address) -> LLMUnavailableError:
    """The connection ended before the reply did."""
    return LLMUnavailableError(f"The connection to Ollama at {address} broke.", "Ask again; the server's log says why.")


def download_ended(name: str) -> LLMUnavailableError:
    """A download ended before it was complete."""
    return LLMUnavailableError(f"The download of {name} ended early.", f"`rag models pull {name}` continues it.")


def not_ollama(address: Address, reason: str) -> LLMUnavailableError:
    """Another program listens at `address`."""
    return LLMUnavailableError(
        f"{address} responds, but not as Ollama does ({reason}).",
        f"Check OLLAMA_HOST; Ollama listens on port {DEFAULT_PORT} by default.",
    )


def from_exception(
    error: Exception, exchange: Exchange, address: Address, *, name: str, connect_seconds: float, chat: bool
) -> LLMError:
    """The error for the user behind `error`, which ended `exchange`. `name` is the model of the request."""
    connection = exchange.connection
    if connection.cancelled:
        return cancelled()
    if not connection.connected:
        return _not_connected(error, address, connect_seconds)
    if isinstance(error, TimeoutError):
        hint = "Is it overloaded? Restart it, or name another server with OLLAMA_HOST."
        if chat:
            setting = "TOKEN" if exchange.started else "FIRST_TOKEN"
            hint = f"Use a smaller model, or raise RAG_{setting}_TIMEOUT."
        return LLMUnavailableError(f"Ollama at {address} sent nothing for {connection.seconds:g} s.", hint)
    if isinstance(error, HTTPStatusError):
        return _from_status(error, address, name)
    if isinstance(error, ErrorLineError):
        return _from_server(500, _one_line(error.error), address, name)
    if isinstance(error, ReplyTooLargeError):
        return LLMUnavailableError(
            f"{address} sent more than {error.limit >> 20} MB in one piece.", "Check OLLAMA_HOST, or try another model."
        )
    if isinstance(error, NotJSONError) and exchange.started:
        if not error.complete:
            return connection_broken(address)
        hint = "Ask again; a proxy between rag and Ollama may corrupt the stream."
        return LLMUnavailableError("Ollama sent a line that is not JSON.", hint)
    if isinstance(error, NotJSONError):
        return not_ollama(address, "the reply is not JSON")
    if isinstance(error, ValueError):  # the package's types reject the reply
        return not_ollama(address, "the reply has an unknown form")
    # The remaining errors: OSError, and httpcore.ProtocolError if the reply is not HTTP or ends too early.
    if connection.received and not exchange.responded and not isinstance(error, OSError):
        return not_ollama(address, "the reply is not HTTP")
    return connection_broken(address)


def _not_connected(error: Exception, address: Address, seconds: float) -> LLMUnavailableError:
    hint = "Start it with `ollama serve`, or name another server with OLLAMA_HOST."
    if isinstance(error, ConnectionRefusedError):
        return LLMUnavailableError(f"No Ollama server answers at {address}.", hint)
    if isinstance(error, TimeoutError):
        return LLMUnavailableError(f"{address} did not accept a connection within {seconds:g} s.", hint)
    reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or _one_line(error)
    if address.scheme == "https" and "SSL" in type(error).__name__:
        hint = "Check the https in OLLAMA_HOST; if you use your own certificate authority, set SSL_CERT_FILE."
    return LLMUnavailableError(f"Cannot connect to {address}: {reason}.", hint)


def _from_status(error: HTTPStatusError, address: Address, name: str) -> LLMError:
    try:
        message = json.loads(error.body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        location = error.headers.get("Location")
        target = f" and points to {_one_line(location)}" if location else ""
        return not_ollama(address, f"HTTP {error.status}{target}")
    if error.status == 404 and not name:
        return not_ollama(address, f"HTTP 404: {_one_line(message)}")
    return _from_server(error.status, _one_line(message), address, name)


def _from_server(status: int, message: str, address: Address, name: str) -> LLMError:
    """The error that an Ollama server reports, with its remedy."""
    if status == 404:
        return ModelRefusedError(
            f"Ollama at {address} has no model {name!r}.",
            f"`rag models pull {name}` downloads it; `rag models` lists the models there.",
        )
    if status in (429, 503) or "server busy" in message:
        return ModelRefusedError(f"Ollama is busy: {message}.", "Try again in a moment, or raise its OLLAMA_MAX_QUEUE.")
    if status in (401, 403):
        return ModelRefusedError(
            f"Ollama at {address} refuses access: {message}.", "Set OLLAMA_API_KEY, or sign in on the server."
        )
    if _TOO_LONG.search(message):
        return PromptTooLongError(f"The prompt does not fit the model's context: {message}.", "Raise num_ctx.")
    if "file does not exist" in message:
        return ModelRefusedError(f"There is no model {name!r} to pull.", "ollama.com/library lists the names.")
    if "memory" in message:
        return ModelRefusedError(f"Ollama failed: {message}.", "Use a smaller model, or lower num_ctx.")
    if status == 400:
        return ModelRefusedError(
            f"Ollama refused the request: {message}.",
            "`rag config` shows what was requested; another model may accept it (`rag models`).",
        )
    return ModelRefusedError(f"Ollama failed: {message}.", "Ask again; the server's log says why.")


def _one_line(error: Any) -> str:
    """One line of the error that a server sends, which may be JSON within JSON."""
    for _ in range(3):
        if isinstance(error, dict):
            error = error.get("error") or error.get("message") or json.dumps(error)
        elif isinstance(error, str) and error.lstrip().startswith("{"):
            try:
                error = json.loads(error)
            except (ValueError, RecursionError):
                break
    return " ".join(str(error).split())[:300].rstrip(".")
