"""The Papers tab: a list to filter, and one paper in full."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gradio as gr

from rag.assistant import Assistant
from rag.errors import RagError, UsageError
from rag.types import Paper
from ui import view
from ui.layout import FOCUS, Page, listen

_DATE = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")
_MAX_RESULTS = 100  # of a search


class PapersTab:
    """Handlers of the Papers tab, for every visitor."""

    def __init__(self, page: Page, assistant: Assistant, papers: Sequence[Paper]) -> None:
        """`papers` are those of the whole corpus."""
        self._page, self._assistant, self._papers = page, assistant, papers

    def connect(self) -> None:
        """Connect the controls; call it inside the page's Blocks."""
        page = self._page
        filters: list[Any] = [page.query, page.dump, page.since, page.until]
        changes = [page.papers_tab.select, *(part.change for part in filters)]  # one listener: the last change wins
        inputs = [*filters, page.chosen]
        listen(gr.on, changes, self.browse, inputs=inputs, outputs=page.paper_list, trigger_mode="always_last")
        for html in (page.paper_list, page.paper):
            selected = listen(html.choose, self.show_paper, outputs=[page.paper, page.chosen])
            selected.then(None, js="() => window.ragShowPaper()")
            listen(html.question, self.ask_about, outputs=[page.question, page.tabs]).then(None, js=FOCUS)

    def browse(self, query: str, dump: str, since: str, until: str, chosen: str) -> str:
        """The papers within the filters."""
        try:
            papers = self._filtered(query, dump or "", since.strip(), until.strip())
        except RagError as error:
            return view.render("message", message=str(error))
        return view.paper_list(papers, chosen, ranked=bool(query.strip()))

    def show_paper(self, event: gr.EventData) -> tuple[Any, Any]:
        """The paper that was clicked, and its id."""
        for paper in self._assistant.find([str(event.paper)]):
            return view.paper_page(paper, self._assistant.similar(paper)), paper.paper_id
        return gr.skip(), gr.skip()

    def ask_about(self, event: gr.EventData) -> tuple[Any, Any]:
        """A question about the paper that was clicked, in the box of the Ask tab."""
        papers = self._assistant.find([str(event.paper)])
        question = f"What does “{papers[0].title}” propose?" if papers else gr.skip()
        return question, gr.Tabs(selected="ask")

    def _filtered(self, query: str, dump: str, since: str, until: str) -> list[Paper]:
        """The papers that `query` finds, best first (all papers if it has no words), within the filters.

        Dates are a year, a month or a day; a filter by date leaves out papers without one. Raises UsageError for
        another form.
        """
        for date in filter(None, (since, until)):
            if not _DATE.fullmatch(date):
                hint = "Write a year, a month or a day: 2024, 2024-05 or 2024-05-29."
                raise UsageError(f"{date} is not a date.", hint)
        papers = self._papers
        if any(character.isalnum() for character in query):
            papers = [hit.paper for hit in self._assistant.search(query, k=_MAX_RESULTS).hits]
        return [
            paper
            for paper in papers
            if (not dump or dump in paper.sources)
            and (not (since or until) or paper.date)
            and (not since or (paper.date or "") >= since)
            and (not until or (paper.date or "")[: len(until)] <= until)
        ]
