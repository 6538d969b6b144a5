"""The layout of the page: its components, without what they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from rag.settings import Settings
from ui import view
from ui.choices import MAX_PAPERS, mode_choices

MAX_CONCURRENT = 32  # answers under way; further questions wait in line, and the page shows their place
_CLICKS = """element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-paper], [data-ask]');
  if (button?.dataset.ask) trigger('question', {paper: button.dataset.ask});
  else if (button) trigger('choose', {paper: button.dataset.paper});
})"""
FOCUS = "() => document.querySelector('#question textarea').focus()"


class Page:
    """The components of the page."""

    def __init__(self, settings: Settings, papers: int, examples: Sequence[str], dumps: Sequence[str]) -> None:
        """`papers` is the size of the corpus; `examples` are questions, `dumps` the files to filter papers by."""
        self.blocks = gr.Blocks(title="rag", analytics_enabled=False, fill_width=True)
        with self.blocks:
            self.entries = gr.State([])
            self.saved = gr.BrowserState([], storage_key="rag-conversation", secret="rag")
            self._settings_panel(settings)
            with gr.Row(elem_classes="top"):
                _html("<header><h1>rag</h1></header>")
                gr.Button("Settings", size="sm").click(None, js="() => window.ragSettings()")
            with gr.Tabs(elem_id="tabs") as self.tabs:
                with gr.Tab("Ask", id="ask"):
                    self._ask_tab(papers, examples)
                with gr.Tab("Papers", id="papers") as self.papers_tab:
                    self._papers_tab(dumps)
                with gr.Tab("Evaluation", id="evaluation") as self.evaluation_tab:
                    self.report = _html()
            self.timer = gr.Timer(3)

    def _settings_panel(self, settings: Settings) -> None:
        mode = "extractive" if settings.answering.mode == "extractive" else "auto"
        k = min(settings.retrieval.k, MAX_PAPERS)
        with gr.Sidebar(label="Settings", open=False, width=340, position="right", elem_id="settings"):
            _html("<h2>Settings</h2>")
            self.mode = gr.Radio(
                mode_choices(), value=mode, label="Answers by", info="Automatic uses a model if one is available."
            )
            self.k = gr.Slider(1, MAX_PAPERS, value=k, step=1, label="Papers to read")
            self.strict = gr.Checkbox(settings.verification.strict, label="Leave out unsupported sentences")
            self.scores = gr.Checkbox(False, label="Show retrieval scores")

    def _ask_tab(self, papers: int, examples: Sequence[str]) -> None:
        self.banner = _html()
        self.welcome = _html(view.render("welcome", papers=papers), elem_id="welcome")
        self.thread = _html(elem_id="thread")
        self.live = _html(elem_id="live")
        with gr.Column(elem_id="composer"):
            with gr.Row(elem_classes="tools", visible=False) as self.tools:
                self.retry, self.edit, self.undo, self.export, self.clear = (
                    gr.Button(name, size="sm") for name in ("Retry", "Edit", "Undo", "Export", "Clear")
                )
            with gr.Row(elem_classes="entry"):
                self.question = gr.Textbox(
                    label="Question", show_label=False, placeholder="Ask the papers …", lines=1, max_lines=6,
                    scale=1, autofocus=True, elem_id="question", max_length=20_000,
                )  # fmt: skip
                self.send = gr.Button("Ask", variant="primary", scale=0, min_width=80)
                self.stop = gr.Button("Stop", variant="stop", scale=0, min_width=80, visible=False)
        with gr.Column(elem_id="examples") as self.suggestions:
            self.examples = [gr.Button(question, size="sm", elem_classes="example") for question in examples]
        self.exported = gr.Textbox(visible="hidden", show_label=False, label="Exported")

    def _papers_tab(self, dumps: Sequence[str]) -> None:
        choices = [("All", ""), *((view.dump_name(dump), dump) for dump in dumps)]
        with gr.Row(elem_classes="filters"):
            self.query = gr.Textbox(label="Search", placeholder="Words or a question", scale=3, elem_id="query")
            self.dump = gr.Dropdown(choices, value="", label="Dump", scale=2)
            self.since = gr.Textbox(label="From", placeholder="2024-05", scale=1, min_width=90)
            self.until = gr.Textbox(label="To", placeholder="2025", scale=1, min_width=90)
        with gr.Row(elem_classes="shelves"):
            self.paper_list = _html(js_on_load=_CLICKS, elem_id="list")
            self.paper = _html(js_on_load=_CLICKS, elem_id="paper-view")
        self.chosen = gr.State("")


def listen(event: Any, *arguments: Any, **options: Any) -> Any:
    """Listen to `event` without Gradio's progress overlay, and without a public endpoint."""
    defaults = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": MAX_CONCURRENT}
    return event(*arguments, **(defaults | options))


def _html(value: str = "", **options: Any) -> gr.HTML:
    return gr.HTML(value, **({"apply_default_css": False, "js_on_load": None} | options))
