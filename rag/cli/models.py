"""`rag models` and `rag models pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from rag.cli.options import ConfigOption, JsonOption, SetOption, settings_from, with_settings
from rag.cli.render import print_json, progress_bar, say
from rag.errors import LLMError
from rag.settings import Settings

app = typer.Typer(help="List the models of the Ollama server, or download one.")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, json_: JsonOption = False, config: ConfigOption = None, set_: SetOption = None
) -> None:
    """List the models of the Ollama server, or download one. A * marks the model that would answer."""
    if context.invoked_subcommand:
        return
    from rag.llm.ollama import OllamaClient
    from rag.llm.session import choose_model

    settings = settings_from(set_, config)
    client = OllamaClient.from_settings(settings.llm)
    listed = client.models()
    try:
        name = choose_model(client, settings.llm.model).name
        chosen = next((m.name for m in listed if m.name in (name, f"{name}:latest")), name)
    except LLMError as error:
        chosen = ""
        say(str(error))
    if json_:
        print_json([{"name": m.name, "bytes": m.size, "chosen": m.name == chosen, "cloud": m.remote} for m in listed])
        return
    for m in listed:
        details = " ".join(part for part in (m.parameters, m.quantization, "in the cloud" if m.remote else "") if part)
        print(f"{'*' if m.name == chosen else ' '} {m.name:36} {m.size / 1e9:6.1f} GB  {details}".rstrip())


@app.command()
@with_settings()
def pull(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model, such as llama3.2.", show_default=False)],
) -> None:
    """Download a model to the Ollama server."""
    from rag.llm.ollama import OllamaClient

    client = OllamaClient.from_settings(settings.llm)
    with progress_bar(f"Pulling {name}", unit="bytes") as progress:
        for step in client.pull(name):
            progress(step.completed, step.total)
    print(name)
