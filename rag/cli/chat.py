"""`rag chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from rag.cli.options import ColorOption, ThinkingOption, open_assistant, with_settings
from rag.cli.render import console_for, print_item, say, show_sources
from rag.cli.stream import show_stream
from rag.errors import RagError
from rag.settings import Settings
from rag.types import Answer, Turn

if TYPE_CHECKING:
    from rich.console import Console

    from rag.assistant import Assistant

HELP = (
    "/sources lists what was cited · /open N shows that paper · /model [NAME] prints or sets the model · "
    "/quit ends the chat"
)


@with_settings("k", "mode", "model", "index_dir")
def chat_command(settings: Settings, show_thinking: ThinkingOption = False, no_color: ColorOption = False) -> None:
    """Hold a conversation: follow-up questions, /sources, /open N, /model NAME, /quit."""
    Chat(open_assistant(settings), console_for(no_color), show_thinking).run()


class Chat:
    """One conversation: what was asked and answered, and the assistant that answers."""

    def __init__(self, assistant: Assistant, console: Console, show_thinking: bool) -> None:
        self._assistant, self._console, self._show_thinking = assistant, console, show_thinking
        self._history: list[Turn] = []
        self._last: Answer | None = None
        self._notes: set[str] = set()  # notes that were printed

    def run(self) -> None:
        """Ask, answer and remember until /quit or the end of input.

        Ctrl-C stops one answer. A failure is one line, and the conversation goes on.
        """
        with suppress(ImportError):
            import readline  # noqa: F401  # line editing and recall, if the platform has it
        terminal = sys.stdin.isatty()
        if terminal:
            say(HELP)
        while True:
            try:
                line = input("> " if terminal else "").strip()
            except (EOFError, KeyboardInterrupt):
                return
            try:
                if line.split(maxsplit=1)[:1] in (["/quit"], ["/exit"], ["/q"]):
                    return
                if line.startswith("/"):
                    self._command(line)
                elif line:
                    self._ask(line)
            except KeyboardInterrupt:
                say("Stopped.")
            except RagError as error:
                say(str(error))

    def _ask(self, question: str) -> None:
        answer = show_stream(self._assistant.stream(question, self._history), self._console, self._show_thinking)
        self._last = answer
        self._history.append(Turn(question=question, answer=answer.text))
        for note in answer.notes:
            if answer.mode == "generative" or note not in self._notes:  # that no server answers is said once
                say(note)
                self._notes.add(note)
        self._console.print()

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        if name == "/model":
            self._model(argument.strip())
        elif name not in ("/sources", "/open"):
            say(HELP)
        elif self._last is None:
            say("Nothing has been answered yet.")
        elif name == "/sources":
            show_sources(self._last, self._console)
        else:
            self._open(self._last, argument.strip().strip("[]"))

    def _open(self, answer: Answer, number: str) -> None:
        """Show the paper that `answer` cites as [number]."""
        cited = {str(citation.n): answer.context[citation.n - 1] for citation in answer.citations}
        if paper := cited.get(number):
            print_item(self._console, "", paper.title, "bold")
            print_item(self._console, "", paper.abstract)
        elif number:
            say(f"The last answer cites no [{number}].")
        else:
            say("Which one? /open 1 shows the paper cited as [1].")

    def _model(self, wanted: str) -> None:
        """Print the model that answers, or set it. Raises LLMError if it cannot be used."""
        name = self._assistant.model_info(wanted).name
        if wanted:
            self._assistant = self._assistant.configured(
                self._assistant.settings.replace(model=wanted, mode="generative")
            )
            say(f"Answers now come from {name}.")
            return
        others = [m.name for m in self._assistant.models() if m.name not in (name, f"{name}:latest")]
        say(f"Model: {name}." + (f" Also available: {', '.join(others)}." if others else ""))
