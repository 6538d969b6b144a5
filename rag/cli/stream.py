"""An answer on the terminal while it is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

from rag.cli.render import colour_citations, say_query, show_answer
from rag.text.display import printable
from rag.types import Answer, Delta, Discarded, Event, FellBack, Finished, Prompted, Searched, Thinking

if TYPE_CHECKING:
    from rich.console import Console


def show_stream(events: Iterator[Event], console: Console, show_thinking: bool = False, live: bool = True) -> Answer:
    """Print an answer, then its sources; return it whole.

    The text appears while it is written, in a pipe too, and once more, marked, if verification changed or marked a
    sentence; if not `live`, only then. `show_thinking` also prints a model's reasoning, dimmed, on stderr. On a failure
    or Ctrl-C the stream is closed, which stops the model, and the text that came stays.
    """
    with closing(cast("Generator[Event, None, None]", events)), status_line(console) as show_status:
        printer = _StreamPrinter(console, show_status, show_thinking, live)
        try:
            for event in events:
                if (answer := printer.take(event)) is not None:
                    return answer
        except BaseException:
            printer.end_line()  # whatever is printed next stands on a line of its own
            raise
    raise AssertionError("a stream ends with Finished")


class _StreamPrinter:
    """Prints the events of one answer."""

    def __init__(self, console: Console, show_status: Callable[[str], None], show_thinking: bool, live: bool) -> None:
        from rich.console import Console

        self._console, self._show_status, self._live = console, show_status, live
        self._show_thinking = show_thinking
        self._stderr = Console(stderr=True, no_color=console.no_color, highlight=False)
        self._open_line: Console | None = None  # where a line has been begun
        self._text = self._model = ""

    def take(self, event: Event) -> Answer | None:
        """Print `event`; the answer if it is the last one."""
        match event:
            case Searched(search):
                say_query(search)
            case Prompted(model, context):
                self._model = model
                self._show_status(f"{model} reads {len(context)} papers …")
            case Thinking(text):
                self._think(text)
            case Delta(text):
                self._write(text)
            case Discarded():
                self._drop("that was reasoning; the answer follows")
            case FellBack():
                self._model = ""
                self._drop("broken off")
            case Finished(answer):
                self._show_status("")
                show_answer(answer, self._console, self._text if self._live else None)
                return answer
        return None

    def end_line(self) -> None:
        """End a line that has been begun."""
        self._show_status("")
        if self._open_line:
            self._open_line.print()

    def _think(self, text: str) -> None:
        from rich.text import Text

        if not self._show_thinking:
            self._show_status(f"{self._model} thinks …")
            return
        self._show_status("")
        self._open_line = self._stderr  # first, as Ctrl-C may come at any time
        self._stderr.print(Text(printable(text), style="dim"), end="", soft_wrap=True)

    def _write(self, text: str) -> None:
        self._show_status("" if self._live or not self._model else f"{self._model} writes …")
        if self._open_line is self._stderr:
            self._stderr.print("\n")
        self._text += text
        self._open_line = self._console if self._live else None
        if self._live:
            self._console.print(colour_citations(text), end="", soft_wrap=True)

    def _drop(self, reason: str) -> None:
        """What streamed stays on the screen; the answer begins below it."""
        from rich.text import Text

        self._show_status("")
        if self._text and self._live:
            self._console.print(Text(f"\n[{reason}]\n", style="dim"))
            self._open_line = None
        self._text = ""


@contextmanager
def status_line(console: Console) -> Iterator[Callable[[str], None]]:
    """A function that shows one temporary line on a terminal's stderr; an empty line removes it."""
    from rich.console import Console

    if not sys.stderr.isatty():
        yield lambda line: None
        return
    spinner = Console(stderr=True, no_color=console.no_color).status("")

    def show(line: str) -> None:
        if line:
            spinner.update(line)
            spinner.start()
        else:
            spinner.stop()

    try:
        yield show
    finally:
        spinner.stop()
