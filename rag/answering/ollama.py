"""The Ollama server and its models: where it is, what it can do, and its native API over the standard library.

Why neither client at hand speaks to it here:

- llama-index's `Ollama` (0.11) sends the model's whole context length as `num_ctx` when none is set, cannot
  send `truncate`, has one timeout (30 s) for loading, reading and writing alike, and takes 1.4 s to import.
- `ollama` (0.6) has no `truncate` or `shift` either. Only with both false does a server (since 0.12.6) refuse
  a prompt that does not fit instead of cutting it silently, and stop instead of pushing the passages out of
  the window while it writes. Its one timeout counts from read to read, so a server that drips bytes is never
  late; it takes 0.4 s to import, and by way of httpx sends requests for 127.0.0.1 through HTTP_PROXY.

Here every wait has its own deadline, a refused connection costs a millisecond, and nothing is imported before
it is used. `rag.answering.llm` puts the same wire behind llama-index's LLM interface.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from rag.errors import ModelUnavailable, PromptTruncated, UsageError
from rag.settings import Settings

SUGGESTED = "llama3.2"  # named in hints where the user has no model at all
_CALL_SECONDS = 20.0  # for calls that answer at once; /api/show may have to read a cold disk
_PULL_SECONDS = 600.0  # between two lines of a download: the server is silent while it verifies a large layer

# --- where the server is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """Where an Ollama server listens. `path` is empty or begins with a slash."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_host(value: str) -> Address:
    """The address in `value`, in any form OLLAMA_HOST takes; addresses that mean "every interface" mean here.

    As Ollama does, an impossible port becomes the default one: 11434, or 80 and 443 where a scheme is given.
    """
    value = value.strip().strip("\"'").strip()
    scheme, found, rest = value.partition("://")
    if not found:
        scheme, rest = "http", value
    scheme = scheme.lower()
    port = {"http": 80, "https": 443}.get(scheme, 11434) if found else 11434
    if rest == "ollama.com" and not found:
        scheme, port = "https", 443
    authority, _, path = rest.partition("/")
    if match := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", authority):
        host, given = match[1], match[2]
    elif authority.count(":") > 1:
        host, given = authority, None  # a bare IPv6 address
    else:
        host, _, given = authority.partition(":")
    if given and given.isascii() and given.isdecimal() and int(given) <= 65535:
        port = int(given)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    path = path.strip("/")
    return Address(scheme, host, port, f"/{path}" if path else "")


def address(settings: Settings, environ: Mapping[str, str] = os.environ) -> Address:
    """The server that the settings name, else OLLAMA_HOST, else the local default."""
    return parse_host(settings.ollama_host or environ.get("OLLAMA_HOST", ""))


def listening(where: Address, timeout: float) -> bool:
    """Whether anything accepts connections there; a refusal takes about a millisecond, silence `timeout` s."""
    try:
        socket.create_connection((where.host, where.port), timeout).close()
    except (OSError, UnicodeError):
        return False
    return True


# --- the wire ------------------------------------------------------------------------------------------


class _Connection(io.RawIOBase):
    """A socket whose reads end at `deadline` (monotonic s), however many of them one response takes."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.sock = sock
        self.begun = False  # whether a first line has come
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        return self.sock.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:  # called by http.client, as is sendall
        return io.BufferedReader(self)

    def sendall(self, data: Any) -> None:
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        self.sock.sendall(data)

    def close(self) -> None:
        """Nothing: http.client closes as soon as it has read the headers; `Server` closes the socket."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the server: its name, its size in bytes, and what the server tells of it ("3.2B", "Q4_K_M")."""

    name: str
    size: int = 0
    parameters: str = ""
    quantization: str = ""
    remote: bool = False  # runs elsewhere: a cloud model


@dataclass(frozen=True, slots=True)
class Card:
    """What one model can do; `context_length` in tokens, None if unknown."""

    name: str
    capabilities: frozenset[str]
    context_length: int | None = None
    thinking: tuple[bool | str, ...] = ()  # values its `think` takes, if the server says

    @property
    def answers(self) -> bool:
        return "completion" in self.capabilities


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a download, in bytes over all layers seen so far (0 of 0 where there is nothing to count)."""

    status: str
    completed: int = 0
    total: int = 0


class Server:
    """One Ollama server. Every method raises ModelUnavailable with one line and its remedy."""

    def __init__(
        self,
        where: Address,
        connect: float = 2.0,
        first: float = 300.0,
        between: float = 60.0,
        call: float = _CALL_SECONDS,
    ) -> None:
        """Seconds to wait: `connect` for a connection, `first` and `between` for the first line of an answer
        and for each further one, `call` for anything that needs no model."""
        self.where = where
        self._connect, self._first, self._between, self._call_seconds = connect, first, between, call

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """The server of `settings`, with its timeouts."""
        return cls(address(settings), settings.connect_timeout, settings.first_token_timeout, settings.token_timeout)

    def version(self) -> str:
        return str(self._call("GET", "/api/version").get("version", ""))

    def models(self) -> tuple[Model, ...]:
        """Every model there, the latest first."""
        listed = self._call("GET", "/api/tags").get("models")
        if not isinstance(listed, list):
            raise self._stranger("no list of models came")
        return tuple(_model(entry) for entry in _objects(listed))

    def loaded(self) -> dict[str, int]:
        """Context length in tokens of each model in memory; empty where the server doesn't say."""
        try:
            running = _objects(self._call("GET", "/api/ps").get("models"))
        except ModelUnavailable:
            return {}
        return {str(m.get("name")): length for m in running if (length := whole(m.get("context_length")))}

    def show(self, name: str) -> Card:
        """What model `name` can do."""
        reply = self._call("POST", "/api/show", {"model": name})
        info = _object(reply.get("model_info"))
        length = whole(info.get(f"{info.get('general.architecture')}.context_length"))
        capabilities = [str(name) for name in _list(reply.get("capabilities"))]
        if not capabilities:  # servers before 0.6.4 don't say
            embeds = any(key.endswith(".pooling_type") for key in info)
            capabilities = ["embedding" if embeds else "completion"]
        values = tuple(v for v in _list(_object(reply.get("thinking")).get("values")) if isinstance(v, bool | str))
        if not values and "gptoss" in str(info.get("general.architecture")).replace("-", ""):
            values = ("low", "medium", "high")  # cannot be turned off
        return Card(name, frozenset(capabilities), length or None, values)

    def pull(self, name: str) -> Generator[Progress, None, None]:
        """Download model `name`; closing the iterator leaves what has come so far for the next try."""
        layers: dict[str, tuple[int, int]] = {}
        status = ""
        with closing(self._stream("/api/pull", {"model": name}, name, _PULL_SECONDS, _PULL_SECONDS)) as lines:
            for line in lines:
                status = str(line.get("status", ""))
                if digest := line.get("digest"):
                    layers[str(digest)] = whole(line.get("completed")), whole(line.get("total"))
                yield Progress(status, sum(c for c, _ in layers.values()), sum(t for _, t in layers.values()))
                if status == "success":
                    return
        raise ModelUnavailable(f"The download of {name} ended early.", f"`rag models pull {name}` goes on from there.")

    def chat(self, request: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The objects of one /api/chat stream, up to the one that is `done`.

        Closing the iterator closes the connection, on which the server stops generating. Raises
        PromptTruncated where the server refuses the prompt as too long.
        """
        body, name = {**request, "stream": True}, str(request["model"])
        with closing(self._stream("/api/chat", body, name, self._first, self._between)) as lines:
            for line in lines:
                yield line
                if line.get("done"):
                    return
        raise self._broken()

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        name = str((body or {}).get("model", ""))
        with self._exchange(method, path, body, name, self._call_seconds) as (response, connection):
            return self._parsed(response.read(), connection)

    def _stream(
        self, path: str, body: dict[str, Any], name: str, first: float, between: float
    ) -> Generator[dict[str, Any], None, None]:
        with self._exchange("POST", path, body, name, first) as (response, connection):
            while raw := response.readline():
                if raw.strip():
                    line = self._parsed(raw, connection)
                    if error := line.get("error"):
                        raise _failure(500, _message(error), name, self.where)
                    connection.begun = True
                    yield line
                    connection.allow(between)

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, name: str, first: float
    ) -> Iterator[tuple[Any, _Connection]]:
        """One request and its open response; every fault of the connection becomes a ModelUnavailable."""
        from http.client import HTTPException

        sock = self._open()
        connection = _Connection(sock, first)
        try:
            response = self._request(connection, method, path, body)
            if response.status != 200:
                raise self._refusal(response.status, response.read(65536), response.headers, name)
            yield response, connection
        except TimeoutError as error:
            remedy = "Is it overloaded? Restarting it helps, or name another server with OLLAMA_HOST."
            if path == "/api/chat":
                setting = "TOKEN" if connection.begun else "FIRST_TOKEN"
                remedy = f"A smaller model is faster; RAG_{setting}_TIMEOUT sets the wait."
            raise ModelUnavailable(
                f"Ollama at {self.where} sent nothing for {connection.seconds:g} s.", remedy
            ) from error
        except (HTTPException, OSError) as error:
            # A server that closes before it says anything (RemoteDisconnected is both) has crashed.
            if isinstance(error, HTTPException) and not isinstance(error, OSError) and not connection.begun:
                raise self._stranger("no HTTP came") from error
            raise self._broken() from error
        finally:
            sock.close()

    def _open(self) -> socket.socket:
        where = self.where
        start = "Start it with `ollama serve`, or name another server with OLLAMA_HOST."
        try:
            sock = socket.create_connection((where.host, where.port), self._connect)
            if where.scheme == "https":
                import ssl

                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=where.host)
            return sock
        except ConnectionRefusedError as error:
            raise ModelUnavailable(f"No Ollama server answers at {where}.", start) from error
        except TimeoutError as error:
            raise ModelUnavailable(f"{where} took no connection within {self._connect:g} s.", start) from error
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
            if where.scheme == "https" and "SSL" in type(error).__name__:
                start = "Check the https in OLLAMA_HOST; SSL_CERT_FILE names your own authority's certificates."
            raise ModelUnavailable(f"Cannot connect to {where}: {reason}.", start) from error

    def _request(self, connection: _Connection, method: str, path: str, body: dict[str, Any] | None) -> Any:
        from http.client import HTTPConnection
        from urllib.parse import quote

        headers: dict[str, str | bytes] = {"Accept": "application/json", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key := "".join(os.environ.get("OLLAMA_API_KEY", "").split()):
            headers["Authorization"] = f"Bearer {key}".encode()
        http = HTTPConnection(self.where.host, self.where.port)
        http.sock = connection
        data = json.dumps(body).encode() if body is not None else None
        http.request(method, quote(self.where.path, safe="/%") + path, data, headers)
        return http.getresponse()

    def _parsed(self, raw: bytes, connection: _Connection) -> dict[str, Any]:
        try:
            value = json.loads(raw)
            if isinstance(value, dict):
                return value
        except (ValueError, RecursionError):
            pass
        if not connection.begun:
            raise self._stranger("no JSON came")
        if not raw.endswith(b"\n"):
            raise self._broken()
        raise ModelUnavailable("Ollama sent a line that is not JSON.", "Ask again; something between may garble it.")

    def _broken(self) -> ModelUnavailable:
        return ModelUnavailable(f"The connection to Ollama at {self.where} broke.", "Ask again; its log says why.")

    def _refusal(self, status: int, body: bytes, headers: Any, name: str) -> ModelUnavailable:
        """The fault behind an HTTP status other than 200."""
        try:
            error = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            target = f" and points to {_message(headers['Location'])}" if headers.get("Location") else ""
            return self._stranger(f"HTTP {status}{target}")
        if status == 404 and not name:
            return self._stranger(f"HTTP 404: {_message(error)}")
        return _failure(status, _message(error), name, self.where)

    def _stranger(self, what: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"{self.where} answers, but not as Ollama does ({what}).",
            "Check OLLAMA_HOST; Ollama listens on port 11434 unless told otherwise.",
        )


def said(line: dict[str, Any]) -> tuple[str, str]:
    """The reasoning and the text in one object of a chat stream."""
    message = _object(line.get("message"))
    return _text(message.get("thinking")), _text(message.get("content"))


# What a server sends is taken for what it should be, or for nothing.


def whole(value: Any) -> int:
    """`value` if it is a number, in whole, else 0."""
    return int(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0


def _text(value: Any) -> str:
    # Half a surrogate pair, cut between two tokens, is no text that could be printed or encoded.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]


def _model(entry: dict[str, Any]) -> Model:
    details = _object(entry.get("details"))
    name = str(entry.get("name") or entry.get("model") or "")
    return Model(
        name,
        whole(entry.get("size")),
        str(details.get("parameter_size") or ""),
        str(details.get("quantization_level") or ""),
        bool(entry.get("remote_host")) or name.endswith(("-cloud", ":cloud")),
    )


def _message(error: Any) -> str:
    """One line of what a server calls its error, which may be JSON within JSON."""
    for _ in range(3):
        if isinstance(error, dict):
            error = error.get("error") or error.get("message") or json.dumps(error)
        elif isinstance(error, str) and error.lstrip().startswith("{"):
            try:
                error = json.loads(error)
            except (ValueError, RecursionError):
                break
    return " ".join(str(error).split())[:300].rstrip(".")


_TOO_LONG = re.compile(r"exceeds? the (?:available )?context|context (?:length|size|window)|longer than the context")


class _Refused(ModelUnavailable):
    """The server works, but not on this request."""


def _failure(status: int, error: str, name: str, where: Address) -> ModelUnavailable:
    """The fault an Ollama server names, with its remedy."""
    if status == 404:
        return _Refused(
            f"Ollama at {where} has no model {name!r}.",
            f"`rag models pull {name}` fetches it; `rag models` lists what is there.",
        )
    if status in (429, 503) or "server busy" in error:
        return _Refused(f"Ollama is busy: {error}.", "Try again in a moment, or raise its OLLAMA_MAX_QUEUE.")
    if status in (401, 403):
        return _Refused(f"Ollama at {where} refuses access: {error}.", "Set OLLAMA_API_KEY, or sign in there.")
    if _TOO_LONG.search(error):
        return PromptTruncated(f"The prompt does not fit the model's context: {error}.", "Raise num_ctx.")
    if "file does not exist" in error:
        return _Refused(f"There is no model {name!r} to pull.", "Names are listed at ollama.com/library.")
    if "memory" in error:
        return _Refused(f"Ollama failed: {error}.", "Take a smaller model, or lower num_ctx.")
    if status == 400:
        return _Refused(
            f"Ollama refused the request: {error}.",
            "`rag config` shows what was asked for; another model may take it (`rag models`).",
        )
    return _Refused(f"Ollama failed: {error}.", "Ask again; its log says why.")


# --- choosing a model ----------------------------------------------------------------------------------


def choose_model(server: Server, wanted: str = "") -> Card:
    """Model `wanted`, else the first one on the server that can answer and runs there.

    Raises ModelUnavailable if there is none, or if `wanted` is missing or can only embed.
    """
    if wanted:
        card = server.show(wanted)
        if not card.answers:
            raise ModelUnavailable(f"{wanted} is not made to answer: it can only embed.", "`rag models` lists others.")
        return card
    broken: ModelUnavailable | None = None
    for model in server.models():
        if model.remote or not model.name:
            continue  # a cloud model would send the question elsewhere: only when it is asked for by name
        try:
            if (card := server.show(model.name)).answers:
                return card
        except _Refused as error:  # a broken model does not keep the others from answering
            broken = broken or error
    raise broken or ModelUnavailable(
        f"Ollama at {server.where} has no model that can answer.", f"`rag models pull {SUGGESTED}` fetches one."
    )


def think_value(card: Card, wanted: str) -> bool | str | None:
    """What to send as `think`: None where the model does not think, else the nearest to `wanted` it takes.

    A model whose reasoning cannot be turned off gets its lowest level.
    """
    if wanted not in ("off", "on", "low", "medium", "high"):
        raise UsageError(f"think = {wanted!r} must be off, on, low, medium or high.", "`rag config` says what is set.")
    levels = [value for value in card.thinking if isinstance(value, str)]
    if "thinking" not in card.capabilities and not card.thinking:
        return None
    if wanted == "off":
        return levels[0] if levels and False not in card.thinking else False
    if wanted == "on":
        return "medium" if "medium" in levels and True not in card.thinking else True
    return wanted if wanted in levels else True
