"""A real Ollama server: `OLLAMA_HOST=… pytest -m ollama -n0`. Any model that can answer will do."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import pytest

from rag.assistant import Assistant
from rag.errors import LLMError, LLMUnavailableError
from rag.llm.ollama import OllamaClient
from rag.llm.session import LLMSession, choose_model
from rag.settings import LLMSettings
from tests.conftest import LIVE_OLLAMA

pytestmark = pytest.mark.ollama


@pytest.fixture
def client() -> OllamaClient:
    """A client of the server that OLLAMA_HOST names."""
    if not LIVE_OLLAMA:
        pytest.skip("OLLAMA_HOST names no server")
    return OllamaClient.from_settings(LLMSettings(ollama_host=LIVE_OLLAMA))


def test_the_server_describes_itself_and_its_models(client: OllamaClient) -> None:
    assert client.is_listening(5.0) and client.version()
    models = client.models()
    assert models and all(model.name and model.size > 0 for model in models)
    info = choose_model(client)
    assert info.can_answer and (info.context_length or 0) > 0
    with pytest.raises(LLMUnavailableError, match="no model"):
        client.show("no-such-model")


def test_a_session_writes(client: OllamaClient) -> None:
    session = LLMSession(LLMSettings(ollama_host=LIVE_OLLAMA), client)
    assert isinstance(session.write([{"role": "user", "content": "Say hello."}], 16), str)


def test_an_answer_cites_only_its_context(client: OllamaClient, assistant: Assistant) -> None:
    settings = assistant.settings.replace(mode="generative", ollama_host=LIVE_OLLAMA, answer_tokens=64)
    answer = assistant.configured(settings, client=client).ask("what mitigates forgetting?")
    assert answer.model and answer.text and (answer.mode == "generative")
    for citation in answer.citations:
        assert answer.context[citation.n - 1].paper_id == citation.paper_id


def test_closing_the_client_ends_an_answer(client: OllamaClient) -> None:
    session = LLMSession(LLMSettings(ollama_host=LIVE_OLLAMA), client)
    request = replace(session.request([{"role": "user", "content": "Count to a thousand."}]), max_tokens=4096)
    chunks = client.chat(request)
    next(chunks)
    Thread(target=client.close).start()
    with pytest.raises(LLMError):
        while not next(chunks).done:
            pass
        raise LLMUnavailableError("a short reply was complete before the client was closed")
