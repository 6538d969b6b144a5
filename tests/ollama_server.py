"""An in-process server that speaks Ollama's HTTP protocol, with faults on demand.

A client cannot tell it from the real one: NDJSON in chunks, headers only with the first chunk, error shapes, `think`
refused by models that cannot, num_ctx clamped to the model's own length, prompts truncated or refused by version,
counts with or without the cache, a reload whenever num_ctx or `shift` changes, and generation that stops when the
client disconnects. Tokens are words and punctuation marks. The server waits for events, never for a fixed time.
"""

from __future__ import annotations

import json
import re
import select
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NS = 1_000_000
_PATIENCE = 30.0  # seconds until a waiting handler gives up, if a test fails to end it


@dataclass
class FakeModel:
    """A model on the server; `capabilities` None is a server before 0.6.4, which doesn't send them."""

    capabilities: list[str] | None = field(default_factory=lambda: ["completion"])
    context_length: int = 32768
    architecture: str = "llama"
    thinking: dict[str, Any] | None = None
    pooling: bool = False
    remote_host: str = ""


class OllamaServer:
    """Use as a context manager. `reply` is what the model writes, chunk by chunk; (thinking,) tuples think.

    `fault` is what happens to calls of `fault_path`: "400", "404", "500", "503", "not_ollama", "not_http", "redirect",
    "crash", "hang", "drip_headers", "drip_body", "bad_json", "stream_error", "death", "death_in_line", "drip", "flood"
    (a line without end) or "pause" (after the first chunk, until `resume` is set or the client goes; then `client_gone`
    is set). `waiting` is set while a handler hangs or pauses.
    """

    def __init__(
        self, models: dict[str, FakeModel] | None = None, version: str = "0.34.2", interface: str = "127.0.0.1"
    ) -> None:
        self.models = {"llama3.2:latest": FakeModel()} if models is None else models
        self.version = version
        self.reply: list[str | tuple[str]] = ["Yes", " [1]", "."]
        self.replies: list[list[str | tuple[str]]] = []  # for the next calls, before `reply`
        self.raw: list[bytes] = []  # what /api/chat sends instead of `reply`, chunk by chunk
        self.instead: dict[str, Any] = {}  # path -> its reply, instead of the usual one
        self.fault = ""
        self.fault_path = "/api/chat"
        self.default_num_ctx = 4096
        self.forced_num_ctx = 0  # the num_ctx that a proxy sets
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.client_gone = threading.Event()
        self.waiting = threading.Event()
        self.resume = threading.Event()
        self.loads: list[tuple[str, int, bool]] = []
        self.running: tuple[str, int, bool] | None = None  # the last of them, until it is unloaded
        self.prefix = ""
        self._cache: list[str] = []
        self._interface = interface
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        kind = type("Http", (ThreadingHTTPServer,), {"address_family": family})
        self._http = kind((interface, 0), type("Handler", (_Handler,), {"fake": self}))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)

    def __enter__(self) -> OllamaServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def host(self) -> str:
        interface = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"http://{interface}:{self.port}{self.prefix}"

    def chats(self) -> list[dict[str, Any]]:
        """Bodies of all /api/chat calls."""
        return [body for _, path, body in self.requests if path == "/api/chat"]

    def newer_than(self, *version: int) -> bool:
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[: len(version)]) >= version

    def find(self, name: str) -> FakeModel | None:
        return self.models.get(name) or self.models.get(f"{name}:latest")

    # -- what the model runner does

    def load(self, name: str, num_ctx: int, shift: bool) -> None:
        if self.running != (name, num_ctx, shift):
            self.running = name, num_ctx, shift
            self.loads.append(self.running)
            self._cache = []

    def fit(self, body: dict[str, Any], num_ctx: int) -> tuple[list[str], dict[str, Any] | None]:
        """The prompt's tokens as the model gets them, or the error that refuses them."""
        messages = body["messages"]
        if len(tokens := _tokens(messages)) <= num_ctx:
            return tokens, None
        if body.get("truncate", True) is False and self.newer_than(0, 12, 6):
            if not self.newer_than(0, 30):
                return [], {"error": "the input length exceeds the context length"}
            detail = {
                "code": 400,
                "message": f"request ({len(tokens)} tokens) exceeds the available context size ({num_ctx} tokens)",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": len(tokens),
                "n_ctx": num_ctx,
            }
            return [], {"error": json.dumps({"error": detail})}
        system = [m for m in messages if m["role"] == "system"]
        for first in range(len(messages)):
            remaining = [m for m in system if m not in messages[first:]] + messages[first:]
            if len(tokens := _tokens(remaining)) <= num_ctx:
                return tokens, None
        return tokens[:4] + tokens[4 + len(tokens) - num_ctx :], None

    def counts(self, tokens: list[str]) -> dict[str, int]:
        """prompt_eval_count as this version means it."""
        cached = 0
        while cached < min(len(tokens), len(self._cache)) and tokens[cached] == self._cache[cached]:
            cached += 1
        self._cache = tokens
        if not self.newer_than(0, 4):
            return {"prompt_eval_count": len(tokens) - cached} if cached < len(tokens) else {}
        if self.newer_than(0, 30) and not self.newer_than(0, 31):
            return {"prompt_eval_count": max(1, len(tokens) - cached)}
        counts = {"prompt_eval_count": len(tokens)}
        return counts | ({"prompt_eval_cached_count": cached} if self.newer_than(0, 33, 3) else {})


def _tokens(messages: list[dict[str, Any]]) -> list[str]:
    return [t for m in messages for t in ["<|", m["role"], "|>", *re.findall(r"\w+|[^\w\s]", m["content"]), "<|end|>"]]


class _Handler(BaseHTTPRequestHandler):
    fake: OllamaServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._serve("GET", {})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._serve("POST", json.loads(raw or b"{}"))

    def _serve(self, method: str, body: dict[str, Any]) -> None:
        fake = self.fake
        path = self.path.removeprefix(fake.prefix)
        fake.requests.append((method, path, body))
        fake.headers.append(dict(self.headers))
        calls = {
            ("GET", "/"): self._root,
            ("GET", "/api/version"): lambda _: self._json({"version": fake.version}),
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/pull"): self._pull,
        }
        if path == fake.fault_path and self._refuse(body):
            return
        if path in fake.instead:
            self._json(fake.instead[path])
        elif call := calls.get((method, path)):
            call(body)
        else:
            self._send(404, "text/plain", b"404 page not found")

    def _refuse(self, body: dict[str, Any]) -> bool:
        """Faults instead of an answer; whether there was one."""
        fault = self.fake.fault
        errors = {
            "400": "invalid options: num_ctx",
            "404": f"model '{body.get('model')}' not found",
            "500": "model requires more system memory (9.1 GiB) than is available (3.2 GiB)",
            "503": "server busy, please try again. maximum pending requests exceeded",
        }
        if fault in errors:
            self._json({"error": errors[fault]}, int(fault))
        elif fault == "not_ollama":
            self._send(200, "text/html", b"<html>It works!</html>")
        elif fault == "redirect":
            self._send(301, "text/html", b"", {"Location": "https://elsewhere/"})
        elif fault == "not_http":
            self.connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            self.close_connection = True
        elif fault == "crash":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == "hang":
            self._wait_for_client()
        elif fault == "drip_headers":
            self._drip(b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000)
        elif fault == "drip_body":
            self._drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{" + b" " * 1000, at_once=40)
        elif fault == "flood":
            self._start()
            while self._chunk(b"x" * 65536):
                pass
        else:
            return False
        return True

    def _root(self, _: Any) -> None:
        self._send(200, "text/plain; charset=utf-8", b"Ollama is running")

    def _tags(self, _: Any) -> None:
        models = [
            {
                "name": name,
                "model": name,
                "modified_at": "2026-01-01T00:00:00Z",
                "size": 2_019_393_189,
                "digest": "a80c4f17acd5",
                "details": {"family": m.architecture, "parameter_size": "3.2B", "quantization_level": "Q4_K_M"},
            }
            | ({"remote_host": m.remote_host} if m.remote_host else {})
            for name, m in self.fake.models.items()
        ]
        self._json({"models": models})

    def _ps(self, _: Any) -> None:
        models = [
            {
                "name": name,
                "model": name,
                "size": 3_000_000_000,
                "digest": "a80c4f17acd5",
                "details": {"family": "llama"},
                "expires_at": "2026-01-01T00:05:00Z",
                "size_vram": 0,
                "context_length": num_ctx,
            }
            for name, num_ctx, _ in filter(None, [self.fake.running])
        ]
        self._json({"models": models})

    def _show(self, body: dict[str, Any]) -> None:
        model = self.fake.find(body.get("model", ""))
        if model is None:
            self._json({"error": f"model '{body.get('model')}' not found"}, 404)
            return
        arch = model.architecture
        info = {"general.architecture": arch, f"{arch}.context_length": model.context_length}
        reply: dict[str, Any] = {"template": "{{ .Prompt }}", "details": {"family": arch}, "model_info": info}
        if model.pooling:
            info[f"{arch}.pooling_type"] = 1
        if model.capabilities is not None:
            reply["capabilities"] = model.capabilities
        if model.thinking:
            reply["thinking"] = model.thinking
        self._json(reply)

    def _pull(self, body: dict[str, Any]) -> None:
        lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if "nosuch" in body["model"]:
            lines += [{"error": "pull model manifest: file does not exist"}]
        else:
            for layer, size in (("sha256:aa", 100), ("sha256:bb", 20)):
                for done in (0, size // 2, size):
                    progress = {"total": size} | ({"completed": done} if done else {})
                    lines += [{"status": f"pulling {layer[7:]}", "digest": layer} | progress]
            lines += [{"status": "verifying sha256 digest"}, {"status": "success"}]
            self.fake.models[body["model"]] = FakeModel()
        if body.get("stream", True) is False:
            self._json(lines[-1], 500 if "error" in lines[-1] else 200)
            return
        self._start()
        for line in lines:
            self._line(line)
        self._end()

    def _chat(self, body: dict[str, Any]) -> None:
        fake, name = self.fake, body.get("model", "")
        model = fake.find(name)
        if model is None:
            self._json({"error": f"model '{name}' not found"}, 404)
            return
        capabilities = ["completion"] if model.capabilities is None else model.capabilities
        if "completion" not in capabilities:
            self._json({"error": f'"{name}" does not support chat'}, 400)
            return
        if body.get("think") and "thinking" not in capabilities:
            self._json({"error": f'"{name}" does not support thinking'}, 400)
            return
        stamp = {"model": name, "created_at": "2026-01-01T00:00:00.000001Z"}
        empty = {"role": "assistant", "content": ""}
        if not body.get("messages") and body.get("keep_alive") == 0:
            fake.running = None
            self._json(stamp | {"message": empty, "done": True, "done_reason": "unload"})
            return
        options = body.get("options") or {}
        num_ctx = fake.forced_num_ctx or min(options.get("num_ctx") or fake.default_num_ctx, model.context_length)
        fake.load(name if name in fake.models else f"{name}:latest", num_ctx, body.get("shift", True))
        if not body.get("messages"):
            self._json(stamp | {"message": empty, "done": True, "done_reason": "load"})
            return
        tokens, refused = fake.fit(body, num_ctx)
        if refused:
            self._json(refused, 400)
            return
        counts = fake.counts(tokens)
        reply = fake.replies.pop(0) if fake.replies else fake.reply
        room = options.get("num_predict", -1)
        room = len(reply) if room < 0 else room
        if body.get("shift", True) is False and fake.newer_than(0, 12, 6):
            room = min(room, num_ctx - len(tokens))
        written = reply[:room]
        final = (
            stamp
            | {"message": empty, "done": True, "done_reason": "length" if len(written) < len(reply) else "stop"}
            | {"total_duration": 90 * NS, "load_duration": 10 * NS, "prompt_eval_duration": 30 * NS}
            | {"eval_count": len(written), "eval_duration": 50 * NS}
            | counts
        )
        if body.get("stream", True) is False:
            whole = "".join(chunk for chunk in written if isinstance(chunk, str))
            self._json(final | {"message": empty | {"content": whole}})
            return
        self._start()
        if fake.raw:
            for data in fake.raw:
                self._chunk(data)
            self._end()
            return
        for i, chunk in enumerate(written):
            message_parts = {"content": chunk} if isinstance(chunk, str) else {"content": "", "thinking": chunk[0]}
            line = stamp | {"message": {"role": "assistant"} | message_parts, "done": False}
            if (i == 1 and self._break(line)) or not self._line(line):
                return
        self._line(final)
        self._end()

    def _break(self, line: dict[str, Any]) -> bool:
        """Faults after the first chunk; whether the stream ends here."""
        fault = self.fake.fault
        if fault == "stream_error":
            self._line({"error": "an error was encountered while running the model: CUDA error"})
            self._end()
        elif fault == "bad_json":
            self._chunk(b"{not json}\n")
        elif fault in ("death", "death_in_line"):
            if fault == "death_in_line":
                self._chunk(json.dumps(line).encode()[:20])
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == "drip":
            data = json.dumps(line).encode() * 1000
            while data and self._chunk(data[:1]) and not self._gone(0.005):
                data = data[1:]
        elif fault == "pause":
            return self._wait_for_client()
        else:
            return False
        return True

    # -- the wire

    def _gone(self, seconds: float) -> bool:
        """Whether the client closes the connection within `seconds`."""
        try:
            readable = select.select([self.connection], [], [], seconds)[0]
            gone = bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            gone = True
        if gone:
            self.close_connection = True
            self.fake.client_gone.set()
        return gone

    def _wait_for_client(self) -> bool:
        """Wait until the client goes, or until `resume` is set; whether the client is gone."""
        step = 0.005
        self.fake.waiting.set()
        for _ in range(int(_PATIENCE / step)):
            if self.fake.resume.is_set():
                return False
            if self._gone(step):
                break
        self.close_connection = True
        return True

    def _drip(self, data: bytes, at_once: int = 1) -> None:
        """Send the first bytes of `data` at once, and the others one by one, until the client goes."""
        self.close_connection = True
        for end in range(at_once, len(data) + 1):
            try:
                self.connection.sendall(data[:end] if end == at_once else data[end - 1 : end])
            except OSError:
                return
            if self._gone(0.005):
                return

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self._send(status, "application/json; charset=utf-8", json.dumps(value).encode())

    def _send(self, status: int, kind: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _start(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _line(self, value: dict[str, Any]) -> bool:
        return self._chunk(json.dumps(value).encode() + b"\n")

    def _chunk(self, data: bytes) -> bool:
        """Send `data`; False if the client is gone."""
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            self.close_connection = True
            self.fake.client_gone.set()
            return False
        return True

    def _end(self) -> None:
        try:
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
