"""What a person reads: answers, searches and progress on a terminal, plain lines in a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from rag.text.display import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from rag.types import Answer, Event, SearchResult

LOG_INTERVAL = 30.0  # seconds between two lines of progress in a log
# The sign after a sentence that is not fully supported, and its style.
SIGNS: dict[str | None, tuple[str, str]] = {
    "unsupported": ("\u2717", "red"),
    "partial": ("~", "yellow"),
}


def console_for(no_color: bool) -> Console:
    """The console on stdout; colours also obey NO_COLOR and whether stdout is a terminal."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            """The reader has what it wanted (`| head`); rich would call that a failure."""
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0)

    return Output(no_color=True if no_color else None, highlight=False)


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
        from rag.types import Delta, Discarded, FellBack, Finished, Prompted, Searched, Thinking

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
            self._console.print(_colour_citations(text), end="", soft_wrap=True)

    def _drop(self, reason: str) -> None:
        """What streamed stays on the screen; the answer begins below it."""
        from rich.text import Text

        self._show_status("")
        if self._text and self._live:
            self._console.print(Text(f"\n[{reason}]\n", style="dim"))
            self._open_line = None
        self._text = ""


def show_answer(answer: Answer, console: Console, written: str | None = None) -> None:
    """The verified text with its signs and their legend, then the sources.

    The text is not repeated if it was `written` already and nothing about it changed.
    """
    from rich.text import Text

    flagged = {s.verdict for s in answer.sentences} & SIGNS.keys()
    if written is not None:
        console.print()
    if written is None or written != answer.text or flagged:
        if written is not None:
            console.print(Text("\nChecked against the papers:", style="bold"))
        console.print(_with_signs(answer), soft_wrap=True)
    if flagged:
        console.print()
        for sentence in answer.sentences:
            if sentence.verdict in SIGNS:
                sign, style = SIGNS[sentence.verdict]
                start = sentence.text if len(sentence.text) <= 60 else f"{sentence.text[:60].rstrip()}…"
                print_item(console, f"  {sign} ", f"“{start}” {sentence.reason}", style)
    show_sources(answer, console)


def _with_signs(answer: Answer) -> Text:
    """The text of an answer; a sentence without full support is followed by its sign."""
    from rich.text import Text

    text, at = Text(), 0
    for sentence in answer.sentences:
        end = sentence.span[1]
        text.append_text(_colour_citations(answer.text[at:end]))
        at = end
        if sentence.verdict in SIGNS:
            sign, style = SIGNS[sentence.verdict]
            text.append(f" {sign}", style)
    return text.append_text(_colour_citations(answer.text[at:]))


def explain(answer: Answer, console: Console) -> None:
    """Each sentence beside its verdict and evidence."""
    from rich.text import Text

    console.print(Text("\nSentence by sentence", style="bold"))
    for sentence in answer.sentences:
        console.print()
        print_item(console, "  ", sentence.text)
        support = "" if sentence.support is None else f" (support {sentence.support:.2f})"
        changed = f" · cited {list(sentence.repaired_from)} before" if sentence.repaired_from is not None else ""
        reason = f": {sentence.reason}" if sentence.reason else ""
        verdict = (sentence.verdict or "not checked").replace("_", " ")
        print_item(console, "    ", f"{verdict}{support}{reason}{changed}", "bold")
        if evidence := sentence.evidence:
            print_item(console, "    ", f"[{evidence.n}] {answer.context[evidence.n - 1].title}", "cyan")
            print_item(console, "    ", f"“{evidence.text}”", "dim")


def _colour_citations(text: str) -> Text:
    """`text` with its [n] coloured."""
    from rich.text import Text

    line = Text(printable(text))
    line.highlight_regex(r"\[\d+\]", "cyan")
    return line


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


def show_timings(answer: Answer) -> None:
    """The timings of an answer, one line on stderr."""
    per_second = "tokens_per_second"
    parts = [f"{name.replace('_', ' ')} {ms:.0f} ms" for name, ms in answer.timings_ms.items() if name != per_second]
    if per_second in answer.timings_ms:
        parts.append(f"{answer.timings_ms[per_second]:.1f} tokens/s")
    say(" · ".join(parts))


def show_sources(answer: Answer, console: Console) -> None:
    """The cited titles; for an abstention the nearest papers."""
    if answer.abstained:
        if answer.search.hits:
            console.print("\nRelated, but they don't answer this:", style="dim")
            for hit in answer.search.hits[:3]:
                print_item(console, "  - ", hit.paper.title)
        return
    console.print("\nSources", style="bold")
    for citation in answer.citations:
        print_item(console, f"  [{citation.n}] ", citation.title)


def show_search(search: SearchResult, console: Console) -> None:
    """The hits with their scores."""
    say_query(search)
    for hit in search.hits:
        print_item(console, f"{hit.rank:3} ", hit.paper.title, "bold")
        scores = (
            f"{hit.score:.3f} (dense {hit.dense:.3f}, BM25 {hit.bm25:.2f}, late interaction {hit.late_interaction:.3f})"
        )
        print_item(console, "    ", f"{scores} · {hit.paper.paper_id}", "dim")


def print_item(console: Console, label: str, text: str, style: str = "") -> None:
    """`text` behind `label`: wrapped with a hanging indent on a terminal, one line in a pipe."""
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal or not label:
        console.print(Text(label + printable(text), style=style), soft_wrap=not console.is_terminal)
        return
    row = Table.grid()
    row.add_row(Text(label, style="cyan"), Text(printable(text), style=style))
    console.print(row)


def say_query(search: SearchResult) -> None:
    """What was searched for instead of the question as typed, if anything."""
    expected = search.question
    for old, new in search.corrections:
        expected = expected.replace(old, new)
    if search.query != expected:  # a follow-up question
        say(f"Searched for: {search.query}")
    if search.corrections:
        say("Searched for " + ", ".join(f"{new!r} instead of {old!r}" for old, new in search.corrections) + ".")


def print_json(value: Any) -> None:
    """One JSON value on stdout: a line in a pipe, indented on a terminal."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def say(line: str) -> None:
    """One line on stderr."""
    print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def progress_bar(label: str, unit: str = "papers") -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total).

    On a terminal it draws a bar on stderr with rate and time left. Elsewhere it writes a line to stderr every
    LOG_INTERVAL seconds.
    """
    if not sys.stderr.isatty():
        yield _ProgressLog(label, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("{task.description}"), BarColumn(), count, rate, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{label}: starting", total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f} {unit}/s" if speed and unit != "bytes" else ""
            bar.update(task, description=label, completed=done, total=total or None, rate=rate)

        yield show


class _ProgressLog:
    """Progress as lines for a log."""

    def __init__(self, label: str, unit: str) -> None:
        self._label, self._unit = label, unit
        self._started = self._latest = monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = monotonic()
        if now - self._latest < LOG_INTERVAL or not done:
            return
        self._latest = now
        rate = done / (now - self._started)
        left = f", {(total - done) / rate:.0f} s left" if total > done else ""
        say(f"{self._label}: {done:,}/{total:,} {self._unit}, {rate:.1f}/s{left}")
