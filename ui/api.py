"""The endpoints for programs, `ask` and `search`, which are also the MCP tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import gradio as gr
from gradio.events import api

from rag.assistant import Assistant
from rag.errors import RagError
from rag.retrieval.history import turns_from_json
from ui.choices import with_choices
from ui.layout import MAX_CONCURRENT


class PublicAPI:
    """`ask` and `search` over one assistant. Gradio shows their docstrings to programs and models."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant

    def connect(self) -> None:
        """Serve both; call it inside the page's Blocks."""
        api(self.ask, api_name="ask", concurrency_limit=MAX_CONCURRENT)
        api(self.search, api_name="search", concurrency_limit=MAX_CONCURRENT)

    def ask(
        self,
        question: str,
        k: int = 5,
        mode: str = "auto",
        history: list[dict[str, str]] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer a question from the corpus of paper abstracts, every sentence with its source.

        Args:
            question: the question, in plain words.
            k: papers to read, 1 to 20.
            mode: "auto" (a model if one is available), "extractive" (quotations), or "model:NAME".
            history: earlier exchanges, as {"question": ..., "answer": ...}.

        Returns:
            The JSON object of `rag ask --json`: answer, sentences with verdicts, citations with evidence.
        """
        with _reported_errors():
            assistant = with_choices(self._assistant, mode, int(k), self._assistant.settings.verification.strict)
            return _result(assistant.ask(question, turns_from_json(history)).as_json(), request)

    def search(self, question: str, k: int = 5, request: gr.Request | None = None) -> dict[str, Any]:
        """Find the papers that match a question best, with their scores.

        Args:
            question: a question, or words.
            k: papers to return, 1 to 100.

        Returns:
            The JSON object of `rag search --json`: the hits, best first, each with its best passage.
        """
        with _reported_errors():
            return _result(self._assistant.search(question, k=max(1, min(int(k), 100))).as_json(), request)


@contextmanager
def _reported_errors() -> Iterator[None]:
    """Send the message of an expected error to the caller."""
    try:
        yield
    except RagError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _result(value: dict[str, Any], request: gr.Request | None) -> dict[str, Any]:
    """`value`; for MCP as JSON text, because Gradio would send its Python representation."""
    if request is not None and request.headers.get("x-gradio-user") == "mcp":
        return cast("dict[str, Any]", json.dumps(value, ensure_ascii=False))
    return value
