"""What a person reads: answers, searches and progress on a terminal, plain lines in a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from rag.text.display import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from rag.types import Answer, Progress, SearchResult

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
        text.append_text(colour_citations(answer.text[at:end]))
        at = end
        if sentence.verdict in SIGNS:
            sign, style = SIGNS[sentence.verdict]
            text.append(f" {sign}", style)
    return text.append_text(colour_citations(answer.text[at:]))


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


def colour_citations(text: str) -> Text:
    """`text` with its [n] coloured."""
    from rich.text import Text

    line = Text(printable(text))
    line.highlight_regex(r"\[\d+\]", "cyan")
    return line


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
def progress_bar(label: str, unit: str = "papers") -> Iterator[Progress]:
    """A function to call with (done, total), in `unit`; "bytes" are shown in MB.

    On a terminal it draws a bar on stderr, with the rate and the time left. Elsewhere it writes a line to stderr now
    and then.
    """
    if not sys.stderr.isatty():
        yield ProgressLog(label, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = TextColumn("{task.description}"), BarColumn(), count, TextColumn("{task.fields[rate]}")
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{label}: starting", total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = _rate(speed, unit) if speed else ""
            bar.update(task, description=label, completed=done, total=total or None, rate=rate)

        yield show


class ProgressLog:
    """Progress as lines on stderr, one every `interval` seconds; `clock` returns seconds."""

    def __init__(
        self, label: str, unit: str, interval: float = LOG_INTERVAL, clock: Callable[[], float] = monotonic
    ) -> None:
        self._label, self._unit, self._interval, self._clock = label, unit, interval, clock
        self._first: tuple[float, int] | None = None  # when the first call came, and what was done by then
        self._last = clock()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        started, before = self._first = self._first or (now, done)
        if now - self._last < self._interval or not total:
            return
        self._last = now
        parts = [f"{self._label}: {_count(done, self._unit)}/{_count(total, self._unit)}"]
        if now > started and done > before:
            speed = (done - before) / (now - started)
            parts += [_rate(speed, self._unit), f"{(total - done) / speed:.0f} s left"]
        say(", ".join(parts))


def _count(number: float, unit: str) -> str:
    return f"{number / 1e6:.0f} MB" if unit == "bytes" else f"{number:.0f}"


def _rate(speed: float, unit: str) -> str:
    """`speed` per second, with a decimal if it is small."""
    number = speed / 1e6 if unit == "bytes" else speed
    return f"{number:.{0 if number >= 10 else 1}f}{' MB' if unit == 'bytes' else ''}/s"
