"""The corpus as the Papers tab browses it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from rag.assistant import Assistant
from rag.errors import UsageError
from rag.papers import Paper

_DATE = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")
_FOUND = 100  # papers a search lists


class Library:
    """The papers of one index: filtered and searched."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant, self.index = assistant, assistant.index

    @cached_property
    def papers(self) -> list[Paper]:
        """All papers, in the order of the corpus."""
        return self.index.papers()

    @cached_property
    def dumps(self) -> list[str]:
        """The files the papers came from."""
        return sorted({source for paper in self.papers for source in paper.sources})

    def by_id(self, ids: Iterable[str]) -> dict[str, Paper]:
        """The papers with these ids; unknown ids are left out."""
        return {r.paper.paper_id: r.paper for r in self.index.find(list(dict.fromkeys(ids)))}

    def browse(self, query: str = "", dump: str = "", since: str = "", until: str = "") -> list[Paper]:
        """The papers that `query` finds, best first (all of them without one), within the filters.

        Dates are a year, a month or a day; with one given, papers without a date are left out. Raises
        UsageError for another form.
        """
        since, until = since.strip(), until.strip()
        for date in (since, until):
            if date and not _DATE.fullmatch(date):
                raise UsageError(
                    f"{date} is not a date.", "Write a year, a month or a day: 2024, 2024-05 or 2024-05-29."
                )
        searched = any(c.isalnum() for c in query)
        found = [h.paper for h in self.assistant.search(query, k=_FOUND).hits] if searched else self.papers
        return [
            paper
            for paper in found
            if (not dump or dump in paper.sources)
            and (not (since or until) or paper.date)
            and (not since or (paper.date or "") >= since)
            and (not until or (paper.date or "")[: len(until)] <= until)
        ]
