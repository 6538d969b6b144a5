"""The Ollama client against a server that speaks the real protocol, with its faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rag.errors import GenerationError, LLMUnavailableError, SettingsError
from rag.llm.address import is_listening, parse_host, server_address
from rag.llm.client import ModelInfo
from rag.llm.ollama import OllamaClient
from rag.llm.session import choose_model, think_value
from rag.llm.transport import Timeouts
from rag.settings import LLMSettings
from tests.helpers_llm import END, client, closed_port, line, run
from tests.ollama_server import FakeModel, OllamaServer

# --- the address ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://127.0.0.1:1234"),
        (":11434", "http://127.0.0.1:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("HTTPS://example.com:1", "https://example.com:1"),
        ("https://example.com/ollama/", "https://example.com:443/ollama"),
        ("example.com/a/b", "http://example.com:11434/a/b"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("::1", "http://[::1]:11434"),
        ("[::]:1234", "http://[::1]:1234"),
        ("http://[::1]/x", "http://[::1]:80/x"),
        ('  "http://localhost:1"  ', "http://localhost:1"),
        ("'localhost'", "http://localhost:11434"),
        ("example.com:99999", "http://example.com:11434"),
        ("https://example.com:port", "https://example.com:443"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_every_form_of_ollama_host(value: str, url: str) -> None:
    assert str(parse_host(value)) == url


def test_the_setting_takes_precedence_over_the_environment() -> None:
    assert server_address(LLMSettings(), {"OLLAMA_HOST": "a:1"}).host == "a"
    assert server_address(LLMSettings(ollama_host="b:1"), {"OLLAMA_HOST": "a:1"}).host == "b"
    assert str(server_address(LLMSettings(), {})) == "http://127.0.0.1:11434"


def test_only_an_open_port_is_listening(fake: OllamaServer) -> None:
    assert is_listening(parse_host(fake.host), 5.0)
    assert not is_listening(parse_host(f":{closed_port()}"), 5.0)
    assert not is_listening(parse_host("no.such.host.invalid"), 5.0)


def test_looking_for_a_server_imports_no_heavy_module() -> None:
    code = (
        "import sys, rag.answering.generative, rag.answering.rewriting, rag.llm.failures, rag.llm.transport\n"
        "from rag.llm.address import parse_host\n"
        "from rag.llm.ollama import OllamaClient\n"
        f"assert not OllamaClient(parse_host(':{closed_port()}')).is_listening(1)\n"
        "heavy = 'ollama', 'httpx', 'httpcore', 'anyio', 'llama_index', 'pydantic', 'http.client', 'ssl'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).parent.parent
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


# --- the server and its models -------------------------------------------------------------------------


def test_models_and_their_capabilities(fake: OllamaServer) -> None:
    fake.models["embed"] = FakeModel(["embedding"], 512, "bert")
    server = client(fake)
    assert server.version() == "0.34.2"
    first = server.models()[0]
    assert (first.name, first.parameters, first.quantization) == ("llama3.2:latest", "3.2B", "Q4_K_M")
    info = server.show("llama3.2")
    assert info.can_answer and info.context_length == 32768
    assert not server.show("embed").can_answer


def test_capabilities_of_a_server_that_does_not_send_them(fake: OllamaServer) -> None:
    fake.models = {"old": FakeModel(None), "old-embed": FakeModel(None, 512, "nomic-bert", pooling=True)}
    server = client(fake)
    assert server.show("old").can_answer and not server.show("old-embed").can_answer


def test_the_first_capable_local_model_is_chosen(fake: OllamaServer) -> None:
    fake.models = {
        "embed": FakeModel(["embedding"]),
        "big:120b-cloud": FakeModel(),
        "far": FakeModel(remote_host="https://ollama.com"),
        "good": FakeModel(["completion", "tools"]),
        "other": FakeModel(),
    }
    server = client(fake)
    assert choose_model(server).name == "good"
    assert choose_model(server, "far").name == "far"  # by name only
    with pytest.raises(LLMUnavailableError, match="only embed"):
        choose_model(server, "embed")
    with pytest.raises(LLMUnavailableError, match="rag models pull nosuch"):
        choose_model(server, "nosuch")
    fake.models = {"embed": FakeModel(["embedding"])}
    with pytest.raises(LLMUnavailableError, match=r"no model that can answer.*rag models pull"):
        choose_model(server)


def test_a_pull_adds_up_its_layers(fake: OllamaServer) -> None:
    steps = list(client(fake).pull("new"))
    assert [s.completed for s in steps] == sorted(s.completed for s in steps)
    assert (steps[-1].status, steps[-1].completed, steps[-1].total) == ("success", 120, 120)
    assert "new" in fake.models
    with pytest.raises(LLMUnavailableError, match="no model 'nosuch' to pull"):
        list(client(fake).pull("nosuch"))


def test_a_path_prefix_and_an_api_key_are_sent(fake: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.prefix = "/ollama"
    monkeypatch.setenv("OLLAMA_API_KEY", "k")
    assert client(fake).version() == fake.version
    assert fake.headers[-1]["Authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("info", "wanted", "sent"),
    [
        (ModelInfo(name="m", capabilities=frozenset({"completion"})), "off", None),
        (ModelInfo(name="m", capabilities=frozenset({"completion"})), "on", None),
        (ModelInfo(name="m", capabilities=frozenset({"completion", "thinking"})), "off", False),
        (ModelInfo(name="m", capabilities=frozenset({"completion", "thinking"})), "on", True),
        (ModelInfo(name="m", capabilities=frozenset({"thinking"}), thinking=("low", "medium", "high")), "off", "low"),
        (ModelInfo(name="m", capabilities=frozenset({"thinking"}), thinking=("low", "medium", "high")), "on", "medium"),
        (ModelInfo(name="m", capabilities=frozenset({"thinking"}), thinking=("low", "medium", "high")), "high", "high"),
        (ModelInfo(name="m", capabilities=frozenset({"thinking"}), thinking=(False, True)), "low", True),
        (ModelInfo(name="m", capabilities=frozenset({"thinking"}), thinking=(False, "low")), "off", False),
    ],
)
def test_the_think_value_fits_the_model(info: ModelInfo, wanted: str, sent: bool | str | None) -> None:
    assert think_value(info, wanted) == sent


def test_an_unknown_think_setting_is_refused() -> None:
    with pytest.raises(SettingsError):
        LLMSettings(think="loud")


# --- the wire ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        [line("Größe ✓ [1]."), b"\r\n", b"\r\n", END],
        [line("Größe "), b"\n\n", line("✓ [1]."), b"\n", END, b"\n", line("after the end")],
        [bytes([byte]) for byte in line("Größe ✓ [1].") + b"\n" + END],
        [line("Größe ✓ [1].", odd=[1], model=None, done=False) + b"\n" + line(None) + b"\n" + END],
        [b'{"message": null}\n{}\n', line("Größe ✓ [1]."), b"\n" + line(["x"]) + b"\n" + line({}) + b"\n", END],
        [line("Größe ✓ [1]."), b'\n{"done": true, "message": "x", "eval_count": "y", "prompt_eval_count": null}'],
        [b'{"message": {"content": "Gr\\u00f6\\u00dfe \\u2713 [1]."}}\n', END],
    ],
)
def test_an_answer_in_any_form_of_stream(fake: OllamaServer, raw: list[bytes]) -> None:
    fake.raw = raw
    draft = run(fake)[-1]
    assert draft.text == "Größe ✓ [1]." and draft.notes == ()


def test_a_surrogate_pair_in_two_chunks_gives_valid_text(fake: OllamaServer) -> None:
    fake.raw = [b'{"message": {"content": "\\ud83d"}}\n{"message": {"content": "\\ude00 Yes [1]."}}\n', END]
    assert run(fake)[-1].text.encode().endswith(b"Yes [1].")


def test_a_huge_answer(fake: OllamaServer) -> None:
    fake.raw = [line("Method 1 wins [1]. " * 5_000) + b"\n", END]
    draft = run(fake)[-1]
    assert len(draft.sentences) == 5_000 and {s.citations for s in draft.sentences} == {(1,)}


@pytest.mark.parametrize("end", [b"", b"{", b"[]\n", b"\xff\n", b"[" * 100_000 + b"\n", b'"done"\n'])
def test_a_stream_without_its_end_is_not_an_answer(fake: OllamaServer, end: bytes) -> None:
    fake.raw = [line("Method 1 wins [1].") + b"\n", *([end] if end else [])]
    with pytest.raises(GenerationError) as caught:
        run(fake)
    assert caught.value.partial == "Method 1 wins [1]."
    fake.raw = [end or b"\n"]
    with pytest.raises(LLMUnavailableError) as other:
        run(fake)
    assert not isinstance(other.value, GenerationError)


def test_an_old_server_gives_no_reason_for_a_cut_off_answer(fake: OllamaServer) -> None:
    fake.raw = [line("Method 1 wins [1]") + b"\n", line(done=True, eval_count=512)]
    assert run(fake)[-1].notes == ("The answer was cut off at 512 tokens; answer_tokens sets the limit.",)
    fake.raw = [line("Method 1 wins [1]") + b"\n", line(done=True, done_reason="length", eval_count=9)]
    assert run(fake)[-1].notes == ("The answer was cut off at 9 tokens; num_ctx sets the limit.",)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"models": None}, {"models": {}}, {"models": [None, 1, {}]}, {"models": [{"name": ["x"]}]}, 7],
)
def test_model_lists_of_any_form(fake: OllamaServer, value: Any) -> None:
    fake.instead = {"/api/tags": value}
    with pytest.raises(LLMUnavailableError):
        run(fake)
    fake.instead = {"/api/ps": value}
    assert run(fake)[-1].text == "Yes [1]."


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"model_info": [], "capabilities": "completion"},
        {"model_info": {"general.architecture": 7, "7.context_length": "many"}, "capabilities": {}},
        {"model_info": None, "capabilities": ["completion", None, "thinking"], "thinking": [], "details": 1},
        {"thinking": {"values": "low"}},
        {"thinking": {"values": [{}, None, 3]}, "capabilities": ["completion"]},
    ],
)
def test_model_info_of_any_form(fake: OllamaServer, value: Any) -> None:
    fake.instead = {"/api/show": value}
    assert run(fake)[-1].text == "Yes [1]."


def test_a_server_of_another_program_is_recognised(fake: OllamaServer) -> None:
    fake.instead = {"/api/tags": {"error": "Unexpected endpoint or method."}}
    with pytest.raises(LLMUnavailableError, match="not as Ollama does"):
        run(fake)
    fake.instead, fake.fault, fake.fault_path = {}, "404", "/api/tags"
    with pytest.raises(LLMUnavailableError, match=r"not as Ollama does \(HTTP 404: "):
        run(fake)


def test_a_broken_model_is_skipped(fake: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.models = {"broken": FakeModel(), "good": FakeModel()}
    find = fake.find
    monkeypatch.setattr(fake, "find", lambda name: None if name == "broken" else find(name))
    assert choose_model(client(fake)).name == "good"
    del fake.models["good"]
    with pytest.raises(LLMUnavailableError, match="no model 'broken'"):
        choose_model(client(fake))


def test_a_call_that_hangs_has_its_own_timeout_and_remedy(fake: OllamaServer) -> None:
    fake.fault, fake.fault_path = "hang", "/api/tags"
    with pytest.raises(LLMUnavailableError, match=r"sent nothing for 0\.05 s\. Is it overloaded"):
        OllamaClient(parse_host(fake.host), Timeouts(call=0.05)).models()


def test_unusual_paths_and_keys_are_sent(fake: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", " ké\ny\n")
    fake.prefix = "/%C3%BC%20x"
    where = parse_host(fake.host.replace(fake.prefix, "/ü x/"))
    assert OllamaClient(where).version() == fake.version
    assert fake.headers[-1]["Authorization"].encode("latin-1").decode() == "Bearer kéy"


def test_a_server_on_ipv6_is_reached() -> None:
    try:
        fake = OllamaServer(interface="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with fake:
        assert "[::1]" in fake.host and client(fake).version() == fake.version
        assert OllamaClient(parse_host(f"[::]:{fake.port}")).version() == fake.version
        assert fake.headers[-1]["Host"] == f"[::1]:{fake.port}"


def test_https_to_a_plain_server_names_the_scheme(fake: OllamaServer) -> None:
    with pytest.raises(LLMUnavailableError, match=r"Cannot connect to https://.*Check the https in OLLAMA_HOST"):
        OllamaClient(parse_host(fake.host.replace("http:", "https:"))).models()
