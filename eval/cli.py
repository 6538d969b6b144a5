"""`rag eval`: parses arguments, runs the harness, prints what it returns.

Exit codes: 0 passed, 1 a gate is breached (or the lint found something), 2 usage, or a fault that kept the
evaluation from measuring anything: a missing index or model, a stale recording, questions that ended in an error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag import errors
from rag.options import ConfigOption, IndexOption, JsonOption, SetOption, open_assistant, settings_from
from rag.render import print_json, progress_bar, say
from rag.settings import Settings

if TYPE_CHECKING:
    from eval.gates import Comparison
    from eval.metrics import Estimate
    from rag.answering.generative import OllamaAnswerer
    from rag.answering.opinion import OllamaJudge
    from rag.assistant import Assistant

PASSED, BREACHED, FAULT = 0, 1, 2

app = typer.Typer(
    name="eval",
    help="Measure retrieval, answers and verdicts; compare runs; gate a change.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

QuestionsOption = Annotated[Path | None, typer.Option("--questions", metavar="DIR", help="Folder of question files.")]


@app.command()
def retrieval(
    beir: Annotated[Path, typer.Option("--beir", metavar="DIR", help="corpus.jsonl, queries.jsonl and qrels.tsv.")],
    json_: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Index a collection in BEIR's field names in a scratch folder and score the ranking of its queries."""
    with _faults():
        settings = settings_from(set_, config)
        from eval.beir import evaluate, read

        collection = read(beir)
        with progress_bar("Indexing, then searching", "texts") as progress:
            result = evaluate(collection, settings, progress)
    for problem in collection.problems:
        say(f"skipped: {problem}")
    if json_:
        print_json(result.as_json())
        return
    size = f"{len(collection.papers):,} documents, {len(collection.queries):,} queries"
    _table(f"{collection.name}: {size}", {name: [estimate] for name, estimate in result.estimates.items()}, [""])


@app.command()
def grounding(
    file: Annotated[Path, typer.Argument(help="Labelled responses (RAGTruth's fields) or claims (SciFact's), JSONL.")],
    limit: Annotated[int, typer.Option(help="That many responses, evenly spread; 0 is all.", min=0)] = 0,
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Score the verifier on human labels: AUROC, balanced accuracy, F1, for responses and for sentences."""
    with _faults():
        settings = settings_from(set_, config, index_dir=index)
        from eval.grounding import LabelledVerifier, as_json, read, summarise

        items = read(file)
        if 0 < limit < len(items):
            items = [items[i * len(items) // limit] for i in range(limit)]
        verifier = LabelledVerifier(open_assistant(settings))
        with progress_bar("Judging", "responses") as progress:
            scored = []
            for done, item in enumerate(items, start=1):
                scored.append(verifier.score(item))
                progress(done, len(items))
        figures = summarise(scored)
    if json_:
        print_json(as_json(file.name, scored, figures))
        return
    for level, estimates in figures.items():
        _table(f"{file.name}: {level}", {name: [estimate] for name, estimate in estimates.items()}, [""])


@app.command()
def run(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the reports.")],
    mode: Annotated[str, typer.Option(help="extractive, or ollama.")] = "extractive",
    model: Annotated[list[str] | None, typer.Option(help="Model of the server; several go side by side.")] = None,
    judge: Annotated[
        str, typer.Option(metavar="MODEL", help="A model's second opinion on every verdict; never gates.")
    ] = "",
    record: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep what the models write.")] = None,
    replay: Annotated[Path | None, typer.Option(metavar="DIR", help="Score recorded answers; asks no server.")] = None,
    split: Annotated[str, typer.Option(help="dev or test; both by default.")] = "",
    type_: Annotated[list[str] | None, typer.Option("--type", help="Questions of these types only.")] = None,
    limit: Annotated[int, typer.Option(help="That many questions, evenly spread; 0 is all.", min=0)] = 0,
    leave_one_out: Annotated[int, typer.Option(help="Questions asked again without their source.", min=0)] = 40,
    sabotage: Annotated[int, typer.Option(help="Answers to damage, to prove the gates; 0 is none.", min=0)] = 40,
    gates: Annotated[Path | None, typer.Option(metavar="FILE", help="Gates; eval/gates.toml by default.")] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="FILE", help="Earlier report to compare with.")] = None,
    questions: QuestionsOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Ask every question, score every answer, write report.json, report.md, report.html and junit.xml, and gate."""
    with _faults():
        if mode not in ("extractive", "ollama"):
            raise errors.UsageError(f"--mode {mode} is neither extractive nor ollama.")
        if mode == "ollama" and not model:
            raise errors.UsageError("--mode ollama needs --model.", "`rag models` lists what is there.")
        if mode == "extractive" and model:
            raise errors.UsageError("--model goes with --mode ollama.")
        if (record or replay) and not (model or judge):
            raise errors.UsageError("--record and --replay go with --mode ollama, or with --judge.")
        if out.exists() and not out.is_dir():
            raise errors.UsageError(f"{out} is no folder.", "Give another --out.")
        if record and replay:
            raise errors.UsageError("--record and --replay exclude each other.")
        from dataclasses import replace

        settings = replace(settings_from(set_, config, index_dir=index, mode=mode), judge="")  # no model decides a gate
        from eval import questions as sets
        from eval.gates import BASELINE, GATES, read_gates, read_report
        from eval.report import assemble, write
        from eval.run import Examiner, ask_all, papers_of, summarise
        from eval.sabotage import run_all

        rules = read_gates(gates or GATES)
        before = read_report(baseline) if baseline else (read_report(BASELINE) if BASELINE.is_file() else None)
        everything = sets.read(questions or sets.FOLDER)
        asked = sets.choose(everything, split, type_ or (), limit)
        assistant = open_assistant(settings)
        second = _judge(settings, judge, record, replay) if judge else None
        runs, proofs = [], []
        for name in dict.fromkeys(model or [""]):
            examiner = Examiner(_answering(assistant, name, record, replay))
            with progress_bar(f"Asking {name}".strip(), "questions") as progress:
                outcomes = ask_all(examiner, asked, progress, leave_one_out)
            runs.append(summarise(name or "extractive", outcomes, examiner.assistant.settings))
            if sabotage and mode == "extractive":
                with progress_bar("Sabotage", "kinds") as progress:
                    proofs = run_all(examiner, outcomes, rules, sabotage, progress)
        if second:
            from eval.judge import review

            shown = papers_of(runs, examiner.papers)
            for i, done in enumerate(runs):
                with progress_bar(f"Judging {done['name']}", "claims") as progress:
                    runs[i] = review(done, shown, second, progress)
        report = assemble(runs, proofs, everything, asked, examiner, rules, before)
        try:
            write(report, out)
        except OSError as error:
            raise errors.UsageError(f"Cannot write {out}: {error.strerror}.") from None
    _show(report)
    say(f"Reports in {out}: report.html, report.md, report.json, junit.xml")
    _verdict(report)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="A report.json, or a baseline.")],
    after: Annotated[Path, typer.Argument(help="The later report.json.")],
    json_: JsonOption = False,
) -> None:
    """Compare two reports: every metric with the paired bootstrap, and the questions that turned bad or good."""
    with _faults():
        from eval.gates import compare, matching, read_report

        old, new = read_report(before), read_report(after)
        pairs = [(run, matching(run, old["runs"])) for run in new["runs"]]
        compared = {run["name"]: compare(other, run) for run, other in pairs if other is not None}
        if not compared:
            raise errors.UsageError("The two reports have no run in common.", "Runs go by the name of their model.")
    if json_:
        print_json({name: c.as_json() for name, c in compared.items()})
        return
    texts = {o["id"]: o.get("question", "") for run in new["runs"] for o in run["outcomes"]}
    for name, c in compared.items():
        _changes(name, c)
        for title, ids in (("Turned bad", c.turned_bad), ("Turned good", c.turned_good)):
            print(f"\n{title}: {len(ids)}")
            for i in ids:
                print(f"  {i}  {texts[i]}")
        for title, ids in (("Only before", c.only_before), ("Only after", c.only_after)):
            if ids:
                print(f"\n{title}: {len(ids)} ({', '.join(ids[:5])}{', …' if len(ids) > 5 else ''})")


@app.command()
def gate(
    report: Annotated[Path, typer.Argument(help="A report.json.")],
    gates: Annotated[Path | None, typer.Option(metavar="FILE", help="Gates; eval/gates.toml by default.")] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="FILE", help="Earlier report to compare with.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Make this report the baseline instead.")] = False,
) -> None:
    """Gate a report: exit code 1 with a line for each breach, 2 where there is nothing to judge by."""
    with _faults():
        from eval.gates import BASELINE, GATES, baseline_of, read_gates, read_report
        from eval.report import decide

        found = read_report(report)
        target = baseline or BASELINE
        if accept:
            if (
                any(run.get("errors") for run in found["runs"])
                or found["questions"]["asked"] < found["questions"]["total"]
            ):
                raise errors.UsageError("A baseline needs every question, and none that ended in an error.")
            text = json.dumps(baseline_of(found), ensure_ascii=False, separators=(",", ":"))
            target.write_text(text.replace('{"id"', '\n{"id"') + "\n", encoding="utf-8")
            say(f"{target} is now {report}")
            return
        before = read_report(target) if baseline or target.is_file() else None
        found = decide(found, read_gates(gates or GATES), before)
    for decision in found["gates"]:
        mark = "pass  " if decision["passed"] else "BREACH"
        print(f"{mark}  {decision['run']}: {decision['name']}: {decision['detail']}")
    _verdict(found)


@app.command()
def lint(json_: JsonOption = False, questions: QuestionsOption = None) -> None:
    """Check the questions: fields, titles, key facts against the abstracts, leaks, repeats, counts, splits."""
    with _faults():
        from collections import Counter

        from eval.questions import FOLDER, TYPES, read
        from eval.questions import lint as check
        from rag.papers import packaged_corpus, read_papers

        asked = read(questions or FOLDER)
        problems = check(asked, read_papers([packaged_corpus()])[0])
    splits = Counter((q.type, q.split) for q in asked)
    if json_:
        counts = {kind: {s: splits[kind, s] for s in ("dev", "test")} for kind in TYPES}
        print_json({"questions": len(asked), "types": counts, "problems": problems})
    else:
        for problem in problems:
            print(problem)
        for kind in TYPES:
            say(f"{kind:24}{splits[kind, 'dev']:4} dev{splits[kind, 'test']:4} test")
        say(f"{len(asked)} questions, {len(problems)} problems")
    if problems:
        raise typer.Exit(BREACHED)


# --- what the commands share -----------------------------------------------------------------------


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever keeps the harness from measuring exits with FAULT: it is never a pass and never a breach."""
    try:
        yield
    except errors.RagError as error:
        say(f"rag eval: {error}")
        raise typer.Exit(FAULT) from error
    except ModuleNotFoundError as error:
        say(f"rag eval: {error.name} is not installed; it belongs to rag's own requirements.")
        raise typer.Exit(FAULT) from error
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("RAG_DEBUG"):
            raise
        say(f"rag eval: unexpected {type(error).__name__}: {error} (RAG_DEBUG=1 shows where)")
        raise typer.Exit(FAULT) from error


def _answering(assistant: Assistant, model: str, record: Path | None, replay: Path | None) -> Assistant:
    """`assistant` answering by `model` (itself without one), whose server is recorded or replaced by a recording."""
    if not model:
        return assistant
    from dataclasses import replace

    from rag.assistant import Assistant

    answering = Assistant(assistant.index, replace(assistant.settings, llm=model))
    answering.retriever = assistant.retriever
    answering.writer = _answerer(answering.settings, model, record, replay)
    return answering


def _answerer(
    settings: Settings, model: str, record: Path | None, replay: Path | None, prefix: str = ""
) -> OllamaAnswerer:
    """`model` on the server of `settings`, recorded in or replayed from a file of its own in that folder."""
    from dataclasses import replace

    from eval.tape import Tape
    from rag.answering.generative import OllamaAnswerer
    from rag.answering.ollama import Server

    settings = replace(settings, llm=model)
    server = None
    if folder := record or replay:
        path = folder / f"{prefix}{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.jsonl"
        server = Tape(path, Server.of(settings) if record else None)
    return OllamaAnswerer(settings, server)


def _judge(settings: Settings, model: str, record: Path | None, replay: Path | None) -> OllamaJudge:
    """`model` as a judge. Raises ModelUnavailable now rather than after all the questions."""
    from dataclasses import replace

    from rag.answering.opinion import OllamaJudge

    judge = OllamaJudge(replace(settings, judge=model))
    judge.writer = _answerer(settings, model, record, replay, "judge_")
    judge.writer.card  # noqa: B018
    return judge


def _verdict(report: dict[str, Any]) -> None:
    """Exit as the report's gates demand."""
    errors_ = sum(len(run.get("errors", [])) for run in report["runs"])
    breaches = [g for g in report["gates"] if not g["passed"]]
    for breach in breaches:
        say(f"BREACH {breach['run']}: {breach['name']}: {breach['detail']}")
    if errors_:
        say(f"{errors_} question{'s' * (errors_ != 1)} ended in an error: this run proves nothing.")
        raise typer.Exit(FAULT)
    if breaches:
        raise typer.Exit(BREACHED)
    from eval.report import verdict

    say(f"{verdict(report)}.")


def _show(report: dict[str, Any]) -> None:
    """The figures of every run, side by side."""
    from eval.metrics import METRICS, Estimate

    runs = report["runs"]
    rows = {METRICS[name].label: [Estimate(**run["metrics"][name]) for run in runs] for name in METRICS}
    _table(f"{report['questions']['asked']} questions", rows, [run["name"] for run in runs])


def _changes(name: str, comparison: Comparison) -> None:
    from eval.metrics import METRICS
    from eval.report import signed

    rows = []
    for metric, change in comparison.metrics.items():
        better = (change.difference.value or 0.0) * (-1 if METRICS[metric].better == "lower" else 1) > 0
        word = ("better" if better else "worse") if change.significant and METRICS[metric].better else ""
        figures = f"{change.before:.3f}", f"{change.after:.3f}", signed(change.difference.as_json())
        rows.append([METRICS[metric].label, *figures, f"{change.difference.n}", word])
    _print(name, ("metric", "before", "after", "difference [95%]", "n", ""), rows)


def _table(title: str, rows: dict[str, list[Estimate]], columns: Sequence[str]) -> None:
    """Rows of estimates, a column a run."""
    from eval.report import interval

    cells = [
        [name, *(interval(e.as_json()) for e in found), f"{max(e.n for e in found)}"] for name, found in rows.items()
    ]
    _print(title, ("metric", *(f"{column} [95%]".strip() for column in columns), "n"), cells)


def _print(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 1000  # nothing is cut for a file
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head in ("metric", "") else "right")
    for row in rows:
        table.add_row(*row)
    console.print(title, style="bold")
    console.print(table)
