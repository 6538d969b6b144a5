"""Answers under way, each on its own thread, so that a wait for a model can be ended from outside."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, cast

from rag.answering.citations import split_sentences
from rag.errors import RagError
from rag.llm.ollama import OllamaClient
from rag.types import Delta, Discarded, Draft, FellBack, Finished, Prompted, Searched, Thinking

if TYPE_CHECKING:
    from collections.abc import Generator

    from rag.assistant import Assistant
    from rag.types import Answer, Event, Paper, SearchResult, Turn

_BATCH_SECONDS = 0.05  # between two batches of events: smooth to read, cheap to draw
_IDLE_SECONDS = 1.0  # after which an empty batch comes, so that the clock of the stage goes on


class Run:
    """The events of one `Assistant.stream`. `stop` ends it at once, even while a model is silent.

    A run has a client of its own, which the answerer and the judges use: closing it ends what any of them waits for.
    """

    def __init__(self, assistant: Assistant, question: str, history: Sequence[Turn]) -> None:
        self.stopped = False
        self.loading = False  # whether the server has to load the model first
        self._client = OllamaClient.from_settings(assistant.settings.llm)
        self._assistant = assistant.configured(client=self._client)
        self._question, self._history = question, history
        self._queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        Thread(target=self._work, name="answer", daemon=True).start()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """The events since the last batch, perhaps none. Raises what the assistant raises, unless stopped."""
        while True:
            items: list[Event | Exception | None] = []
            with suppress(TimeoutError):
                items.append(await asyncio.wait_for(self._queue.get(), _IDLE_SECONDS))
            while not self._queue.empty():
                items.append(self._queue.get_nowait())
            yield [item for item in items if item is not None and not isinstance(item, Exception)]
            for item in items:
                if isinstance(item, Exception) and not self.stopped:
                    raise item
                if item is None:
                    return
            await asyncio.sleep(_BATCH_SECONDS)

    def stop(self) -> None:
        """End the answer. The connection to the server is closed, so that it stops generating."""
        self.stopped = True
        self._client.close()

    def _work(self) -> None:
        try:
            stream = self._assistant.stream(self._question, self._history)
            with closing(cast("Generator[Event, None, None]", stream)) as events:
                for event in events:
                    if self.stopped:
                        break
                    if isinstance(event, Prompted):
                        self.loading = not {event.model, f"{event.model}:latest"} & self._client.loaded().keys()
                    self._put(event)
        except RagError as error:
            self._put(error)
        except Exception as error:
            if not self.stopped:
                traceback.print_exc(file=sys.stderr)
            self._put(error)
        finally:
            self._put(None)

    def _put(self, item: Event | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: the app has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


class Progress:
    """The state of an answer after the events so far."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self.search: SearchResult | None = None
        self._model, self._text, self._thinking = "", "", False
        self._context: tuple[Paper, ...] = ()
        self._first_text: float | None = None  # seconds until the first word
        self.fallback: FellBack | None = None
        self.answer: Answer | None = None

    @property
    def draft(self) -> Draft | None:
        """What a model has written so far, if anything."""
        if not (self.search and self._text and self._model):
            return None
        return Draft(
            search=self.search,
            text=self._text,
            mode="generative",
            context=self._context,
            sentences=split_sentences(self._text, len(self._context)),
            model=self._model,
        )

    def add(self, event: Event) -> None:
        """Add one event."""
        match event:
            case Searched(search):
                self.search = search
            case Prompted(model, context):
                self._model, self._context = model, context
            case Thinking():
                self._thinking = True
            case Delta(text):
                self._text += text
                self._first_text = self._first_text or perf_counter() - self._started
            case Discarded():
                self._text, self._thinking = "", True
            case FellBack():
                self._text, self._model, self.fallback = "", "", event
            case Finished(answer):
                self.answer = answer

    def stage(self, papers: int, loading: bool) -> str:
        """The stage in words, with a clock after two seconds; `papers` is the size of the corpus."""
        seconds = perf_counter() - self._started
        if self.search is None:
            stage = f"Searching {papers} papers"
        elif self.fallback:
            stage = self.fallback.message
        elif self._text and self._first_text:
            return f"Writing · first words after {self._first_text:.1f} s"
        elif self._thinking:
            stage = f"{self._model} is thinking"
        elif self._model and loading:
            stage = f"{self._model} is being loaded, then reads {len(self._context)} papers"
        elif self._model:
            stage = f"{self._model} reads {len(self._context)} papers"
        else:
            stage = f"Found {len(self.search.hits)} papers"
        return f"{stage} · {seconds:.0f} s" if seconds >= 2 else f"{stage} …"
