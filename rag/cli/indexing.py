"""`rag index`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import JsonOption, with_settings
from rag.cli.render import print_json, progress_bar, say
from rag.settings import Settings


@with_settings("index_dir")
def index_command(
    settings: Settings,
    paths: Annotated[  # the reader reports unreadable ones
        list[Path] | None, typer.Argument(metavar="PATH", readable=False, help="Files or folders of papers.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Embed every paper again, also unchanged ones.")] = False,
    json_: JsonOption = False,
) -> None:
    """Make the index hold exactly the papers of PATH. Unchanged papers are not embedded again.

    Without PATH, rag reads again the files that the index was built from, or the packaged corpus if there is no index.
    """
    from rag.index.build import build_index
    from rag.index.sources import papers_to_index

    source = papers_to_index(settings, paths or ())
    for note in source.notes:
        say(note)
    for problem in source.problems:
        say(f"skipped: {problem}")
    with progress_bar("Embedding papers") as progress:
        report = build_index(source.papers, settings, paths=source.paths, progress=progress, rebuild=rebuild)
    if json_:
        problems = [str(problem) for problem in source.problems]
        print_json(asdict(report) | {"problems": problems, "index": str(settings.index_path)})
    else:
        print(
            f"{report.added} added, {report.changed} changed, {report.removed} removed, {report.unchanged} unchanged: "
            f"{report.passages} passages, {report.sentences} sentences in {settings.index_path}"
        )
