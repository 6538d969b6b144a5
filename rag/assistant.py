"""`Assistant`: the one way a question takes through the program.

    question -> Retriever.search -> answerer -> Answer

Every face (command line, chat, evaluation) calls this and renders what it yields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

from rag.answering import Answer, Event, Finished, Searched, Turn, extractive
from rag.index.store import Index
from rag.retrieval import Retriever, Search
from rag.settings import Settings


class Assistant:
    """Answers questions over one open index."""

    def __init__(self, index: Index, settings: Settings) -> None:
        self.index, self.settings = index, settings
        self.retriever = Retriever(index, settings)

    @classmethod
    def open(cls, settings: Settings | None = None) -> Assistant:
        """An assistant on the index the settings name (`Settings.load()` by default).

        Raises IndexMissing, IndexUnfit or IndexDamaged.
        """
        settings = settings or Settings.load()
        return cls(Index.open(settings), settings)

    def search(self, question: str, k: int | None = None) -> Search:
        """Retrieval alone. Raises UsageError for an empty or oversized question."""
        return self.retriever.search(question, k=k)

    def stream(self, question: str, history: Sequence[Turn] = ()) -> Iterator[Event]:
        """The events of one answer; the last is `Finished`. Raises what `search` raises."""
        from dataclasses import replace

        started = perf_counter()
        search = self.search(question)
        searched = perf_counter()
        yield Searched(search)
        answer = extractive.answer(self.retriever, search, self.settings)
        done = perf_counter()
        timings = {
            "search": (searched - started) * 1000,
            "answer": (done - searched) * 1000,
            "total": (done - started) * 1000,
        }
        yield Finished(replace(answer, timings_ms=timings))

    def ask(self, question: str, history: Sequence[Turn] = ()) -> Answer:
        """The answer to `question`, whole. Raises what `stream` raises."""
        for event in self.stream(question, history):
            if isinstance(event, Finished):
                return event.answer
        raise AssertionError("a stream ends with Finished")
