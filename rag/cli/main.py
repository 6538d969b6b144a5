"""The application: its commands, and how failures become one line and an exit code.

stdout carries the result, stderr the rest. The commands `ui` and `eval` come from entry points of the group
`rag.commands`; they are looked up only if the command is none of rag's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rag import errors
from rag.cli import ask, chat, indexing, models, papers, status, verify
from rag.cli.render import say

OK, UNEXPECTED, INTERRUPTED = 0, 1, 130
PLUGIN_GROUP = "rag.commands"


class _Commands(TyperGroup):
    """rag's own commands, and those that installed packages add."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, for help and completion."""
        return [*super().list_commands(ctx), *sorted(_plugins())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command `cmd_name`; None if there is none."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        load = _plugins().get(cmd_name)
        return typer.main.get_command(load()) if load else None


def _plugins() -> dict[str, Callable[[], typer.Typer]]:
    """The commands of other packages by name, each with the function that loads its app."""
    from importlib.metadata import entry_points

    return {point.name: point.load for point in entry_points(group=PLUGIN_GROUP)}


app = typer.Typer(
    name="rag",
    help="Questions about a corpus of paper abstracts, answered with sources.",
    cls=_Commands,
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


app.command()(ask.ask)
app.command()(ask.search)
app.command("index")(indexing.index_command)
app.command("papers")(papers.papers_command)
app.command()(papers.show)
app.command("status")(status.status_command)
app.command("verify")(verify.verify_command)
app.command("chat")(chat.chat_command)
app.add_typer(models.app, name="models")
app.command("config")(status.config_command)


def run() -> None:
    """Run the application; every failure is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        except errors.RagError as error:
            say(f"rag: {error}")
            sys.exit(errors.exit_code(error))
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
