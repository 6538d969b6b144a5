"""The fake server against the official client, so that the other tests rely on the real protocol."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import pytest

from tests.ollama_server import FakeModel, OllamaServer

MESSAGES = [{"role": "user", "content": "Say yes."}]


@pytest.fixture
def fake() -> Iterator[OllamaServer]:
    with OllamaServer({"llama3.2:latest": FakeModel(), "embed": FakeModel(["embedding"], 512, "bert")}) as server:
        yield server


@pytest.fixture
def client(fake: OllamaServer) -> ollama.Client:
    return ollama.Client(fake.host, trust_env=False)


def test_list_returns_the_models(client: ollama.Client) -> None:
    first, second = client.list().models
    assert (first.model, second.model) == ("llama3.2:latest", "embed")
    assert first.size and first.modified_at and first.digest
    assert first.details and (first.details.parameter_size, first.details.quantization_level) == ("3.2B", "Q4_K_M")


def test_show_returns_the_capabilities(client: ollama.Client) -> None:
    info = client.show("llama3.2")
    assert info.capabilities == ["completion"]
    assert info.modelinfo and info.modelinfo["llama.context_length"] == 32768
    assert client.show("embed").capabilities == ["embedding"]


def test_chat_in_one_piece(client: ollama.Client, fake: OllamaServer) -> None:
    reply = client.chat("llama3.2", MESSAGES, options={"num_ctx": 2048, "seed": 1})
    assert (reply.message.role, reply.message.content) == ("assistant", "Yes [1].")
    assert reply.done and reply.done_reason == "stop"
    assert reply.prompt_eval_count and reply.eval_count == 3 and reply.eval_duration and reply.total_duration
    assert fake.chats()[0]["options"] == {"num_ctx": 2048, "seed": 1}


def test_chat_streaming(client: ollama.Client, fake: OllamaServer) -> None:
    fake.models["qwen3"] = FakeModel(["completion", "thinking"])
    fake.reply = [("hm",), "Größe ", "✓"]
    parts = list(client.chat("qwen3", MESSAGES, stream=True, think=True))
    assert [p.message.content for p in parts] == ["", "Größe ", "✓", ""]
    assert [p.message.thinking for p in parts] == ["hm", None, None, None]
    assert [p.done for p in parts] == [False] * 3 + [True] and parts[-1].done_reason == "stop"
    (cut,) = [p for p in client.chat("qwen3", MESSAGES, stream=True, options={"num_predict": 2}) if p.done]
    assert (cut.done_reason, cut.eval_count) == ("length", 2)


def test_loading_and_what_is_loaded(client: ollama.Client) -> None:
    assert client.ps().models == []
    loaded = client.chat("llama3.2", [], options={"num_ctx": 2048})
    assert loaded.done and loaded.done_reason == "load"
    (running,) = client.ps().models
    assert (running.model, running.context_length) == ("llama3.2:latest", 2048)
    assert client.chat("llama3.2", [], keep_alive=0).done_reason == "unload"
    assert client.ps().models == []


def test_pull_returns_its_progress(client: ollama.Client, fake: OllamaServer) -> None:
    steps = list(client.pull("new:1b", stream=True))
    assert steps[0].status == "pulling manifest" and steps[-1].status == "success"
    layers = {s.digest: (s.completed, s.total) for s in steps if s.digest}
    assert list(layers.values()) == [(100, 100), (20, 20)] and "new:1b" in fake.models
    assert client.pull("newer:1b").status == "success"
    for stream in (True, False):
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            list(client.pull("nosuch", stream=stream))


@pytest.mark.parametrize(
    ("model", "think", "status", "message"),
    [
        ("nosuch", None, 404, "model 'nosuch' not found"),
        ("embed", None, 400, '"embed" does not support chat'),
        ("llama3.2", True, 400, '"llama3.2" does not support thinking'),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_errors_have_a_status_and_a_text(
    client: ollama.Client, model: str, think: bool | None, status: int, message: str, stream: bool
) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat(model, MESSAGES, think=think, stream=stream))
    assert (caught.value.status_code, caught.value.error) == (status, message)
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("nosuch")
    assert caught.value.status_code == 404


@pytest.mark.parametrize("fault", ["400", "500", "503"])
def test_an_http_fault_is_a_response_error(client: ollama.Client, fake: OllamaServer, fault: str) -> None:
    fake.fault = fault
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("llama3.2", MESSAGES)
    assert caught.value.status_code == int(fault) and caught.value.error


def test_an_error_inside_a_stream(client: ollama.Client, fake: OllamaServer) -> None:
    fake.fault = "stream_error"
    texts = []
    with pytest.raises(ollama.ResponseError, match="CUDA error"):
        for part in client.chat("llama3.2", MESSAGES, stream=True):
            texts.append(part.message.content)
    assert texts == ["Yes"]


def test_a_stream_left_early_stops_the_generation(client: ollama.Client, fake: OllamaServer) -> None:
    fake.fault = "pause"
    stream = client.chat("llama3.2", MESSAGES, stream=True)
    assert next(iter(stream)).message.content == "Yes"
    stream.close()  # type: ignore[attr-defined]
    assert fake.client_gone.wait(30)
