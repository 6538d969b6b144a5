"""The command line: parses arguments, calls `Assistant`, renders what it returns. Nothing else.

stdout carries the result, stderr the talk. Exit codes: 0 answered, 1 unexpected, 2 usage, 3 abstained,
4 answered with unsupported sentences, 5 server or model unavailable, 6 index missing, unfit or broken, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

# One thread a query: more threads only wait for each other. Read when NumPy is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import typer  # noqa: E402

from rag import errors  # noqa: E402
from rag.options import (  # noqa: E402
    BatchOption,
    ColorOption,
    ConfigOption,
    IndexOption,
    JsonOption,
    JudgeOption,
    KOption,
    ModelOption,
    ModeOption,
    SetOption,
    build_index,
    open_assistant,
    settings_from,
)
from rag.render import (  # noqa: E402
    console_for,
    explain,
    paper_json,
    print_json,
    progress_bar,
    say,
    show_search,
    show_stream,
    show_timings,
)
from rag.settings import Settings  # noqa: E402

if TYPE_CHECKING:
    from rag.answering import Answer, Turn
    from rag.assistant import Assistant
    from rag.papers import Paper

OK, UNEXPECTED, USAGE, ABSTAINED, UNSUPPORTED, UNAVAILABLE, INDEX, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130
# The first type that matches decides.
EXIT_CODES: tuple[tuple[type[errors.RagError], int], ...] = (
    (errors.UsageError, USAGE),
    (errors.ModelUnavailable, UNAVAILABLE),
    (errors.ModelError, INDEX),
    (errors.IndexMissing, INDEX),
    (errors.IndexUnfit, INDEX),
    (errors.IndexDamaged, INDEX),
)

app = typer.Typer(
    name="rag",
    help="Questions about a corpus of paper abstracts, answered with sources.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

QuestionArgument = Annotated[
    list[str] | None,
    typer.Argument(help="The question; - reads stdin. With --batch: a file, else stdin.", show_default=False),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from rag import __version__

        print(f"rag {__version__}")
        raise typer.Exit


@app.command()
def ask(
    question: QuestionArgument = None,
    k: KOption = None,
    json_: JsonOption = False,
    batch: BatchOption = False,
    mode: ModeOption = None,
    model: ModelOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
    timing: Annotated[bool, typer.Option("--timing", help="Print how long each part took.")] = False,
    show_thinking: Annotated[bool, typer.Option("--show-thinking", help="Print a model's reasoning, dimmed.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Remove sentences no retrieved paper supports.")] = False,
    explain_: Annotated[bool, typer.Option("--explain", help="Print each sentence beside its evidence.")] = False,
    judge: JudgeOption = None,
    bib: Annotated[
        Path | None, typer.Option("--bib", metavar="FILE", readable=False, help="Write BibTeX of the cited papers.")
    ] = None,
) -> None:
    """Answer a question from the corpus, every sentence with its source."""
    settings = settings_from(
        set_, config, index_dir=index, k=k, mode=mode, llm=model, strict=strict or None, judge=judge
    )
    if batch:
        assistant = open_assistant(settings)
        raise typer.Exit(_batch(question, lambda i, q, history: assistant.ask(q, history).as_json(i)))
    text = _question(question)
    assistant = open_assistant(settings)
    if json_:
        answer = assistant.ask(text)
        print_json(answer.as_json())
    else:
        console = console_for(no_color)
        # Only a terminal sees what --strict may remove.
        live = console.is_terminal or not settings.strict
        answer = show_stream(assistant.stream(text), console, show_thinking, live)
        if explain_:
            explain(answer, console)
    for note in answer.notes:
        say(note)
    if timing:
        show_timings(answer)
    if bib:
        _write_bib(bib, assistant, answer)
    if answer.abstained:
        raise typer.Exit(ABSTAINED)
    if answer.unsupported:
        raise typer.Exit(UNSUPPORTED)


@app.command()
def search(
    question: QuestionArgument = None,
    k: KOption = None,
    json_: JsonOption = False,
    batch: BatchOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    """List the papers that fit a question best, with their scores."""
    settings = settings_from(set_, config, index_dir=index, k=k)
    if batch:
        assistant = open_assistant(settings)
        raise typer.Exit(_batch(question, lambda i, q, history: assistant.search(q, history).as_json(i)))
    text = _question(question)
    found = open_assistant(settings).search(text)
    if json_:
        print_json(found.as_json())
    else:
        show_search(found, console_for(no_color))


@app.command("index")
def index_(
    paths: Annotated[  # unreadable ones are told in one line by the reader
        list[Path] | None, typer.Argument(metavar="[PATH]...", readable=False, help="Files or folders of papers.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Embed everything again.")] = False,
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Make the index hold exactly the papers of PATH; without PATH, what it held before or the packaged corpus.

    Unchanged papers are not embedded again.
    """
    settings = settings_from(set_, config, index_dir=index)
    report, problems = build_index(settings, paths or None, rebuild)
    if json_:
        from dataclasses import asdict

        print_json(asdict(report) | {"problems": problems, "index": str(settings.index_path)})
    else:
        print(
            f"{report.added} added, {report.changed} changed, {report.removed} removed, {report.unchanged} unchanged: "
            f"{report.passages} passages, {report.sentences} sentences in {settings.index_path}"
        )


@app.command()
def papers(
    pattern: Annotated[str, typer.Argument(help="Words of a title, or an id.", show_default=False)] = "",
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    """List the papers of the corpus whose title holds every word of PATTERN."""
    from rag.papers import find_papers
    from rag.text import printable

    found = find_papers(_papers(settings_from(set_, config, index_dir=index)), pattern)
    if json_:
        print_json([paper_json(p, with_abstract=False) for p in found])
        return
    console = console_for(no_color)
    for p in found:
        console.print(printable(p.title), style="bold", markup=False, highlight=False, soft_wrap=True)
        details = [p.paper_id, p.date or "", ", ".join(p.sources)]
        console.print(
            "  " + " · ".join(d for d in details if d), style="dim", markup=False, highlight=False, soft_wrap=True
        )
    if not found:
        raise errors.UsageError(f"No title matches {pattern!r}.", "`rag papers` lists all of them.")
    say(f"{len(found)} paper{'s' * (len(found) != 1)}")


@app.command()
def show(
    paper: Annotated[list[str], typer.Argument(help="An id, a title, or words of a title.", show_default=False)],
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    """Show one paper: title, abstract, and where it came from."""
    from rag.papers import find_papers
    from rag.text import printable

    wanted = " ".join(paper)
    found = find_papers(_papers(settings_from(set_, config, index_dir=index)), wanted) if wanted.strip() else []
    if not found:
        raise errors.UsageError(f"No paper matches {wanted!r}.", "`rag papers` lists all of them.")
    if len(found) > 1:
        named = "; ".join(f"{p.title} ({p.paper_id})" for p in found[:3])
        raise errors.UsageError(f"{len(found)} papers match {wanted!r}: {printable(named)}", "Give an id.")
    (match,) = found
    if json_:
        print_json(paper_json(match, with_abstract=True))
        return
    console = console_for(no_color)
    console.print(printable(match.title), style="bold", markup=False, highlight=False)
    details = [match.paper_id, match.date or "", ", ".join(match.sources)]
    if match.author_count:
        details.insert(2, f"{match.author_count} author{'s' if match.author_count > 1 else ''}")
    console.print(" · ".join(d for d in details if d), style="dim", markup=False, highlight=False)
    console.print("\n" + printable(match.abstract), markup=False, highlight=False)


@app.command()
def status(
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    """Show the index and its passport, the model, and whether Ollama answers."""
    settings = settings_from(set_, config, index_dir=index)
    report, failure = _status(settings)
    if json_:
        print_json(report)
    else:
        console = console_for(no_color)
        for name, value in _flat(report):
            console.print(f"{name:28} {value}", markup=False, highlight=False, soft_wrap=True)
    if failure:
        _fail(failure)


@app.command()
def verify(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Text with citations and titles; - reads stdin.")],
    judge: JudgeOption = None,
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
) -> None:
    r"""Check any text with \[n] and a list of titles, or titles in brackets, against the corpus."""
    from rag.answering.foreign import check
    from rag.papers import read_text

    settings = settings_from(set_, config, index_dir=index, judge=judge)
    text = _stdin() if source == "-" else read_text(Path(source))
    assistant = open_assistant(settings)
    checked = check(text, assistant.index, assistant.retriever, assistant.verifier)
    answer = checked.answer
    if json_:
        result = answer.as_json()
        print_json({n: result[n] for n in ("sentences", "citations", "grounding")} | {"unknown": list(checked.unknown)})
    else:
        explain(answer, console_for(no_color))
    for title in checked.unknown:
        say(f"Not in the corpus: {title}")
    if answer.unsupported or checked.unknown or any(s.verdict == "miscited" for s in answer.sentences):
        raise typer.Exit(UNSUPPORTED)


@app.command(
    "eval",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def eval_(context: typer.Context) -> None:
    """Measure retrieval, answers and verdicts; compare runs; gate a change."""
    from eval.cli import app as harness

    harness(args=context.args or ["--help"], prog_name="rag eval")


@app.command()
def chat(
    k: KOption = None,
    mode: ModeOption = None,
    model: ModelOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    no_color: ColorOption = False,
    show_thinking: Annotated[bool, typer.Option("--show-thinking", help="Print a model's reasoning, dimmed.")] = False,
) -> None:
    """Talk with the corpus: follow-up questions, /sources, /open N, /model NAME, /quit."""
    from rag.chat import converse

    settings = settings_from(set_, config, index_dir=index, k=k, mode=mode, llm=model)
    converse(open_assistant(settings), console_for(no_color), show_thinking)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option("--port", help="Port; without it the first free one from 7860.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve; other than this machine's needs --auth.")] = (
        "127.0.0.1"
    ),
    auth: Annotated[str | None, typer.Option("--auth", metavar="USER:PASSWORD", help="Ask visitors for these.")] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Also serve `ask` and `search` as MCP tools.")] = False,
    report: Annotated[Path, typer.Option("--report", metavar="DIR", help="Folder of the evaluation's report.")] = (
        Path("reports")
    ),
    k: KOption = None,
    mode: ModeOption = None,
    model: ModelOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Serve the chat in the browser: answers beside their evidence, the papers, the evaluation."""
    from ui import launch

    settings = settings_from(set_, config, index_dir=index, k=k, mode=mode, llm=model)
    launch(lambda: open_assistant(settings), host, port, auth, mcp, report)


models_app = typer.Typer(help="List or fetch the models of the Ollama server.")
app.add_typer(models_app, name="models")


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context, json_: JsonOption = False, config: ConfigOption = None, set_: SetOption = None
) -> None:
    """List the models of the Ollama server; the one that would answer is marked."""
    if context.invoked_subcommand:
        return
    from rag.answering.ollama import Server, choose_model

    settings = settings_from(set_, config)
    server = Server.of(settings)
    found = server.models()
    try:
        chosen = choose_model(server, settings.llm).name
        chosen = next((m.name for m in found if m.name in (chosen, f"{chosen}:latest")), chosen)
    except errors.ModelUnavailable as error:
        chosen = ""
        say(str(error))
    if json_:
        print_json([{"name": m.name, "bytes": m.size, "chosen": m.name == chosen, "cloud": m.remote} for m in found])
        return
    for m in found:
        details = " ".join(part for part in (m.parameters, m.quantization, "in the cloud" if m.remote else "") if part)
        print(f"{'*' if m.name == chosen else ' '} {m.name:36} {m.size / 1e9:6.1f} GB  {details}".rstrip())


@models_app.command()
def pull(name: str, config: ConfigOption = None, set_: SetOption = None) -> None:
    """Fetch a model to the Ollama server."""
    from rag.answering.ollama import Server

    with progress_bar(f"Pulling {name}", unit="bytes") as progress:
        for step in Server.of(settings_from(set_, config)).pull(name):
            progress(step.completed, step.total)
    print(name)


@app.command("config")
def config_(json_: JsonOption = False, config: ConfigOption = None, set_: SetOption = None) -> None:
    """Show every setting, its value, and where the value came from."""
    from rag.settings import describe, names

    settings = settings_from(set_, config)
    shown = {n: (getattr(settings, n), settings.origin(n)) for n in names()}
    if not settings.ollama_host and (host := os.environ.get("OLLAMA_HOST")):  # Ollama's own name for it
        shown["ollama_host"] = host, "environment OLLAMA_HOST"
    if json_:
        print_json({name: {"value": value, "origin": origin} for name, (value, origin) in shown.items()})
        return
    for name, (value, origin) in shown.items():
        print(f"{name:20} {value!s:20} {origin:24} {describe(name)}")


# --- what the commands share -----------------------------------------------------------------------


def _question(parts: list[str] | None) -> str:
    """The question from the arguments, or from stdin for `-`."""
    from rag.retrieval import clean_question

    if parts == ["-"]:
        return clean_question(_stdin())
    return clean_question(" ".join(parts or []))


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise errors.UsageError("stdin is not UTF-8 text.", "Give the question as plain text.") from None


def _papers(settings: Settings) -> list[Paper]:
    """The papers of the index; of the packaged corpus if there is no index."""
    from rag.index.store import Index
    from rag.papers import packaged_corpus, read_papers

    try:
        return Index.open(settings).papers()
    except errors.IndexMissing:
        return read_papers([packaged_corpus()])[0]


def _batch(source: list[str] | None, answer: Callable[[Any, str, list[Turn]], dict[str, Any]]) -> int:
    """Answer JSON lines in order; a line that cannot be answered yields {"id", "error"} in its place."""
    if not source or source == ["-"]:
        text = _stdin()
    else:
        from rag.papers import read_text

        text = read_text(Path(source[0]))
    code = OK
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        id_: Any = None
        try:
            request = _object(line, number)
            id_ = request.get("id")
            if not isinstance(request.get("question"), str):
                raise errors.UsageError(f'Line {number} has no text "question".')
            result = answer(id_, request["question"], _history(request, number))
        except errors.RagError as error:
            result, code = {"id": id_, "error": str(error)}, _exit_code(error)
        print(json.dumps(result, ensure_ascii=False), flush=True)
    return code


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise errors.UsageError(f"Line {number} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise errors.UsageError(f"Line {number} is not a JSON object.")
    return value


def _history(request: dict[str, Any], number: int) -> list[Turn]:
    from rag.answering import Turn

    try:
        return [Turn(str(turn["question"]), str(turn["answer"])) for turn in request.get("history") or []]
    except (TypeError, KeyError):
        raise errors.UsageError(f'Line {number}: "history" must be a list of {{"question", "answer"}}.') from None


def _write_bib(path: Path, assistant: Assistant, answer: Answer) -> None:
    """BibTeX of the papers whose citations survived verification."""
    from rag.bibtex import bibtex

    sound = {n for s in answer.sentences if s.verdict != "unsupported" for n in s.citations}
    cited = [c.paper_id for c in answer.citations if c.n in sound]
    try:
        path.write_text("\n".join(bibtex(r.paper) for r in assistant.index.find(cited)), encoding="utf-8")
    except OSError as error:
        raise errors.UsageError(f"Cannot write {path}: {error.strerror}.", "Check --bib.") from error


def _status(settings: Settings) -> tuple[dict[str, Any], errors.RagError | None]:
    from dataclasses import asdict

    from rag import __version__
    from rag.index.passport import Passport
    from rag.index.store import Index, generation

    report: dict[str, Any] = {"version": __version__, "index": {"path": str(settings.index_path), "state": "ready"}}
    failure: errors.RagError | None = None
    try:
        folder = generation(settings.index_path)
        files = [f for f in folder.rglob("*") if f.is_file()]
        report["index"] |= {"bytes": sum(f.stat().st_size for f in files)}
        report["passport"] = asdict(Passport.read(folder))
        Index.open(settings).vectors  # noqa: B018  # opens Chroma, so that damage shows here
    except errors.RagError as error:
        state = {errors.IndexMissing: "missing", errors.IndexUnfit: "unfit"}.get(type(error), "damaged")
        report["index"] |= {"state": state, "problem": str(error)}
        failure = error
    report["ollama"] = _ollama(settings)
    return report, failure


def _ollama(settings: Settings) -> dict[str, Any]:
    """Whether a server answers where the settings point, and which of its models would write."""
    from rag.answering.ollama import Server, address, choose_model

    found: dict[str, Any] = {"host": str(address(settings)), "reachable": False}
    try:
        server = Server(address(settings), settings.connect_timeout, call=5.0)  # a status must not hang
        found |= {"version": server.version(), "reachable": True}
        found["model"] = choose_model(server, settings.llm).name
    except errors.ModelUnavailable as error:
        found["problem"] = str(error)
    return found


def _flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value


def _exit_code(error: errors.RagError) -> int:
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), UNEXPECTED)


def _fail(error: errors.RagError) -> NoReturn:
    say(f"rag: {error}")
    raise typer.Exit(_exit_code(error))


def main() -> None:
    """Run the command line; every failure is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        except errors.RagError as error:
            say(f"rag: {error}")
            sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has left: nobody is there to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
    except Exception as error:
        if os.environ.get("RAG_DEBUG"):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"rag: unexpected {type(error).__name__}: {reason} (RAG_DEBUG=1 shows where)")
        sys.exit(UNEXPECTED)


if __name__ == "__main__":
    main()
