"""Answers that a language model writes from the retrieved papers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache

from rag.answering.citations import CitationNormalizer, split_sentences
from rag.answering.prompt import Prompt, build_prompt
from rag.errors import GenerationError, LLMUnavailableError, PromptTooLongError
from rag.llm.client import ChatChunk
from rag.llm.reasoning import ReasoningSplitter
from rag.llm.session import LLMSession
from rag.text.terms import words
from rag.types import ABSTENTION, AnswererEvent, Delta, Discarded, Draft, Mode, Prompted, SearchResult, Thinking, Turn


class GenerativeAnswerer:
    """Answers with the model of `session`."""

    mode: Mode = "generative"

    def __init__(self, session: LLMSession) -> None:
        self.session = session

    def stream(
        self, search: SearchResult, history: Sequence[Turn] = ()
    ) -> Generator[AnswererEvent | Draft, None, None]:
        """Prompted, then Thinking, Delta and Discarded, and last the Draft, whose context is the papers of the prompt.

        Closing the iterator closes the connection, and the server stops generating. Raises LLMUnavailableError before
        any text, GenerationError with the text so far after that, PromptTooLongError if the model did not get the
        whole prompt.
        """
        session, model = self.session, self.session.model_info.name
        if not search.hits:
            yield Delta(ABSTENTION)
            yield Draft(search=search, text=ABSTENTION, mode=self.mode, context=(), abstained=True, model=model)
            return
        room = max(0, session.context_limit - session.reserved_tokens)
        prompt = build_prompt(search.question, search.hits, history, room)
        request = session.request(prompt.messages)
        yield Prompted(model, prompt.context)
        reply = _Reply(prompt)
        try:
            with closing(session.client.chat(request)) as chunks:
                for chunk in chunks:
                    yield from reply.feed(chunk)
            yield from reply.finish()
        except PromptTooLongError as error:
            raise session.prompt_too_long(error.message) from error
        except LLMUnavailableError as error:
            yield from reply.finish()  # the text that was held back
            if reply.text:
                raise GenerationError(error.message, error.hint, reply.text) from error
            raise
        if truncation := session.truncation(request, reply.last):
            raise session.prompt_too_long(truncation, reply.text)
        if not reply.text:
            problem = "spent all its tokens on reasoning" if reply.has_reasoning else "wrote nothing"
            raise GenerationError(f"{model} {problem}.", "Raise answer_tokens, or use another model.")
        sentences = split_sentences(reply.text, len(prompt.context))
        # An answer that begins with a refusal but cites a paper is not an abstention.
        cited = any(sentence.citations for sentence in sentences)
        refusal = _refusal()
        yield Draft(
            search=search,
            text=reply.text,
            mode=self.mode,
            context=prompt.context,
            sentences=sentences,
            abstained=bool(sentences) and not cited and words(sentences[0].text)[: len(refusal)] == refusal,
            model=model,
            notes=_notes(reply, len(search.hits), len(history), request.max_tokens),
            timings_ms=reply.timings(),
        )


class _Reply:
    """A reply as it is read: separates reasoning, normalises citations, keeps the text and the times."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.text = ""
        self.has_reasoning = False
        self.last = ChatChunk()
        self.citations = CitationNormalizer(len(prompt.context))
        self._reasoning = ReasoningSplitter()
        self._started = time.perf_counter()
        self._first_token: float | None = None

    def feed(self, chunk: ChatChunk) -> Iterator[AnswererEvent]:
        """The events of one chunk."""
        if chunk.done:
            self.last = chunk
        if self._first_token is None and (chunk.thinking or chunk.text):
            self._first_token = time.perf_counter()
        if chunk.thinking:
            self.has_reasoning = True
            yield Thinking(chunk.thinking)
        yield from self._split(chunk.text)

    def finish(self) -> Iterator[AnswererEvent]:
        """The events of the text that was held back. Call it once, at the end."""
        yield from self._split("", last=True)
        yield from self._write(self.citations.feed("", last=True))

    def timings(self) -> dict[str, float]:
        """Milliseconds until the first token and in all, and tokens per second as the server measured them."""
        now = time.perf_counter()
        first_token = self._first_token or now
        timings = {"first_token": 1000 * (first_token - self._started), "generate": 1000 * (now - self._started)}
        if self.last.output_tokens:
            seconds = self.last.output_seconds or now - first_token
            timings["tokens_per_second"] = self.last.output_tokens / seconds if seconds else 0.0
        return timings

    def _split(self, text: str, last: bool = False) -> Iterator[AnswererEvent]:
        for kind, part in self._reasoning.feed(text, last):
            if kind == "answer":
                yield from self._write(self.citations.feed(part))
                continue
            self.has_reasoning = True
            if kind == "thinking":
                yield Thinking(part)
            else:
                self.text, self.citations = "", CitationNormalizer(self.citations.context_size)
                yield Discarded()

    def _write(self, text: str) -> Iterator[AnswererEvent]:
        if text:
            self.text += text
            yield Delta(text)


@lru_cache(maxsize=1)
def _refusal() -> list[str]:
    return words(ABSTENTION)


def _notes(reply: _Reply, hit_count: int, turn_count: int, max_tokens: int) -> tuple[str, ...]:
    notes = []
    reason, count = reply.last.done_reason, reply.last.output_tokens
    if reason == "length" or (not reason and count >= max_tokens):  # old servers give no reason
        setting = "answer_tokens" if count >= max_tokens else "num_ctx"
        notes.append(f"The answer was cut off at {count} tokens; {setting} sets the limit.")
    if omitted := hit_count - len(reply.prompt.context):
        notes.append(f"{omitted} of {hit_count} papers did not fit the model's context and were not read.")
    if omitted := turn_count - reply.prompt.turn_count:
        notes.append(f"{omitted} of {turn_count} earlier turns did not fit the model's context.")
    if dropped := reply.citations.dropped:
        citations = "citation was" if dropped == 1 else "citations were"
        notes.append(f"{dropped} {citations} dropped: no passage has that number.")
    return tuple(notes)
