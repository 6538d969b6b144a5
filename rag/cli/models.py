"""`rag models` and `rag models pull`."""

from __future__ import annotations

import typer

from rag.cli.options import ConfigOption, JsonOption, SetOption, settings_from
from rag.cli.render import print_json, progress_bar, say
from rag.errors import LLMError

app = typer.Typer(help="List or download the models of the Ollama server.")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, json_: JsonOption = False, config: ConfigOption = None, set_: SetOption = None
) -> None:
    """List the models of the Ollama server; the one that would answer is marked."""
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
def pull(name: str, config: ConfigOption = None, set_: SetOption = None) -> None:
    """Download a model to the Ollama server."""
    from rag.llm.ollama import OllamaClient

    client = OllamaClient.from_settings(settings_from(set_, config).llm)
    with progress_bar(f"Pulling {name}", unit="bytes") as progress:
        for step in client.pull(name):
            progress(step.completed, step.total)
    print(name)
