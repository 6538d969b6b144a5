"""The Ask tab: what its controls do with the conversation, which is kept in the visitor's session and browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr

from rag.assistant import Assistant
from rag.errors import RagError
from rag.types import Turn
from ui import view
from ui.choices import AvailableModels, mode_choices, with_choices
from ui.entries import Entry, answered, unfinished
from ui.export import markdown
from ui.layout import FOCUS, Page, listen
from ui.running import Progress, Run

_DOWNLOAD = "(text) => window.ragDownload('conversation.md', text)"


class Conversation:
    """Handlers of the Ask tab, for every visitor."""

    def __init__(self, page: Page, assistant: Assistant) -> None:
        self._page, self._assistant = page, assistant
        self._models = AvailableModels(assistant.client, assistant.settings.llm.connect_timeout)
        self._runs: dict[str, Run] = {}  # by session

    def connect(self) -> None:
        """Connect the controls; call it inside the page's Blocks."""
        page = self._page
        frame: list[Any] = [page.thread, page.live, page.entries, page.saved, page.tools, page.welcome]
        frame += [page.suggestions, page.question, page.send, page.stop]
        scored: list[Any] = [page.entries, page.scores]
        answer: dict[str, Any] = {
            "fn": self.answer,
            "inputs": [page.question, page.entries, page.mode, page.k, page.strict, page.scores],
            "outputs": frame,
            "concurrency_id": "answer",
        }
        take_back: dict[str, Any] = {"fn": self.take_back, "inputs": scored, "outputs": frame, "queue": False}
        listen(gr.on, triggers=[page.question.submit, page.send.click], trigger_mode="multiple", **answer)
        for button in page.examples:
            fill = listen(button.click, lambda text=button.value: text, outputs=page.question, queue=False)
            listen(fill.then, **answer)
        listen(listen(page.retry.click, **take_back).then, **answer)
        listen(page.edit.click, **take_back).then(None, js=FOCUS)
        undone = listen(page.undo.click, **take_back)
        listen(undone.then, lambda: "", outputs=page.question, queue=False).then(None, js=FOCUS)
        listen(page.clear.click, lambda: self.frame([], False), outputs=frame, queue=False).then(None, js=FOCUS)
        exported = listen(page.export.click, self.export, inputs=page.entries, outputs=page.exported, queue=False)
        exported.then(None, page.exported, js=_DOWNLOAD)
        listen(page.stop.click, self.stop, queue=False)
        listen(page.scores.change, self.thread, inputs=scored, outputs=page.thread, queue=False)
        listen(page.blocks.load, self.restore, inputs=[page.saved, page.scores], outputs=frame, queue=False)
        page.blocks.unload(self.stop)  # closing the page stops its answer too
        names = gr.State("unknown")
        for event in (page.blocks.load, page.timer.tick):
            inputs, outputs = [names, page.mode], [names, page.banner, page.mode]
            listen(event, self.refresh_models, inputs=inputs, outputs=outputs, queue=False)

    async def answer(
        self, question: str, entries: list[Entry], mode: str, k: int, strict: bool, scores: bool, request: gr.Request
    ) -> AsyncIterator[dict[Any, Any]]:
        """Answer `question` and show each stage. A session can ask no other question meanwhile."""
        page, session = self._page, str(request.session_hash)
        question = question.strip()
        if mode == "auto" and await asyncio.to_thread(self._models.get) is None:
            mode = "extractive"  # as the banner says
        if not question or session in self._runs:
            yield {page.live: gr.skip()}
            return
        progress, entry, problem = Progress(), None, ""
        history = [Turn(question=e["question"], answer=e["answer"]) for e in entries if not e.get("stopped")]
        run = self._runs[session] = Run(with_choices(self._assistant, mode, int(k), bool(strict)), question, history)
        try:
            yield _hide(page.tools, page.welcome, page.suggestions, page.send) | {
                page.question: "", page.stop: gr.update(visible=True)
            }  # fmt: skip
            async for events in run.batches():
                for event in events:
                    progress.add(event)
                if progress.answer is None:
                    yield {page.live: self._live(question, progress, run.loading)}
            entry = _entry(progress)
        except RagError as error:
            problem = str(error)
        except Exception as error:
            problem = f"Something went wrong ({type(error).__name__}: {error}); the terminal shows where."
        finally:
            run.stop()
            self._runs.pop(session, None)
        frame = self.frame([*entries, entry] if entry else entries, scores)
        if not entry:
            frame[page.question] = question  # to be asked again, or changed
        if problem:
            frame |= _hide(page.welcome, page.suggestions) | {
                page.live: view.render("failure", question=question, message=problem)
            }
        yield frame

    def stop(self, request: gr.Request) -> None:
        """Stop the answer of this session."""
        if run := self._runs.get(str(request.session_hash)):
            run.stop()

    def take_back(self, entries: list[Entry], scores: bool) -> dict[Any, Any]:
        """Remove the last exchange and put its question back into the box."""
        question = entries[-1]["question"] if entries else ""
        return self.frame(entries[:-1], scores) | {self._page.question: question}

    def frame(self, entries: list[Entry], scores: bool) -> dict[Any, Any]:
        """Everything on the page that depends on the conversation, while no answer is under way."""
        page = self._page
        return {
            page.thread: self.thread(entries, scores),
            page.live: "",
            page.entries: entries,
            page.saved: entries,
            page.tools: gr.update(visible=bool(entries)),
            page.welcome: gr.update(visible=not entries),
            page.suggestions: gr.update(visible=not entries),
            page.send: gr.update(visible=True),
            page.stop: gr.update(visible=False),
        }

    def thread(self, entries: Sequence[Entry], scores: bool) -> str:
        """The conversation as HTML."""
        return view.conversation(entries, self._papers(entries), scores)

    def restore(self, saved: Any, scores: bool) -> dict[Any, Any]:
        """The conversation that this browser saved; an empty one if it cannot be shown."""
        try:
            return self.frame(list(saved or []), scores)
        except Exception:  # any type: another version, or a person, may have stored anything there
            return self.frame([], scores)

    def export(self, entries: Sequence[Entry]) -> str:
        """The conversation as Markdown."""
        return markdown(entries, self._papers(entries))

    def refresh_models(self, names: Any, mode: str) -> tuple[Any, Any, Any]:
        """The names of the models, the banner and the choice of modes, if the models differ from `names`."""
        models = self._models.get()
        new_names = None if models is None else [model.name for model in models]
        if new_names == names:
            return gr.skip(), gr.skip(), gr.skip()
        choices = mode_choices(models or ())
        update: dict[str, Any] = {"choices": choices}
        if mode not in [value for _, value in choices]:
            update["value"] = "auto"  # otherwise the choice stays: the visitor may just have changed it
        return (
            new_names,
            view.render("banner", address=self._models.address) if new_names is None else "",
            gr.update(**update),
        )

    def _live(self, question: str, progress: Progress, loading: bool) -> str:
        stage = progress.stage(self._assistant.index_size, loading)
        if not (draft := progress.draft):
            return view.live(question, stage, None, {})
        papers = {hit.paper.paper_id: hit.paper for hit in draft.search.hits}
        return view.live(question, stage, unfinished(draft), papers)

    def _papers(self, entries: Sequence[Entry]) -> view.Papers:
        papers = self._assistant.find(hit["paper_id"] for entry in entries for hit in entry["hits"])
        return {paper.paper_id: paper for paper in papers}


def _entry(progress: Progress) -> Entry | None:
    """The exchange of a run that has ended: its answer, what a stopped model had written, or None."""
    if progress.answer:
        fallback = progress.fallback
        broken = {"message": fallback.message, "partial": fallback.partial} if fallback and fallback.partial else None
        return answered(progress.answer, broken=broken)
    return unfinished(progress.draft, stopped=True) if progress.draft else None


def _hide(*components: Any) -> dict[Any, Any]:
    return {component: gr.update(visible=False) for component in components}
