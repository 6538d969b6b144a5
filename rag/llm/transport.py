"""What the `ollama` package and httpx lack, added as an httpx transport for one request: `Exchange`.

- Deadlines for the whole wait: for a reply, for the first line of a stream and between two lines. A timeout of httpx
  restarts with every byte, so a server that sends single bytes would never time out.
- Cancelling from another thread, also while a read waits.
- Limits in bytes for a reply and for a line.
- Fields of a request that the package does not know, and objects of a reply before its types drop fields.

Each exchange has its own connection; no proxy is used. `httpx` is imported only when a request is sent.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_REPLY_BYTES = 16 << 20
MAX_LINE_BYTES = 4 << 20
_MAX_ERROR_BYTES = 64 << 10  # of the body of an HTTP error that is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait: for a connection, for the first line of a reply and each further one, and for other calls."""

    connect: float = 2.0
    first_token: float = 300.0
    token: float = 60.0
    call: float = 20.0


class ExchangeError(Exception):
    """The server's reply cannot be used."""


class HTTPStatusError(ExchangeError):
    """The server replied with an HTTP status other than 200."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body


class NotJSONError(ExchangeError):
    """The reply, or a line of it, is not a JSON object. `complete`: it ended as it should."""

    def __init__(self, complete: bool) -> None:
        super().__init__("not a JSON object")
        self.complete = complete


class ReplyTooLargeError(ExchangeError):
    """The reply, or a line of it, has more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class Exchange:
    """An httpx transport for one request, whose reply is a JSON object, or one on each line if it is streamed.

    `clean` turns every object into one that the package's types accept; `reply` is the latest of them.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect: float,
        first: float,
        between: float | None = None,
        clean: Callable[[dict[str, Any]], dict[str, Any]],
        extra_fields: Mapping[str, Any],
    ) -> None:
        """Seconds to wait: `connect`, `first` for the reply or its first line, `between` two lines (None: one reply).

        `extra_fields` are added to the JSON of the request.
        """
        self.connection = _Connection(host, port, connect, first)
        self.reply: dict[str, Any] = {}
        self.responded = False  # whether the headers of a response came
        self.started = False  # whether a first object came
        self._between, self._clean, self._extra_fields = between, clean, extra_fields

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and wait for the headers, and for the whole reply unless it is streamed. httpx calls this.

        Raises HTTPStatusError, NotJSONError, ReplyTooLargeError, TimeoutError, OSError, httpcore.ProtocolError.
        """
        import httpcore
        import httpx

        body, headers = request.read(), request.headers
        if self._extra_fields:
            body = json.dumps({**json.loads(body), **self._extra_fields}).encode()
            headers["Content-Length"] = str(len(body))
        secure = request.url.scheme == "https"
        url = httpcore.URL(
            scheme=b"https" if secure else b"http",
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        http = httpcore.HTTPConnection(
            url.origin,
            ssl_context=_ssl_context() if secure else None,
            network_backend=cast("Any", self.connection),
        )
        response = http.handle_request(httpcore.Request(request.method, url, headers=headers.raw, content=body))
        self.responded = True
        chunks = cast("Iterable[bytes]", response.stream)
        if response.status != 200:
            raise HTTPStatusError(response.status, httpx.Headers(response.headers), _start(chunks, _MAX_ERROR_BYTES))
        if self._between is not None:
            return httpx.Response(200, content=self._lines(chunks))
        whole = _start(chunks, MAX_REPLY_BYTES + 1)
        if len(whole) > MAX_REPLY_BYTES:
            raise ReplyTooLargeError(MAX_REPLY_BYTES)
        return httpx.Response(200, content=self._parsed(whole, complete=True))

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _lines(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The lines of a reply, each of which has its own deadline."""
        buffer = bytearray()
        for chunk in chunks:
            buffer += chunk
            while (end := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                if line.strip():
                    yield self._parsed(line, complete=True) + b"\n"
                    self.connection.extend(self._between or 0.0)
            if len(buffer) > MAX_LINE_BYTES:
                raise ReplyTooLargeError(MAX_LINE_BYTES)
        if buffer.strip():
            yield self._parsed(bytes(buffer), complete=False) + b"\n"

    def _parsed(self, data: bytes, complete: bool) -> bytes:
        """The cleaned object in `data`, in ASCII: httpx would split a line at some other characters."""
        self.connection.check()
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise NotJSONError(complete)
        self.reply = self._clean(value)
        self.started = True
        return json.dumps(self.reply).encode()


class _Connection:
    """The socket of one exchange, as httpcore's network backend and stream. It has a deadline and can be cancelled.

    httpcore passes its own timeouts, which are not used.
    """

    def __init__(self, host: str, port: int, connect: float, first: float) -> None:
        self.connected = False
        self.received = False  # whether any byte came
        self.cancelled = False
        self.seconds = first  # of the wait that the deadline ends
        self._address, self._connect_seconds = (host, port), connect
        self._deadline = 0.0  # time.monotonic()
        self._socket: socket.socket | None = None
        self._lock = Lock()

    def extend(self, seconds: float) -> None:
        """Start a new wait of `seconds`."""
        self.seconds, self._deadline = seconds, time.monotonic() + seconds

    def check(self) -> None:
        """Raises ConnectionAbortedError if another thread has cancelled."""
        if self.cancelled:
            raise ConnectionAbortedError

    def cancel(self) -> None:
        """End the read that waits, and every later one."""
        with self._lock:
            self.cancelled = True
            self._shut_down()

    def close(self) -> None:
        with self._lock:
            if self._socket:
                self._socket.close()

    # --- httpcore's network backend ---------------------------------------------------------------------------

    def connect_tcp(self, *_: Any, **__: Any) -> _Connection:
        self.check()
        self._use(socket.create_connection(self._address, self._connect_seconds))
        self.connected = True
        self.extend(self.seconds)
        return self

    # --- httpcore's network stream ----------------------------------------------------------------------------

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None) -> Any:
        assert self._socket
        self.connected = False
        self._socket.settimeout(self._connect_seconds)
        secure = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname, do_handshake_on_connect=False)
        self._use(secure)
        secure.do_handshake()
        self.connected = True
        self.extend(self.seconds)
        return self

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        data = self._until_deadline().recv(max_bytes)
        self.check()
        self.received = self.received or bool(data)
        return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        import httpcore

        try:
            self._until_deadline().sendall(buffer)
        except TimeoutError:
            raise
        except OSError as error:  # httpcore then reads the response that the server sent before it closed
            raise httpcore.WriteError from error

    def get_extra_info(self, info: str) -> Any:
        return None

    def _use(self, sock: socket.socket) -> None:
        with self._lock:
            self._socket = sock
            if self.cancelled:
                self._shut_down()

    def _until_deadline(self) -> socket.socket:
        self.check()
        assert self._socket
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)
        return self._socket

    def _shut_down(self) -> None:
        if self._socket:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)


def _ssl_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


def _start(chunks: Iterable[bytes], limit: int) -> bytes:
    """The first `limit` bytes of `chunks`, or slightly more; the rest is not read."""
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) >= limit:
            break
    return bytes(data)
