"""What a person reads: answers, searches and progress on a terminal, plain lines in a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, cast

from rag.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from rag.answering import Answer, Event
    from rag.papers import Paper
    from rag.retrieval import Search

# Signs of sentences that are not fully supported, and their styles.
MARKS: dict[str | None, tuple[str, str]] = {
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


def show_stream(events: Iterator[Event], console: Console, thinking: bool = False, live: bool = True) -> Answer:
    """Print an answer, then its sources; return it whole.

    The text appears while it is written, in a pipe too, and once more, marked, if verification changed or
    marked a sentence; where not `live`, only then. `thinking` prints a model's reasoning too, dimmed, on
    stderr. On a failure or Ctrl-C the stream is closed, which stops the model, and what has come stays.
    """
    from rich.console import Console
    from rich.text import Text

    from rag.answering import Broken, Delta, Discarded, Finished, Reading, Searched, Thinking

    talk = Console(stderr=True, no_color=console.no_color, highlight=False)
    unended: Console | None = None  # where a line has been begun
    written = writer = ""
    with closing(cast("Generator[Event, None, None]", events)), status(console) as tell:
        try:
            for event in events:
                match event:
                    case Searched(search):
                        say_searched(search)
                    case Reading(writer, papers):
                        tell(f"{writer} reads {papers} papers …")
                    case Thinking(text) if thinking:
                        tell("")
                        unended = talk  # first, as Ctrl-C may come at any time
                        talk.print(Text(printable(text), style="dim"), end="", soft_wrap=True)
                    case Thinking():
                        tell(f"{writer} thinks …")
                    case Delta(text):
                        tell("" if live or not writer else f"{writer} writes …")
                        if unended is talk:
                            talk.print("\n")
                        written += text
                        unended = console if live else None
                        if live:
                            console.print(_cited(text), end="", soft_wrap=True)
                    case Discarded() | Broken():
                        tell("")
                        if written and live:
                            # What streamed stays; the answer begins below it.
                            why = (
                                "broken off" if isinstance(event, Broken) else "that was reasoning; the answer follows"
                            )
                            console.print(Text(f"\n[{why}]\n", style="dim"))
                            unended = None
                        written = ""
                    case Finished(answer):
                        tell("")
                        show_answer(answer, console, written if live else None)
                        return answer
                    case _:
                        pass
        except BaseException:  # whatever is told next stands on a line of its own
            tell("")
            if unended:
                unended.print()
            raise
    raise AssertionError("a stream ends with Finished")


def show_answer(answer: Answer, console: Console, written: str | None = None) -> None:
    """The verified text with its marks and their legend, then the sources; the text is not repeated if it
    was `written` already and nothing about it changed."""
    from rich.text import Text

    flagged = {s.verdict for s in answer.sentences} & MARKS.keys()
    if written is not None:
        console.print()
    if written is None or written != answer.text or flagged:
        if written is not None:
            console.print(Text("\nChecked against the papers:", style="bold"))
        console.print(marked(answer), soft_wrap=True)
    if flagged:
        console.print()
        for sentence in answer.sentences:
            if sentence.verdict in MARKS:
                sign, style = MARKS[sentence.verdict]
                start = sentence.text if len(sentence.text) <= 60 else f"{sentence.text[:60].rstrip()}…"
                item(console, f"  {sign} ", f"“{start}” {sentence.reason}", style)
    show_sources(answer, console)


def marked(answer: Answer) -> Text:
    """The text of an answer; a sentence without full support is followed by its sign."""
    from rich.text import Text

    text, at = Text(), 0
    for sentence in answer.sentences:
        end = sentence.span[1]
        text.append_text(_cited(answer.text[at:end]))
        at = end
        if sentence.verdict in MARKS:
            sign, style = MARKS[sentence.verdict]
            text.append(f" {sign}", style)
    return text.append_text(_cited(answer.text[at:]))


def explain(answer: Answer, console: Console) -> None:
    """Each sentence beside its verdict and evidence."""
    from rich.text import Text

    titles = {c.n: c.title for c in answer.citations}
    console.print(Text("\nSentence by sentence", style="bold"))
    for sentence in answer.sentences:
        console.print()
        item(console, "  ", sentence.text)
        support = "" if sentence.support is None else f" (support {sentence.support:.2f})"
        changed = f" · cited {list(sentence.repaired_from)} before" if sentence.repaired_from is not None else ""
        reason = f": {sentence.reason}" if sentence.reason else ""
        verdict = (sentence.verdict or "not checked").replace("_", " ")
        item(console, "    ", f"{verdict}{support}{reason}{changed}", "bold")
        if proof := sentence.evidence:
            item(console, "    ", f"[{proof.n}] {titles.get(proof.n, proof.paper_id)}", "cyan")
            item(console, "    ", f"“{proof.text}”", "dim")


def _cited(text: str) -> Text:
    """`text` with its [n] coloured."""
    from rich.text import Text

    line = Text(printable(text))
    line.highlight_regex(r"\[\d+\]", "cyan")
    return line


@contextmanager
def status(console: Console) -> Iterator[Callable[[str], None]]:
    """A function that shows one passing line on a terminal's stderr; an empty line takes it away."""
    from rich.console import Console

    if not sys.stderr.isatty():
        yield lambda line: None
        return
    shown = Console(stderr=True, no_color=console.no_color).status("")

    def tell(line: str) -> None:
        if line:
            shown.update(line)
            shown.start()
        else:
            shown.stop()

    try:
        yield tell
    finally:
        shown.stop()


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
                item(console, "  - ", hit.paper.title)
        return
    console.print("\nSources", style="bold")
    for citation in answer.citations:
        item(console, f"  [{citation.n}] ", citation.title)


def show_search(found: Search, console: Console) -> None:
    """The hits with their scores."""
    say_searched(found)
    for hit in found.hits:
        item(console, f"{hit.rank:3} ", hit.paper.title, "bold")
        scores = f"{hit.score:.3f} (dense {hit.dense:.3f}, lexical {hit.lexical:.2f})"
        item(console, "    ", f"{scores} · {hit.paper.paper_id}", "dim")


def item(console: Console, label: str, text: str, style: str = "") -> None:
    """`text` behind `label`: wrapped with a hanging indent on a terminal, one line in a pipe."""
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal or not label:
        console.print(Text(label + printable(text), style=style), soft_wrap=not console.is_terminal)
        return
    row = Table.grid()
    row.add_row(Text(label, style="cyan"), Text(printable(text), style=style))
    console.print(row)


def say_searched(found: Search) -> None:
    """What was searched for in place of what was typed, if anything."""
    expected = found.question
    for old, new in found.corrections:
        expected = expected.replace(old, new)
    if found.query != expected:  # a follow-up question
        say(f"Searched for: {found.query}")
    if found.corrections:
        say("Searched for " + ", ".join(f"{new!r} instead of {old!r}" for old, new in found.corrections) + ".")


def paper_json(paper: Paper, with_abstract: bool) -> dict[str, Any]:
    """A paper as `rag papers --json` and `rag show --json` give it."""
    record: dict[str, Any] = {
        "paper_id": paper.paper_id,
        "title": paper.title,
        "date": paper.date,
        "author_count": paper.author_count,
        "votes": paper.votes,
        "sources": list(paper.sources),
    }
    return record | ({"abstract": paper.abstract} if with_abstract else {})


def print_json(value: Any) -> None:
    """One JSON value on stdout: a line in a pipe, indented on a terminal."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def say(line: str) -> None:
    """One line of talk on stderr."""
    print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def progress_bar(label: str, unit: str = "papers") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr, fed with (done, total); silence in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{label}: starting", total=None)
        yield lambda done, total: bar.update(task, description=label, completed=done, total=total or None)
