"""`rag chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rag.answering import Answer, Turn
from rag.answering.ollama import Server, choose_model
from rag.errors import RagError
from rag.render import item, say, show_sources, show_stream

if TYPE_CHECKING:
    from rich.console import Console

    from rag.assistant import Assistant

HELP = "/sources lists what was cited · /open N shows that paper · /model [NAME] tells or sets the model · /quit ends"


def converse(assistant: Assistant, console: Console, thinking: bool) -> None:
    """Ask, answer and remember until /quit or the end of input; Ctrl-C stops one answer.

    A failure is one line, and the conversation goes on.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  # line editing and recall, where the platform has it
    terminal = sys.stdin.isatty()
    if terminal:
        say(HELP)
    history: list[Turn] = []
    last: Answer | None = None
    told: set[str] = set()
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not line:
            continue
        try:
            if line.startswith("/"):
                if line.split()[0] in ("/quit", "/exit", "/q"):
                    return
                assistant = _command(line, assistant, last, console)
                continue
            last = show_stream(assistant.stream(line, history), console, thinking)
            history.append(Turn(line, last.text))
            for note in last.notes:
                if last.mode == "ollama" or note not in told:  # that no server answers is told once
                    say(note)
                    told.add(note)
            console.print()
        except KeyboardInterrupt:
            say("Stopped.")
        except RagError as error:
            say(str(error))


def _command(line: str, assistant: Assistant, last: Answer | None, console: Console) -> Assistant:
    """Carry out one slash command; the assistant to go on with."""
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    if name == "/sources" and last:
        show_sources(last, console)
    elif name == "/open" and last:
        cited = {str(c.n): c.paper_id for c in last.citations}
        record = assistant.index.find([cited.get(argument.strip("[]"), "")])
        if record:
            item(console, "", record[0].paper.title, "bold")
            item(console, "", record[0].paper.abstract)
        elif argument:
            say(f"The last answer cites no [{argument.strip('[]')}].")
        else:
            say("Which one? /open 1 shows the paper cited as [1].")
    elif name in ("/sources", "/open"):
        say("Nothing has been answered yet.")
    elif name == "/model":
        server = Server.of(assistant.settings)
        name = choose_model(server, argument or assistant.settings.llm).name  # an unusable one is refused here
        if not argument:
            others = [m.name for m in server.models() if m.name not in (name, f"{name}:latest")]
            say(f"Model: {name}." + (f" Also here: {', '.join(others)}." if others else ""))
            return assistant
        say(f"Answers now come from {name}.")
        return type(assistant)(assistant.index, replace(assistant.settings, llm=argument, mode="ollama"))
    else:
        say(HELP)
    return assistant
