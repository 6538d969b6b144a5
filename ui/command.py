"""The command `rag ui`, a plugin of the command line. Gradio is imported only when the app is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import (
    ConfigOption,
    IndexOption,
    KOption,
    ModelOption,
    ModeOption,
    SetOption,
    open_assistant,
    settings_from,
)
from ui import REPORTS, launch

app = typer.Typer(add_completion=False)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option("--port", help="Port; by default the first free one from 7860.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve; any but this machine's needs --auth.")] = (
        "127.0.0.1"
    ),
    auth: Annotated[str | None, typer.Option("--auth", metavar="USER:PASSWORD", help="Ask visitors for these.")] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Also serve `ask` and `search` as MCP tools.")] = False,
    report: Annotated[Path, typer.Option("--report", metavar="DIR", help="Folder of the evaluation's report.")] = (
        REPORTS
    ),
    k: KOption = None,
    mode: ModeOption = None,
    model: ModelOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Serve the chat in the browser: answers beside their evidence, the papers, the evaluation."""
    settings = settings_from(set_, config, index_dir=index, k=k, mode=mode, model=model)
    launch(lambda: open_assistant(settings), host, port, auth, mcp, report)
