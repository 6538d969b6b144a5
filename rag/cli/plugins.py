"""Commands of other packages: entry points of the group `rag.commands`, each a Typer app.

An app with one command is mounted as that command, any other as a group. Entry points are looked up only if rag has
no such command itself, because that reads the metadata of every installed package.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from rag.cli.render import say
from rag.errors import RagError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "rag.commands"


class PluginGroup(TyperGroup):
    """A group of commands that also has those of other packages."""

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, for help and completion; those that cannot be loaded are left out, with a note."""
        names = super().list_commands(ctx)
        for name in sorted(self._entry_points.keys() - set(names)):
            try:
                self.get_command(ctx, name)
                names.append(name)
            except RagError as error:
                say(str(error))
        return names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command `cmd_name`; None if there is none. Raises RagError if it cannot be loaded."""
        if cmd_name not in self.commands:
            if entry := self._entry_points.get(cmd_name):
                self.commands[cmd_name] = _load(entry)
            elif not self._entry_points and not ctx.resilient_parsing:
                ctx.fail(
                    f"No such command {cmd_name!r}. The commands eval and ui are missing because rag is not installed: "
                    "run `pip install .` in its folder."
                )
        return super().get_command(ctx, cmd_name)


def _load(entry: EntryPoint) -> Any:
    """The command or group of an entry point. Raises RagError if it cannot be loaded."""
    try:
        command = typer.main.get_command(entry.load())
    except Exception as error:
        package = entry.dist.name if entry.dist else entry.value
        raise RagError(f"The command {entry.name} cannot be loaded: {error}.", f"Install {package} again.") from error
    completion = ("install_completion", "show_completion")  # options of the whole command line
    command.params = [parameter for parameter in command.params if parameter.name not in completion]
    return command
