"""The page: its layout, and what each control does. Gradio is imported here and nowhere else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any, cast

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
from gradio.events import api
from starlette.middleware import Middleware

from rag.answering import Turn
from rag.assistant import Assistant
from rag.errors import RagError, UsageError
from ui import view
from ui.export import markdown
from ui.guard import Guard
from ui.library import Library
from ui.running import Offer, Progress, Run
from ui.view import Entry

HERE = Path(__file__).parent
MOST_PAPERS = 20  # of one answer
AT_ONCE = 32  # answers in the making; more wait in line, and see their place
LONGEST_REPORT = 20_000_000  # bytes
EXAMPLES = {  # question -> a paper it is about: an example is offered where that paper is in the corpus
    "What mitigates forgetting?": "reinforcement-fine-tuning-naturally-",
    "How do PROP and B-PROP differ?": "b-prop-",
    "Which papers align vision and language?": "jina-clip-v2-",
    "How is Tulu 3 trained?": "tulu-3-",
}
CLICKS = """element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-paper], [data-ask]');
  if (button?.dataset.ask) trigger('question', {paper: button.dataset.ask});
  else if (button) trigger('choose', {paper: button.dataset.paper});
})"""
FOCUS = "() => document.querySelector('#question textarea').focus()"
DOWNLOAD = "(text) => window.ragDownload('conversation.md', text)"


class Page:
    """One app over one index. What a visitor has asked is kept in the visitor's own session and browser."""

    def __init__(self, assistant: Assistant, report: Path) -> None:
        self.settings, self.report = assistant.settings, report
        self.index = assistant.index
        self.library = Library(assistant)
        self.offer = Offer(assistant.settings)
        self.running: dict[str, Run] = {}
        self.assistant = lru_cache(maxsize=32)(self._assistant)

    # --- layout ------------------------------------------------------------------------------------------

    def blocks(self) -> gr.Blocks:
        """The whole page."""
        app = gr.Blocks(title="rag", analytics_enabled=False, fill_width=True)
        with app:
            self.entries = gr.State([])
            self.saved = gr.BrowserState([], storage_key="rag-conversation", secret="rag")
            self._settings_panel()
            with gr.Row(elem_classes="top"):
                _html("<header><h1>rag</h1></header>")
                gr.Button("Settings", size="sm").click(None, js="() => window.ragSettings()")
            with gr.Tabs(elem_id="tabs") as self.tabs:
                with gr.Tab("Ask", id="ask"):
                    self._ask_tab()
                with gr.Tab("Papers", id="papers") as papers:
                    self._papers_tab()
                with gr.Tab("Evaluation", id="evaluation") as evaluation:
                    self.frame = _html()
            self.timer = gr.Timer(3)
            self._wire_conversation(app)
            self._wire_papers(papers)
            _quietly(evaluation.select, self.show_report, outputs=self.frame)
            api(self.ask, api_name="ask", concurrency_limit=AT_ONCE)
            api(self.search, api_name="search", concurrency_limit=AT_ONCE)
        return app

    def _settings_panel(self) -> None:
        settings = self.settings
        with gr.Sidebar(label="Settings", open=False, width=340, position="right", elem_id="settings"):
            _html("<h2>Settings</h2>")
            self.choices = [("Automatic", "auto"), ("Quotations only", "extractive")]
            value = "extractive" if settings.mode == "extractive" else "auto"
            self.mode = gr.Radio(
                self.choices, value=value, label="Answers by", info="Automatic takes a model where one answers."
            )
            self.k = gr.Slider(1, MOST_PAPERS, value=min(settings.k, MOST_PAPERS), step=1, label="Papers to read")
            self.strict = gr.Checkbox(settings.strict, label="Leave out unsupported sentences")
            self.scores = gr.Checkbox(False, label="Show retrieval scores")

    def _ask_tab(self) -> None:
        self.banner = _html()
        self.welcome = _html(view.welcome(len(self.index)), elem_id="welcome")
        self.thread = _html(elem_id="thread")
        self.live = _html(elem_id="live")
        with gr.Column(elem_id="composer"):
            with gr.Row(elem_classes="tools", visible=False) as self.tools:
                self.retry = gr.Button("Retry", size="sm")
                self.edit = gr.Button("Edit", size="sm")
                self.undo = gr.Button("Undo", size="sm")
                self.export = gr.Button("Export", size="sm")
                self.clear = gr.Button("Clear", size="sm")
            with gr.Row(elem_classes="entry"):
                self.box = gr.Textbox(
                    label="Question", show_label=False, placeholder="Ask the papers …", lines=1, max_lines=6,
                    scale=1, autofocus=True, elem_id="question", max_length=20_000,
                )  # fmt: skip
                self.send = gr.Button("Ask", variant="primary", scale=0, min_width=80)
                self.stop = gr.Button("Stop", variant="stop", scale=0, min_width=80, visible=False)
        with gr.Column(elem_id="examples") as self.suggested:
            known = [paper.paper_id for paper in self.library.papers]
            self.examples = [
                gr.Button(question, size="sm", elem_classes="example")
                for question, start in EXAMPLES.items()
                if any(paper_id.startswith(start) for paper_id in known)
            ]
        self.exported = gr.Textbox(visible="hidden", show_label=False, label="Exported")

    def _papers_tab(self) -> None:
        with gr.Row(elem_classes="filters"):
            self.query = gr.Textbox(label="Search", placeholder="Words or a question", scale=3, elem_id="query")
            self.dump = gr.Dropdown(
                [("All", ""), *((view.dump(name), name) for name in self.library.dumps)],
                value="",
                label="Dump",
                scale=2,
            )
            self.since = gr.Textbox(label="From", placeholder="2024-05", scale=1, min_width=90)
            self.until = gr.Textbox(label="To", placeholder="2025", scale=1, min_width=90)
        with gr.Row(elem_classes="shelves"):
            self.list = _html(js_on_load=CLICKS, elem_id="list")
            self.paper = _html(js_on_load=CLICKS, elem_id="paper-view")
        self.chosen = gr.State("")

    # --- wiring ------------------------------------------------------------------------------------------

    def _wire_conversation(self, app: gr.Blocks) -> None:
        frame: Any = [self.thread, self.live, self.entries, self.saved, self.tools, self.welcome, self.suggested]
        frame += [self.box, self.send, self.stop]
        asked: dict[str, Any] = {
            "fn": self.answer,
            "inputs": [self.box, self.entries, self.mode, self.k, self.strict, self.scores],
            "outputs": frame,
            "concurrency_limit": AT_ONCE,
            "concurrency_id": "answer",
        }
        back: dict[str, Any] = {
            "fn": self.take_back,
            "inputs": [self.entries, self.scores],
            "outputs": frame,
            "queue": False,
        }
        _quietly(gr.on, triggers=[self.box.submit, self.send.click], trigger_mode="multiple", **asked)
        for button in self.examples:
            put = _quietly(button.click, lambda text=button.value: text, outputs=self.box, queue=False)
            _quietly(put.then, **asked)
        _quietly(_quietly(self.retry.click, **back).then, **asked)
        _quietly(self.edit.click, **back).then(None, js=FOCUS)
        _quietly(_quietly(self.undo.click, **back).then, lambda: "", outputs=self.box, queue=False).then(None, js=FOCUS)
        _quietly(self.clear.click, lambda: self.frame_of([], False), outputs=frame, queue=False).then(None, js=FOCUS)
        text = _quietly(self.export.click, self.exported_text, inputs=self.entries, outputs=self.exported, queue=False)
        text.then(None, self.exported, js=DOWNLOAD)
        _quietly(self.stop.click, self.halt, queue=False)
        scored = [self.entries, self.scores]
        _quietly(self.scores.change, self.redraw, inputs=scored, outputs=self.thread, queue=False)
        _quietly(app.load, self.restore, inputs=[self.saved, self.scores], outputs=frame, queue=False)
        app.unload(self.halt)  # closing the page stops its answer too
        seen = gr.State("unknown")
        watched = [seen, self.banner, self.mode]
        for tick in (app.load, self.timer.tick):
            _quietly(tick, self.watch, inputs=[seen, self.mode], outputs=watched, queue=False)

    def _wire_papers(self, tab: gr.Tab) -> None:
        filters: list[Any] = [self.query, self.dump, self.since, self.until]
        changed = [tab.select, *(part.change for part in filters)]  # one listener, so that the last change wins
        inputs = [*filters, self.chosen]
        _quietly(gr.on, changed, self.browse, inputs=inputs, outputs=self.list, trigger_mode="always_last")
        for html in (self.list, self.paper):
            picked = _quietly(html.choose, self.show_paper, outputs=[self.paper, self.chosen])
            picked.then(None, js="() => window.ragShowPaper()")
            _quietly(html.question, self.ask_about, outputs=[self.box, self.tabs]).then(None, js=FOCUS)

    # --- the conversation --------------------------------------------------------------------------------

    async def answer(
        self, question: str, entries: list[Entry], mode: str, k: int, strict: bool, scores: bool, request: gr.Request
    ) -> AsyncIterator[dict[Any, Any]]:
        """Answer `question`, showing each stage. While it runs, another question of this session is not taken."""
        session = str(request.session_hash)
        question = question.strip()
        if mode == "auto" and await asyncio.to_thread(self.offer.models) is None:
            mode = "extractive"  # as the banner says
        if not question or session in self.running:
            yield {self.live: gr.skip()}
            return
        progress, done = Progress(), None
        history = [Turn(e["question"], e["answer"]) for e in entries if not e.get("stopped")]
        run = self.running[session] = Run(self.assistant(mode, int(k), bool(strict)), question, history)
        try:
            hidden = {part: gr.update(visible=False) for part in (self.tools, self.welcome, self.suggested, self.send)}
            yield hidden | {self.box: "", self.stop: gr.update(visible=True)}
            async for events in run.looks():
                for event in events:
                    progress.take(event)
                if progress.answer is None:
                    yield {self.live: self._live(question, progress, run.loading)}
            done = self._entry(progress)
            message = ""
        except RagError as error:
            message = str(error)
        except Exception as error:
            message = f"Something went wrong ({type(error).__name__}: {error}); the terminal shows where."
        finally:
            run.stop()
            self.running.pop(session, None)
        frame = self.frame_of([*entries, done] if done else entries, scores)
        if not done:
            frame[self.box] = question  # to be asked again, or changed
        if message:
            hidden = {part: gr.update(visible=False) for part in (self.welcome, self.suggested)}
            frame |= hidden | {self.live: view.failure(question, message)}
        yield frame

    def _live(self, question: str, progress: Progress, loading: bool) -> str:
        stage = progress.stage(len(self.index), loading)
        if not (progress.search and progress.text and progress.model):
            return view.live(question, stage, None, {})
        papers = {hit.paper.paper_id: hit.paper for hit in progress.search.hits}
        item = view.unfinished(progress.search, progress.text, progress.model, progress.given)
        return view.live(question, stage, item, papers)

    def _entry(self, progress: Progress) -> Entry | None:
        """What becomes of a run that has ended: its answer, what a stopped model had written, or nothing."""
        broken = progress.broken and progress.broken.partial and {
            "message": progress.broken.message, "partial": progress.broken.partial
        }  # fmt: skip
        if progress.answer:
            return view.entry(progress.answer, broken=broken or None)
        if progress.search and progress.text:
            return view.unfinished(progress.search, progress.text, progress.model, progress.given, stopped=True)
        return None

    def halt(self, request: gr.Request) -> None:
        """Stop the answer of this session."""
        if run := self.running.get(str(request.session_hash)):
            run.stop()

    def take_back(self, entries: list[Entry], scores: bool) -> dict[Any, Any]:
        """The conversation without its last exchange, whose question goes back into the box."""
        last = entries[-1]["question"] if entries else ""
        return self.frame_of(entries[:-1], scores) | {self.box: last}

    def frame_of(self, entries: list[Entry], scores: bool) -> dict[Any, Any]:
        """Everything on the page that depends on the conversation, while nothing is being answered."""
        return {
            self.thread: self.redraw(entries, scores),
            self.live: "",
            self.entries: entries,
            self.saved: entries,
            self.tools: gr.update(visible=bool(entries)),
            self.welcome: gr.update(visible=not entries),
            self.suggested: gr.update(visible=not entries),
            self.send: gr.update(visible=True),
            self.stop: gr.update(visible=False),
        }

    def redraw(self, entries: Sequence[Entry], scores: bool) -> str:
        """The conversation as HTML."""
        return view.conversation(entries, self._papers_of(entries), scores)

    def restore(self, saved: Any, scores: bool) -> dict[Any, Any]:
        """The conversation this browser had saved; a new one if that cannot be shown any more."""
        try:
            return self.frame_of(list(saved or []), scores)
        except Exception:  # whatever another version, or a person, has left there
            return self.frame_of([], scores)

    def exported_text(self, entries: Sequence[Entry]) -> str:
        """The conversation as Markdown."""
        return markdown(entries, self._papers_of(entries))

    def watch(self, seen: Any, mode: str) -> tuple[Any, Any, Any]:
        """The banner and the list of models, where the server or its models have changed since they were `seen`."""
        models = self.offer.models()
        now = None if models is None else [model.name for model in models]
        if now == seen:
            return gr.skip(), gr.skip(), gr.skip()
        choices = [*self.choices, *((view.label(m), f"model:{m.name}") for m in models or ())]
        update: dict[str, Any] = {"choices": choices}
        if mode not in [value for _, value in choices]:
            update["value"] = "auto"  # otherwise the choice is left alone: it may have changed since
        return now, view.banner(self.offer.where) if now is None else "", gr.update(**update)

    def _papers_of(self, entries: Sequence[Entry]) -> view.Papers:
        return self.library.by_id(hit["paper_id"] for entry in entries for hit in entry["hits"])

    def _assistant(self, mode: str, k: int, strict: bool) -> Assistant:
        """The assistant with the settings of the side panel."""
        kind, _, llm = mode.partition(":")
        if kind not in ("auto", "extractive", "model") or bool(llm) != (kind == "model"):
            raise UsageError(f"There is no mode {mode!r}.", 'Use "auto", "extractive" or "model:NAME".')
        kind, llm = "extractive" if kind == "extractive" else "auto", llm or self.settings.llm
        k = max(1, min(k, MOST_PAPERS))
        fresh = Assistant(self.index, replace(self.settings, mode=kind, llm=llm, k=k, strict=strict))
        fresh.retriever.encoder = self.library.assistant.retriever.encoder  # one for all
        return fresh

    def warm(self) -> None:
        """Load what the first question would have to wait for."""
        self.assistant("extractive", self.settings.k, False).ask("What is this corpus about?")

    # --- papers and report -------------------------------------------------------------------------------

    def browse(self, query: str, dump: str, since: str, until: str, chosen: str) -> str:
        """The papers within the filters."""
        try:
            return view.listing(self.library.browse(query, dump or "", since, until), chosen, bool(query.strip()))
        except RagError as error:
            return view.problem(str(error))

    def show_paper(self, event: gr.EventData) -> tuple[Any, Any]:
        """One paper and its neighbours."""
        found = self.library.by_id([str(event.paper)])
        if not found:
            return gr.skip(), gr.skip()
        (paper,) = found.values()
        return view.detail(paper, self.library.assistant.retriever.neighbours(paper)), paper.paper_id

    def ask_about(self, event: gr.EventData) -> tuple[Any, Any]:
        """A question about one paper, ready to be sent."""
        paper = self.library.by_id([str(event.paper)]).get(str(event.paper))
        return (f"What does “{paper.title}” propose?" if paper else gr.skip()), gr.Tabs(selected="ask")

    def show_report(self) -> str:
        """The latest evaluation report."""
        path = self.report / "report.html"
        try:
            if path.stat().st_size > LONGEST_REPORT:
                return view.problem(f"{path} is too large to be shown here.")
            written = datetime.fromtimestamp(path.stat().st_mtime)
            return view.report(path.read_text(encoding="utf-8", errors="replace"), f"{written:%Y-%m-%d %H:%M}")
        except OSError:
            return view.problem(f"No report yet in {self.report}/. `rag eval` writes one.")

    # --- for programs ------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        k: int = 5,
        mode: str = "auto",
        history: list[dict[str, str]] | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer a question from the corpus of paper abstracts, every sentence with its source.

        Args:
            question: the question, in plain words.
            k: papers to read, 1 to 20.
            mode: "auto" (a model where one answers), "extractive" (quotations), or "model:NAME".
            history: earlier exchanges, as {"question": ..., "answer": ...}.

        Returns:
            The JSON object of `rag ask --json`: answer, sentences with verdicts, citations with evidence.
        """
        try:
            turns = [Turn(str(turn["question"]), str(turn["answer"])) for turn in history or []]
            found = self.assistant(mode, int(k), self.settings.strict).ask(question, turns)
        except (KeyError, TypeError) as error:
            raise gr.Error('history must be a list of {"question", "answer"}.', print_exception=False) from error
        except RagError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return _result(found.as_json(), request)

    def search(self, question: str, k: int = 5, request: gr.Request | None = None) -> dict[str, Any]:
        """Find the papers that fit a question best, with their scores.

        Args:
            question: a question, or words.
            k: papers to return, 1 to 100.

        Returns:
            The JSON object of `rag search --json`: the hits, best first, each with its best passage.
        """
        try:
            found = self.library.assistant.search(question, k=max(1, min(int(k), 100)))
        except RagError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return _result(found.as_json(), request)


def serve(
    assistant: Assistant,
    host: str,
    port: int | None,
    account: tuple[str, str] | None,
    mcp: bool,
    report: Path,
) -> gr.Blocks:
    """Serve the app; the running Blocks. Raises UsageError for a port that is taken, or `mcp` without its package."""
    if mcp and not find_spec("mcp"):  # Gradio would go on without it, and say nothing
        raise UsageError("The package `mcp` is not installed.", 'Install it with: pip install "mcp>=1.21,<2"')
    page = Page(assistant, report)
    app = page.blocks()
    hosts = () if account else ("127.0.0.1", "localhost", "[::1]", host)
    options: dict[str, Any] = {
        "theme": _theme(),
        "css": (HERE / "style.css").read_text(encoding="utf-8"),
        "head": f"<script>{(HERE / 'behaviour.js').read_text(encoding='utf-8')}</script>",
        "app_kwargs": {"middleware": [Middleware(Guard, hosts=hosts)], "docs_url": None, "redoc_url": None},
        "footer_links": [],
        "max_file_size": 1,
        "quiet": True,
        **dict.fromkeys(("share", "run_history", "enable_monitoring", "ssr_mode", "pwa", "show_error"), False),
    }
    try:
        with redirect_stdout(StringIO()):  # what Gradio has to say is said below
            app.launch(
                server_name=host, server_port=port, auth=account, mcp_server=mcp, prevent_thread_lock=True, **options
            )
    except OSError as error:
        raise UsageError(
            f"Cannot serve on {host}:{port or 7860}: {error}.", "Choose another port with --port."
        ) from error
    Thread(target=page.warm).start()  # not before: the page comes first
    return app


def _result(value: dict[str, Any], request: gr.Request | None) -> dict[str, Any]:
    """`value`; as JSON text for MCP, where Gradio would send Python's way of writing it."""
    result: Any = value
    if request is not None and request.headers.get("x-gradio-user") == "mcp":
        result = json.dumps(value, ensure_ascii=False)
    return cast("dict[str, Any]", result)


def _html(value: str = "", **more: Any) -> gr.HTML:
    return gr.HTML(value, **({"apply_default_css": False, "js_on_load": None} | more))


def _quietly(listen: Any, *arguments: Any, **more: Any) -> Any:
    """Listen without Gradio's progress overlay, and without an endpoint for others to call."""
    usual = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": AT_ONCE}
    return listen(*arguments, **(usual | more))


def _theme() -> gr.themes.Base:
    """System colours and bundled fonts: nothing is fetched from elsewhere."""
    fonts = gr.themes.utils.fonts
    return gr.themes.Base(  # of Gradio's own fonts, these hold the whole alphabet
        primary_hue="teal",
        neutral_hue="stone",
        font=[fonts.LocalFont("Source Sans Pro", (400, 700)), fonts.Font("system-ui"), fonts.Font("sans-serif")],
        font_mono=[fonts.LocalFont("IBM Plex Mono", (400,)), fonts.Font("monospace")],
    )
