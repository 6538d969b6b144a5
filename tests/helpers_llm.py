"""Hits, sessions and answers for tests against the fake Ollama server."""

from __future__ import annotations

import json
import socket
from typing import Any

from rag.answering.generative import GenerativeAnswerer
from rag.llm.address import parse_host
from rag.llm.ollama import OllamaClient
from rag.llm.session import LLMSession
from rag.settings import LLMSettings
from rag.types import Hit, Paper, Passage, SearchResult, Turn
from tests.ollama_server import OllamaServer


def hit(n: int, text: str = "", title: str = "") -> Hit:
    text = text or f"Method {n} reaches 8{n}.5% accuracy on the benchmark. It needs no labels."
    paper = Paper(paper_id=f"paper-{n}", title=title or f"Title {n}", abstract=text)
    passage = Passage(passage_id=f"paper-{n}:0", text=text, start=0, end=len(text))
    return Hit(rank=n, paper=paper, score=1.0 / n, dense=0.5, bm25=1.0, passage=passage)


def search(*hits: Hit, question: str = "What is best?") -> SearchResult:
    return SearchResult(question=question, query=question, hits=hits or (hit(1), hit(2), hit(3)))


def turn(question: str, answer: str) -> Turn:
    return Turn(question=question, answer=answer)


def line(content: Any = "", **fields: Any) -> bytes:
    """One line of a chat stream."""
    return json.dumps({"message": {"role": "assistant", "content": content}} | fields, ensure_ascii=False).encode()


END = line(done=True)  # the last line of an old server: no done_reason, no counts


def client(fake: OllamaServer) -> OllamaClient:
    return OllamaClient(parse_host(fake.host))


def session(fake: OllamaServer, **settings: Any) -> LLMSession:
    timeouts: dict[str, Any] = {"connect_timeout": 5.0, "first_token_timeout": 5.0, "token_timeout": 5.0}
    return LLMSession(LLMSettings(ollama_host=fake.host, **(timeouts | settings)))


def answerer(fake: OllamaServer, **settings: Any) -> GenerativeAnswerer:
    return GenerativeAnswerer(session(fake, **settings))


def run(
    fake: OllamaServer, result: SearchResult | None = None, history: tuple[Turn, ...] = (), **settings: Any
) -> list[Any]:
    return list(answerer(fake, **settings).stream(result or search(), history))


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
