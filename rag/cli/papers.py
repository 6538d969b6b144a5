"""`rag papers` and `rag show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli.options import ColorOption, JsonOption, with_settings
from rag.cli.render import console_for, print_json, say
from rag.errors import IndexMissingError, UsageError
from rag.settings import Settings
from rag.text.display import printable

if TYPE_CHECKING:
    from rag.types import Paper


@with_settings("index_dir")
def papers_command(
    settings: Settings,
    pattern: Annotated[str, typer.Argument(help="Words of a title, or an id.", show_default=False)] = "",
    json_: JsonOption = False,
    no_color: ColorOption = False,
) -> None:
    """List the papers whose title holds every word of PATTERN."""
    from rag.corpus.reading import find_papers

    matches = find_papers(_papers(settings), pattern)
    if json_:
        print_json([_paper_json(paper) for paper in matches])
        return
    console = console_for(no_color)
    for paper in matches:
        console.print(printable(paper.title), style="bold", markup=False, highlight=False, soft_wrap=True)
        details = _details(paper.paper_id, paper.date, *paper.sources)
        console.print(f"  {details}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if not matches:
        raise UsageError(f"No title matches {pattern!r}.", "`rag papers` lists all of them.")
    say(f"{len(matches)} paper{'s' * (len(matches) != 1)}")


@with_settings("index_dir")
def show(
    settings: Settings,
    paper: Annotated[list[str], typer.Argument(help="An id, a title, or words of a title.", show_default=False)],
    json_: JsonOption = False,
    no_color: ColorOption = False,
) -> None:
    """Show one paper: title, abstract, and where it came from."""
    from rag.corpus.reading import find_papers

    pattern = " ".join(paper)
    matches = find_papers(_papers(settings), pattern) if pattern.strip() else []
    if not matches:
        raise UsageError(f"No paper matches {pattern!r}.", "`rag papers` lists all of them.")
    if len(matches) > 1:
        first = "; ".join(f"{match.title} ({match.paper_id})" for match in matches[:3])
        raise UsageError(f"{len(matches)} papers match {pattern!r}: {printable(first)}", "Give an id.")
    (match,) = matches
    if json_:
        print_json(_paper_json(match) | {"abstract": match.abstract})
        return
    console = console_for(no_color)
    count = match.author_count
    authors = f"{count} author{'s' if count > 1 else ''}" if count else None
    console.print(printable(match.title), style="bold", markup=False, highlight=False)
    details = _details(match.paper_id, match.date, authors, *match.sources)
    console.print(details, style="dim", markup=False, highlight=False)
    console.print("\n" + printable(match.abstract), markup=False, highlight=False)


def _papers(settings: Settings) -> list[Paper]:
    """The papers of the index, or of the packaged corpus if there is no index."""
    from rag.corpus.reading import packaged_corpus, read_papers
    from rag.index.store import Index

    try:
        return Index.open(settings).papers()
    except IndexMissingError:
        return read_papers([packaged_corpus()])[0]


def _paper_json(paper: Paper) -> dict[str, Any]:
    return {
        "paper_id": paper.paper_id,
        "title": paper.title,
        "date": paper.date,
        "author_count": paper.author_count,
        "votes": paper.votes,
        "sources": list(paper.sources),
    }


def _details(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)
