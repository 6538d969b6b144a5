"""Answers by a model of an Ollama server: prompt, stream, and the `Draft` that verification starts from.

Whether the server cut the prompt is asked three times: it is told to refuse rather than cut (`truncate` and
`shift` false), the context is sized by a high estimate, and `prompt_eval_count` is compared with what was
sent, for servers before 0.12.6 and whatever else ignores the request. What that count means has changed: the
whole prompt in 0.4 to 0.29 and again from 0.31; only what the cache did not hold before 0.4 and in the first
releases of 0.30; nothing on a full cache hit in the oldest. So a low count is proof only where the version
counts the cache in, and only below the number of words, which no tokenizer undercuts by a fifth. A count that
fills the window is proof everywhere, as room for the answer was asked for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

from rag.answering import ABSTENTION, Citation, Delta, Discarded, Draft, Reading, Sentence, Thinking, Turn
from rag.answering.followup import retrieval_query
from rag.answering.markers import Markers, Reasoning, split_sentences, strip_markers
from rag.answering.ollama import Card, Server, choose_model, said, think_value, whole
from rag.answering.prompt import Prompt, build, message_tokens, neutral
from rag.errors import GenerationFailed, ModelUnavailable, PromptTruncated
from rag.retrieval import Search
from rag.settings import Settings
from rag.text import words

_SMALLEST_CONTEXT = 4096
_THINKING_TOKENS = 2048  # beside the answer's own, where a model reasons first

Written = Reading | Thinking | Delta | Discarded | Draft
_REFUSAL = words(ABSTENTION)


class OllamaAnswerer:
    """Answers from hits by one model on one server; remembers the model and the context size it runs with."""

    def __init__(self, settings: Settings, server: Server | None = None) -> None:
        self.settings = settings
        self.server = server or Server.of(settings)
        self._card: Card | None = None
        self._num_ctx = 0

    @property
    def card(self) -> Card:
        """The model that answers, chosen at the first use. Raises ModelUnavailable."""
        if self._card is None:
            self._card = choose_model(self.server, self.settings.llm)
        return self._card

    @property
    def limit(self) -> int:
        """The longest context to ask for, in tokens: the cap, or what the model holds."""
        return min(self.settings.num_ctx, self.card.context_length or self.settings.num_ctx)

    def query(self, question: str, history: Sequence[Turn] = ()) -> str:
        """What to search for: by rule, or by the model if the settings ask for that."""
        plain = retrieval_query(question, history)
        if not history or not self.settings.rewrite:
            return plain
        talk = "\n".join(f"Q: {neutral(t.question)}\nA: {neutral(strip_markers(t.answer))[:400]}" for t in history[-3:])
        task = "Rewrite the last question so that it can be understood alone. Write only the question.\n\n"
        messages = [{"role": "user", "content": f"{task}{talk}\n\nLast question: {neutral(question)}"}]
        try:
            text = self.write(messages, 96)
        except ModelUnavailable:
            return plain
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        return line if 0 < len(line) <= 300 else plain

    def chat(self, messages: list[dict[str, str]], tokens: int = 0) -> Generator[dict[str, Any], None, None]:
        """Ollama's own objects for any other conversation; `tokens` is the most it may write, 0 the default.

        Raises PromptTruncated where the messages do not fit the context.
        """
        wanted = self.settings.think if not tokens else "off"
        reserved = tokens or self._reserved()
        needed = message_tokens(messages) + reserved
        if needed > self.limit:
            raise self._too_long(f"About {needed} tokens do not fit into {self.limit}.", "")
        yield from self.server.chat(self._request(messages, self._context(needed), reserved, wanted))

    def write(self, messages: list[dict[str, str]], tokens: int) -> str:
        """All that the model writes in up to `tokens` tokens, without its reasoning. Raises what `chat` raises."""
        text = "".join(said(line)[1] for line in self.chat(messages, tokens))
        reader = Reasoning()
        parts = (*reader.feed(text), *reader.feed("", last=True))
        return "".join(part for kind, part in parts if kind == "answer")

    def stream(self, question: str, search: Search, history: Sequence[Turn] = ()) -> Generator[Written, None, None]:
        """Answer `question` from `search.hits`: Reading, then Thinking, Delta and Discarded, and last a Draft.

        Closing the iterator closes the connection and stops the server. Raises ModelUnavailable before any
        text, GenerationFailed (with what had streamed) after it, PromptTruncated if the model did not get
        the whole prompt.
        """
        card = self.card
        if not search.hits:
            yield Delta(ABSTENTION)
            yield Draft(ABSTENTION, True, card.name, (Sentence(ABSTENTION),), (), ())
            return
        reserved = self._reserved()
        prompt = build(question, search.hits, history, max(0, self.limit - reserved))
        num_ctx = self._context(prompt.tokens + reserved)
        yield Reading(card.name, len(prompt.given))
        run = _Run(prompt)
        request = self._request(list(prompt.messages), num_ctx, reserved, self.settings.think)
        try:
            with closing(self.server.chat(request)) as lines:
                for line in lines:
                    yield from run.read(line)
            yield from run.read({}, last=True)
        except PromptTruncated as error:
            raise self._too_long(error.message, "") from error
        except ModelUnavailable as error:
            yield from run.read({}, last=True)  # what a marker was held back for
            if run.text:
                raise GenerationFailed(error.message, error.hint, run.text) from error
            raise
        if cut := self._cut(prompt, run.final, num_ctx):
            raise self._too_long(cut, run.text)
        if not run.text:
            spent = "spent all its tokens on reasoning" if run.thought else "wrote nothing"
            raise GenerationFailed(f"{card.name} {spent}.", "Raise answer_tokens, or take another model.")
        yield run.draft(card.name, self._notes(run, len(search.hits), len(history), reserved))

    def _reserved(self) -> int:
        thinks = think_value(self.card, self.settings.think)
        return self.settings.answer_tokens + (_THINKING_TOKENS if thinks else 0)

    def _request(self, messages: list[dict[str, str]], num_ctx: int, tokens: int, wanted: str) -> dict[str, Any]:
        settings = self.settings
        request: dict[str, Any] = {
            "model": self.card.name,
            "messages": messages,
            "truncate": False,
            "shift": False,
            "options": {
                "num_ctx": num_ctx,
                "num_predict": tokens,
                "temperature": settings.temperature,
                "seed": settings.seed,
            },
        }
        if settings.keep_alive:
            # A number is seconds; Ollama takes a string only with its unit.
            number = re.fullmatch(r"-?\d+", settings.keep_alive)
            request["keep_alive"] = int(settings.keep_alive) if number else settings.keep_alive
        if (think := think_value(self.card, wanted)) is not None:
            request["think"] = think
        return request

    def _context(self, needed: int) -> int:
        """A num_ctx that holds `needed` tokens and, where possible, the one the model runs with already.

        Another num_ctx makes the server load the model anew, so it grows in doublings and never shrinks.
        """
        if not self._num_ctx:
            self._num_ctx = self._window()
        if self._num_ctx < needed:
            self._num_ctx = min(self.limit, max(_SMALLEST_CONTEXT, 1 << (needed - 1).bit_length()))
        return self._num_ctx

    def _window(self) -> int:
        """The context in tokens that the model is loaded with; 0 if it isn't, or the server doesn't say."""
        running = self.server.loaded()
        return running.get(self.card.name) or running.get(f"{self.card.name}:latest") or 0

    def _cut(self, prompt: Prompt, final: dict[str, Any], num_ctx: int) -> str:
        """How the server cut the prompt, judged by its counts; empty if it did not."""
        read, written = whole(final.get("prompt_eval_count")), whole(final.get("eval_count"))
        if not read:
            return ""  # an old server with the whole prompt in its cache
        window = min(num_ctx, self._window() or num_ctx)  # something in between may have set a smaller one
        if read >= window or read + written > num_ctx:
            return f"The prompt filled the whole context of {window} tokens, so part of it was lost."
        if read < 0.8 * prompt.words and self._counts_cache():
            return f"The model read only {read} tokens of a prompt of more than {prompt.words}."
        return ""

    def _counts_cache(self) -> bool:
        """Whether this server's prompt_eval_count includes what it had cached (see the top of this module)."""
        try:
            version = [int(n) for n in re.findall(r"\d+", self.server.version())[:2]]
        except ModelUnavailable:
            return True
        return version != [0, 30] and not [0, 0] < version < [0, 4]

    def _too_long(self, message: str, partial: str) -> PromptTruncated:
        length, cap = self.card.context_length, self.settings.num_ctx
        at_limit = length is not None and cap >= length
        remedy = f"Take a model with more than {length} tokens of context" if at_limit else f"Raise num_ctx (now {cap})"
        return PromptTruncated(message, f"{remedy}, or ask for fewer papers with -k.", partial)

    @staticmethod
    def _notes(run: _Run, hits: int, turns: int, reserved: int) -> tuple[str, ...]:
        notes = []
        reason, count = run.final.get("done_reason"), whole(run.final.get("eval_count"))
        if reason == "length" or (not reason and count >= reserved):  # old servers give no reason
            setting = "answer_tokens" if count >= reserved else "num_ctx"
            notes.append(f"The answer was cut off at {count} tokens; {setting} sets the limit.")
        if left := hits - len(run.prompt.given):
            notes.append(f"{left} of {hits} papers did not fit the model's context and were not read.")
        if left := turns - run.prompt.turns:
            notes.append(f"{left} of {turns} earlier turns did not fit the model's context.")
        if dropped := run.markers.dropped:
            were = "citation was" if dropped == 1 else "citations were"
            notes.append(f"{dropped} {were} dropped: no passage of that number was given.")
        return tuple(notes)


class _Run:
    """One stream as it comes: separates reasoning, normalises markers, keeps text and times."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.text = ""
        self.thought = False
        self.final: dict[str, Any] = {}
        self.markers = Markers(len(prompt.given))
        self._reasoning = Reasoning()
        self._began = time.perf_counter()
        self._first: float | None = None

    def read(self, line: dict[str, Any], last: bool = False) -> Iterator[Written]:
        if line.get("done"):
            self.final = line
        thinking, content = said(line)
        if self._first is None and (thinking or content):
            self._first = time.perf_counter()
        if thinking:
            self.thought = True
            yield Thinking(thinking)
        for kind, text in self._reasoning.feed(content, last):
            if kind == "thinking":
                self.thought = True
                yield Thinking(text)
            elif kind == "discard":
                self.text, self.thought, self.markers = "", True, Markers(self.markers.given)
                yield Discarded()
            else:
                yield from self._write(self.markers.feed(text))
        if last:
            yield from self._write(self.markers.feed("", last=True))

    def _write(self, text: str) -> Iterator[Written]:
        if text:
            self.text += text
            yield Delta(text)

    def draft(self, model: str, notes: tuple[str, ...]) -> Draft:
        given = self.prompt.given
        sentences = split_sentences(self.text, len(given))
        cited = sorted({n for sentence in sentences for n in sentence.citations})
        papers = [given[n - 1].paper for n in cited]
        citations = tuple(Citation(n, p.paper_id, p.title) for n, p in zip(cited, papers, strict=True))
        # A refusal that goes on to cite something is an answer, whatever it says first.
        abstained = bool(sentences) and not cited and words(sentences[0].text)[: len(_REFUSAL)] == _REFUSAL
        return Draft(self.text, abstained, model, sentences, citations, given, notes, self._timings())

    def _timings(self) -> dict[str, float]:
        """Milliseconds, and tokens per second as the server measured them."""
        now = time.perf_counter()
        timings = {"first_token": 1000 * ((self._first or now) - self._began), "generate": 1000 * (now - self._began)}
        count, nanoseconds = whole(self.final.get("eval_count")), whole(self.final.get("eval_duration"))
        if count:
            seconds = nanoseconds / 1e9 or now - (self._first or now)
            timings["tokens_per_second"] = count / seconds if seconds else 0.0
        return timings
