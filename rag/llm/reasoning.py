"""The reasoning that a model writes into its content, separated from the answer while it streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

ReasoningPart = tuple[Literal["thinking", "answer", "discard"], str]

_OPENING = ("<think>", "<thinking>")
_CLOSING = ("</think>", "</thinking>")
_CLOSE = re.compile(r"</think(?:ing)?>")
_CLOSE_ALONE = re.compile(r"\n[^\S\n]*</think(?:ing)?>")


class ReasoningSplitter:
    """Splits streamed content into reasoning and answer; the result does not depend on how the text is chunked.

    Reasoning opens only at the beginning of the content, so that an answer may mention `<think>` tags. A closing tag
    alone on its line, without an opening one before it, means that everything before it was reasoning: some chat
    templates write the opening tag into the prompt.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._state: Literal["start", "thinking", "answer"] = "start"
        self._had_reasoning = False

    def feed(self, chunk: str, last: bool = False) -> Iterator[ReasoningPart]:
        """The parts that `chunk` decides; ("discard", "") means that the answer so far was reasoning.

        `last`: no chunk follows, so that nothing is held back.
        """
        self._pending += chunk
        steps = {"start": self._start, "thinking": self._thinking, "answer": self._answer}
        while True:
            before = (self._state, self._pending)
            yield from steps[self._state](last)
            if (self._state, self._pending) == before or not self._pending:
                return

    def _start(self, last: bool) -> Iterator[ReasoningPart]:
        text = self._pending.lstrip()
        if tag := next((tag for tag in _OPENING + _CLOSING if text.startswith(tag)), None):
            self._state = "thinking" if tag in _OPENING else "start"
            self._pending, self._had_reasoning = text[len(tag) :], True
        elif last or not any(tag.startswith(text) for tag in _OPENING + _CLOSING):
            self._state, self._pending = "answer", text
        yield from ()

    def _thinking(self, last: bool) -> Iterator[ReasoningPart]:
        if close := _CLOSE.search(self._pending):
            end, self._state = close.start(), "start"
        else:
            end = len(self._pending) if last else _decided_length(self._pending, "<")
        if end:
            yield "thinking", self._pending[:end]
        self._pending = self._pending[close.end() if close else end :]

    def _answer(self, last: bool) -> Iterator[ReasoningPart]:
        if not self._had_reasoning and (close := _CLOSE_ALONE.search(self._pending)):
            reasoning, self._pending = self._pending[: close.start()], self._pending[close.end() :]
            self._state, self._had_reasoning = "start", True
            yield "discard", ""
            if reasoning:
                yield "thinking", reasoning
            return
        end = len(self._pending) if last or self._had_reasoning else _decided_length(self._pending, "\n")
        if end:
            yield "answer", self._pending[:end]
        self._pending = self._pending[end:]


def without_reasoning(content: str) -> str:
    """The answer in a model's whole `content`."""
    answer = ""
    for kind, text in ReasoningSplitter().feed(content, last=True):
        answer = "" if kind == "discard" else answer + text if kind == "answer" else answer
    return answer


def _decided_length(text: str, opener: str) -> int:
    """Characters of `text` before the last `opener` that could still grow into a closing tag."""
    position = text.rfind(opener)
    rest = text[position:].strip()
    return position if position >= 0 and any(tag.startswith(rest) for tag in _CLOSING) else len(text)
