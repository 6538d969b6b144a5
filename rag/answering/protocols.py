"""`Answerer`: the interface of a part that turns a search into a draft."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from rag.types import AnswererEvent, Draft, Mode, SearchResult, Turn


class Answerer(Protocol):
    """Writes the answer to a question from the retrieved papers."""

    @property
    def mode(self) -> Mode:
        """Who writes the answer."""
        ...

    def stream(
        self, search: SearchResult, history: Sequence[Turn] = ()
    ) -> Generator[AnswererEvent | Draft, None, None]:
        """The events of one answer to `search.question`; the last is the one Draft.

        `history` is the conversation so far, oldest turn first. Closing the iterator ends the work.
        """
        ...
