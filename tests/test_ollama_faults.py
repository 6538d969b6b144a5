"""An Ollama server that fails, hangs, or sends too slowly or too much, and a client closed from another thread."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rag.errors import GenerationError, LLMError, LLMUnavailableError
from rag.llm import transport
from rag.llm.address import parse_host
from rag.llm.client import ChatRequest
from rag.llm.ollama import OllamaClient
from rag.llm.transport import Timeouts
from rag.types import Delta, Prompted
from tests.helpers_llm import END, answerer, client, closed_port, line, run, search
from tests.ollama_server import FakeModel, OllamaServer

# --- faults --------------------------------------------------------------------------------------------

BEFORE_ANY_TEXT = [
    ("400", "Ollama refused the request: invalid options"),
    ("404", r"has no model 'llama3.2:latest'.*rag models pull llama3.2:latest"),
    ("500", "requires more system memory.*smaller model"),
    ("503", "Ollama is busy.*Try again"),
    ("not_ollama", "responds, but not as Ollama does.*OLLAMA_HOST"),
    ("redirect", "HTTP 301 and points to https://elsewhere/"),
    ("not_http", "responds, but not as Ollama does"),
    ("crash", "The connection to Ollama at .* broke"),
]


@pytest.mark.parametrize(("fault", "message"), BEFORE_ANY_TEXT)
def test_a_fault_instead_of_an_answer_is_an_error_with_a_hint(fake: OllamaServer, fault: str, message: str) -> None:
    fake.fault = fault
    with pytest.raises(LLMUnavailableError, match=message) as caught:
        run(fake)
    assert not isinstance(caught.value, GenerationError)
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["not_ollama", "not_http", "redirect"])
def test_another_program_is_recognised_at_the_first_call(fake: OllamaServer, fault: str) -> None:
    fake.fault, fake.fault_path = fault, "/api/tags"
    with pytest.raises(LLMUnavailableError, match="not as Ollama does"):
        run(fake)


def test_a_refused_connection_names_the_remedy() -> None:
    server = OllamaClient(parse_host(f":{closed_port()}"))
    with pytest.raises(LLMUnavailableError, match=r"No Ollama server answers at http://127.*ollama serve"):
        server.models()


def test_an_unknown_host_is_an_error() -> None:
    with pytest.raises(LLMUnavailableError, match="Cannot connect to http://no"):
        OllamaClient(parse_host("no.such.host.invalid")).models()


def test_a_server_that_hangs_before_the_first_byte_is_an_error(fake: OllamaServer) -> None:
    fake.fault = "hang"
    with pytest.raises(LLMUnavailableError, match=r"sent nothing for 0\.05 s.*RAG_FIRST_TOKEN_TIMEOUT"):
        run(fake, first_token_timeout=0.05)
    assert fake.client_gone.wait(5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("stream_error", "Ollama failed: an error was encountered while running the model: CUDA error"),
        ("death", "The connection to Ollama at .* broke"),
        ("death_in_line", "The connection to Ollama at .* broke"),
        ("bad_json", "a line that is not JSON"),
        ("drip", r"sent nothing for 0\.05 s.*RAG_TOKEN_TIMEOUT"),
        ("pause", r"sent nothing for 0\.05 s"),
    ],
)
def test_a_fault_in_mid_stream_keeps_the_text_so_far(fake: OllamaServer, fault: str, message: str) -> None:
    fake.fault = fault
    fake.reply = ["Method 1 wins ", "[1]", "."]
    events = []
    with pytest.raises(GenerationError, match=message) as caught:
        for event in answerer(fake, token_timeout=0.05).stream(search()):
            events.append(event)
    assert caught.value.partial == "Method 1 wins"
    assert "".join(e.text for e in events if isinstance(e, Delta)) == "Method 1 wins"
    assert caught.value.hint and "\n" not in str(caught.value)


def test_closing_the_iterator_stops_the_server(fake: OllamaServer) -> None:
    fake.fault = "pause"
    events = answerer(fake).stream(search())
    assert next(events) == Prompted("llama3.2:latest", tuple(h.paper for h in search().hits))
    assert next(events) == Delta("Yes")
    assert not fake.client_gone.is_set()
    events.close()
    assert fake.client_gone.wait(5)


def test_an_interrupt_stops_the_server(fake: OllamaServer) -> None:
    fake.fault = "pause"
    events = answerer(fake).stream(search())
    next(events), next(events)
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt())
    assert fake.client_gone.wait(5)


# --- deadlines, limits and cancelling ------------------------------------------------------------------


def request(text: str = "Hi") -> ChatRequest:
    return ChatRequest(
        model="llama3.2",
        messages=({"role": "user", "content": text},),
        num_ctx=2048,
        max_tokens=16,
        temperature=0.0,
        seed=1,
    )


@pytest.mark.parametrize("fault", ["hang", "drip_headers", "drip_body"])
def test_a_deadline_covers_the_whole_wait(fake: OllamaServer, fault: str) -> None:
    fake.fault = fault
    with pytest.raises(LLMUnavailableError, match=r"sent nothing for 0\.1 s.*RAG_FIRST_TOKEN_TIMEOUT"):
        run(fake, first_token_timeout=0.1)
    fake.fault_path = "/api/show"
    with pytest.raises(LLMUnavailableError, match=r"sent nothing for 0\.1 s\. Is it overloaded"):
        OllamaClient(parse_host(fake.host), Timeouts(call=0.1)).show("llama3.2")


def test_a_line_has_a_limit(fake: OllamaServer) -> None:
    fake.fault = "flood"
    with pytest.raises(LLMUnavailableError, match="more than 4 MB in one piece"):
        run(fake)


def test_a_reply_has_a_limit(fake: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_REPLY_BYTES", 1 << 20)
    fake.instead = {"/api/tags": {"models": [], "padding": "x" * (1 << 20)}}
    with pytest.raises(LLMUnavailableError, match="more than 1 MB in one piece"):
        client(fake).models()


@pytest.mark.parametrize("fault", ["hang", "pause", "drip"])
def test_close_ends_a_chat_on_another_thread_at_once(fake: OllamaServer, fault: str) -> None:
    fake.fault = fault
    ollama = client(fake)
    events: queue.Queue[Any] = queue.Queue()

    def chat() -> None:
        try:
            for chunk in ollama.chat(request()):
                events.put(chunk.text)
        except LLMError as error:
            events.put(error)

    thread = threading.Thread(target=chat, daemon=True)
    thread.start()
    if fault == "hang":
        assert fake.waiting.wait(10)
    else:
        assert events.get(timeout=10) == "Yes"
    ollama.close()
    thread.join(2)
    assert not thread.is_alive()
    error = events.get_nowait()
    assert isinstance(error, LLMUnavailableError) and "cancelled" in str(error)
    assert fake.client_gone.wait(5)
    with pytest.raises(LLMUnavailableError, match="cancelled"):
        ollama.models()
    assert ollama.loaded() == {}


def test_close_ends_every_call(fake: OllamaServer) -> None:
    fake.fault, fake.fault_path = "hang", "/api/tags"
    ollama = client(fake)
    timer = threading.Timer(0.0, lambda: fake.waiting.wait(10) and ollama.close())
    timer.start()
    with pytest.raises(LLMUnavailableError, match="cancelled"):
        ollama.models()


def test_no_proxy_of_the_environment_is_used(fake: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    assert client(fake).version() == fake.version and client(fake).models()


def test_characters_at_which_httpx_splits_lines_stay_in_their_line(fake: OllamaServer) -> None:
    text = "a\u2028b\u0085c\u2029d"
    fake.raw = [line(text) + b"\n", END]
    assert "".join(chunk.text for chunk in client(fake).chat(request())) == text


def test_the_thinking_values_of_a_model_are_read(fake: OllamaServer) -> None:
    fake.models = {"m": FakeModel(["completion", "thinking"], thinking={"values": [False, "low", "high"]})}
    assert client(fake).show("m").thinking == (False, "low", "high")
    fake.models = {"m": FakeModel(["completion", "thinking"], architecture="gptoss")}
    assert client(fake).show("m").thinking == ("low", "medium", "high")


def test_any_text_can_be_asked(fake: OllamaServer) -> None:
    assert list(client(fake).chat(request("half a pair: \ud83d")))[-1].done
    with pytest.raises(LLMUnavailableError, match="no model"):
        client(fake).show("\udcff")


@pytest.mark.parametrize("host", ["[::1", "a..b", "http://[x]:1", "fe80::1%nosuch", "ftp://localhost:9", "ü" * 300])
def test_an_invalid_address_is_an_error_with_a_hint(host: str) -> None:
    with pytest.raises(LLMUnavailableError) as caught:
        OllamaClient(parse_host(host)).models()
    assert caught.value.hint and "\n" not in str(caught.value)


def test_preloading_imports_the_package_on_a_thread() -> None:
    code = (
        "import sys, threading\n"
        "from rag.llm.address import parse_host\n"
        "from rag.llm.ollama import OllamaClient\n"
        "OllamaClient(parse_host('')).preload()\n"
        "[thread.join() for thread in threading.enumerate() if thread is not threading.current_thread()]\n"
        "print('ollama' in sys.modules)"
    )
    root = Path(__file__).parent.parent
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "True"
