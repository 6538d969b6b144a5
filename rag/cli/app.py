"""The application: its commands, and how a failure becomes one line and an exit code.

stdout carries the result, stderr everything else. Exit codes: 0 answered, 1 unexpected, 2 usage, 3 abstained,
4 answered with unsupported sentences, 5 server or model unavailable, 6 index or embedding model, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from rag.cli import ask, chat, config, indexing, models, papers, status, verify
from rag.cli.plugins import PluginGroup
from rag.cli.render import say
from rag.errors import RagError, exit_code

OK, UNEXPECTED, INTERRUPTED = 0, 1, 130

app = typer.Typer(
    name="rag",
    help="Ask questions about a corpus of paper abstracts. Every sentence of an answer names its source.",
    cls=PluginGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from rag import __version__

        print(f"rag {__version__}")
        raise typer.Exit


app.command("ask")(ask.ask)
app.command("search")(ask.search)
app.command("chat")(chat.chat_command)
app.command("verify")(verify.verify_command)
app.command("index")(indexing.index_command)
app.command("papers")(papers.papers_command)
app.command("show")(papers.show)
app.command("status")(status.status_command)
app.command("config")(config.config_command)
app.add_typer(models.app, name="models")


def run() -> None:
    """Run the application. Every failure is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        except RagError as error:
            say(f"rag: {error}")
            sys.exit(exit_code(error))
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
    except Exception as error:
        if os.environ.get("RAG_DEBUG"):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"rag: unexpected {type(error).__name__}: {reason} (set RAG_DEBUG=1 for details)")
        sys.exit(UNEXPECTED)
