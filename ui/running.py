"""Answers in the making: each on a thread of its own, so that a wait for the model can be ended from outside."""

from __future__ import annotations

import asyncio
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from copy import copy
from threading import Lock, Thread
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, cast

from rag.answering import Answer, Broken, Delta, Discarded, Finished, Reading, Searched, Thinking
from rag.answering.generative import OllamaAnswerer
from rag.answering.ollama import Address, Model, Server, listening
from rag.errors import ModelUnavailable, RagError

if TYPE_CHECKING:
    from collections.abc import Generator

    from rag.answering import Event, Turn
    from rag.assistant import Assistant
    from rag.retrieval import Search
    from rag.settings import Settings

PACE = 0.05  # seconds between two looks at what has come: smooth to read, cheap to draw
PATIENCE = 1.0  # seconds after which a look returns with nothing, so that a clock can go on


class Run:
    """The events of one `Assistant.stream`; `stop` ends it at once, even while the model is silent."""

    def __init__(self, assistant: Assistant, question: str, history: Sequence[Turn]) -> None:
        self.stopped = False
        self.loading = False  # whether the model has to be loaded before it reads
        self._line = cast(_Line, _Line.of(assistant.settings))
        self._assistant = copy(assistant)
        self._assistant.writer = OllamaAnswerer(assistant.settings, self._line)
        self._asked = question, history
        self._came: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        Thread(target=self._work, name="answer", daemon=True).start()

    async def looks(self) -> AsyncIterator[list[Event]]:
        """The events that have come since the last look, perhaps none. Raises what the assistant raised."""
        while True:
            batch: list[Event | Exception | None] = []
            with suppress(TimeoutError):
                batch.append(await asyncio.wait_for(self._came.get(), PATIENCE))
            while not self._came.empty():
                batch.append(self._came.get_nowait())
            yield [item for item in batch if item is not None and not isinstance(item, Exception)]
            for item in batch:
                if isinstance(item, Exception) and not self.stopped:
                    raise item
                if item is None:
                    return
            await asyncio.sleep(PACE)

    def stop(self) -> None:
        """End the answer: the connection to the model is closed, on which its server stops generating."""
        self.stopped = True
        self._line.hang_up()

    def _work(self) -> None:
        try:
            with closing(cast("Generator[Event, None, None]", self._assistant.stream(*self._asked))) as events:
                for event in events:
                    if self.stopped:
                        break
                    if isinstance(event, Reading):
                        loaded = self._line.loaded()
                        self.loading = not {event.model, f"{event.model}:latest"} & loaded.keys()
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
            self._loop.call_soon_threadsafe(self._came.put_nowait, item)


class Progress:
    """What the events so far add up to."""

    def __init__(self) -> None:
        self.began = perf_counter()
        self.search: Search | None = None
        self.model, self.given, self.text = "", 0, ""
        self.thinking = False
        self.first: float | None = None  # seconds until the first word
        self.broken: Broken | None = None
        self.answer: Answer | None = None

    def take(self, event: Event) -> None:
        """Add one event."""
        match event:
            case Searched(search):
                self.search = search
            case Reading(model, papers):
                self.model, self.given = model, papers
            case Thinking():
                self.thinking = True
            case Delta(text):
                self.text += text
                self.first = self.first or perf_counter() - self.began
            case Discarded():
                self.text, self.thinking = "", True
            case Broken():
                self.text, self.broken = "", event
            case Finished(answer):
                self.answer = answer

    def stage(self, papers: int, loading: bool) -> str:
        """What is being done, in words; with a clock once it takes a while."""
        seconds = perf_counter() - self.began
        if self.search is None:
            stage = f"Searching {papers} papers"
        elif self.broken:
            stage = self.broken.message
        elif self.text and self.first:
            return f"Writing · first words after {self.first:.1f} s"
        elif self.thinking:
            stage = f"{self.model} is thinking"
        elif self.model and loading:
            stage = f"{self.model} is being loaded, then reads {self.given} papers"
        elif self.model:
            stage = f"{self.model} reads {self.given} papers"
        else:
            stage = f"Found {len(self.search.hits)} papers"
        return f"{stage} · {seconds:.0f} s" if seconds >= 2 else f"{stage} …"


class Offer:
    """The models that the Ollama server offers now; None where no server answers. Asked at most once a second."""

    def __init__(self, settings: Settings) -> None:
        self._server = Server.of(settings)
        self._timeout = min(settings.connect_timeout, 1.0)
        self._lock, self._asked = Lock(), float("-inf")
        self._models: tuple[Model, ...] | None = None
        self._answers: dict[str, bool] = {}

    @property
    def where(self) -> Address:
        """Where the server should be."""
        return self._server.where

    def models(self) -> tuple[Model, ...] | None:
        """Those that can answer, the latest first."""
        with self._lock:
            if monotonic() - self._asked >= 1:
                self._models = self._ask()
                self._asked = monotonic()
            return self._models

    def _ask(self) -> tuple[Model, ...] | None:
        if not listening(self.where, self._timeout):
            return None
        try:
            return tuple(m for m in self._server.models() if self._can_answer(m.name))
        except ModelUnavailable:
            return None

    def _can_answer(self, name: str) -> bool:
        if name not in self._answers:
            self._answers[name] = self._server.show(name).answers
        return self._answers[name]


class _Line(Server):
    """A server whose exchanges another thread can end: a read that waits returns at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sockets: list[socket.socket] = []
        self._hung_up = False

    def _open(self) -> socket.socket:
        self._sockets.append(sock := super()._open())
        if self._hung_up:
            self.hang_up()
        return sock

    def hang_up(self) -> None:
        """End every exchange, also those that are about to begin."""
        self._hung_up = True
        for sock in self._sockets:
            with suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)
