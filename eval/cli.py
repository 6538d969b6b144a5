"""`rag eval`: parses arguments, calls the harness, prints what it returns.

Exit codes: 0 passed; 1 a gate is breached, or the lint found a problem; 2 wrong usage, or a fault that stopped the
evaluation: no index or model, a stale recording, a question that ended in an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import ConfigOption, IndexOption, JsonOption, SetOption, open_assistant, settings_from
from rag.cli.render import print_json, progress_bar, say
from rag.errors import RagError, UsageError

if TYPE_CHECKING:
    from eval.log import EvalLog

PASSED, BREACHED, FAULT = 0, 1, 2

app = typer.Typer(
    name="eval",
    help="Measure retrieval, answers and verdicts; compare runs; gate a change.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

QuestionsOption = Annotated[Path | None, typer.Option("--questions", metavar="DIR", help="Folder of question files.")]
GatesOption = Annotated[Path | None, typer.Option("--gates", metavar="FILE", help="Gates; eval/gates.toml by default.")]
BaselineOption = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="What to compare with; eval/baseline.json by default.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the reports.")]


@app.command()
def retrieval(
    beir: Annotated[Path, typer.Option("--beir", metavar="DIR", help="corpus.jsonl, queries.jsonl and qrels.tsv.")],
    json_: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Index a collection in BEIR format in a temporary folder, and score the ranking for its queries."""
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
    from eval.tables import print_estimates

    size = f"{len(collection.papers):,} documents, {len(collection.queries):,} queries"
    print_estimates(f"{collection.name}: {size}", {name: [e] for name, e in result.estimates.items()})


@app.command()
def grounding(
    file: Annotated[Path, typer.Argument(help="Labelled responses (RAGTruth's fields) or claims (SciFact's), JSONL.")],
    limit: Annotated[int, typer.Option(help="Responses to verify, evenly spread; 0: all.", min=0)] = 0,
    json_: JsonOption = False,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Score the verifier on human labels: AUROC, balanced accuracy, F1, for responses and for sentences."""
    with _faults():
        settings = settings_from(set_, config, index_dir=index)
        from eval.grounding import as_json, labelled_verifier, read, score, summarise

        items = read(file)
        if 0 < limit < len(items):
            items = [items[i * len(items) // limit] for i in range(limit)]
        verifier = labelled_verifier(open_assistant(settings))
        scored = []
        with progress_bar("Verifying", "responses") as progress:
            for item in items:
                scored.append(score(item, verifier))
                progress(len(scored), len(items))
        figures = summarise(scored)
    if json_:
        print_json(as_json(file.name, scored, figures))
        return
    from eval.tables import print_estimates

    for level, estimates in figures.items():
        print_estimates(f"{file.name}: {level}", {name: [e] for name, e in estimates.items()})


@app.command()
def run(
    out: OutOption,
    mode: Annotated[str, typer.Option(help="extractive or generative.")] = "extractive",
    model: Annotated[list[str] | None, typer.Option(help="Model of the server; several are compared.")] = None,
    judge: Annotated[
        str, typer.Option(metavar="MODEL", help="Model that also judges every cited claim; it never gates.")
    ] = "",
    record: Annotated[Path | None, typer.Option(metavar="DIR", help="Record the replies of the models.")] = None,
    replay: Annotated[Path | None, typer.Option(metavar="DIR", help="Use recorded replies, not a server.")] = None,
    split: Annotated[str, typer.Option(help="dev or test; both by default.")] = "",
    type_: Annotated[list[str] | None, typer.Option("--type", help="Questions of these types only.")] = None,
    limit: Annotated[int, typer.Option(help="Questions to ask, evenly spread; 0: all.", min=0)] = 0,
    leave_one_out: Annotated[int, typer.Option(help="Questions to ask again without their source.", min=0)] = 40,
    perturbations: Annotated[
        int, typer.Option(help="Answers to damage in each way, to prove that the gates can fail; 0: none.", min=0)
    ] = 40,
    sabotage: Annotated[int | None, typer.Option(min=0, hidden=True)] = None,
    gates: GatesOption = None,
    baseline: BaselineOption = None,
    questions: QuestionsOption = None,
    index: IndexOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Ask every question, score every answer, gate, and write report.json, report.md, report.html and junit.xml."""
    if sabotage is not None:
        say("--sabotage is deprecated: use --perturbations.")
        perturbations = sabotage
    if mode == "ollama":
        say("--mode ollama is deprecated: use --mode generative.")
        mode = "generative"
    with _faults():
        from eval.evaluation import RunOptions, evaluate

        options = RunOptions(
            out=out, mode=mode, models=tuple(model or ()), judge=judge, record=record, replay=replay, split=split,
            types=tuple(type_ or ()), limit=limit, leave_one_out=leave_one_out, perturbations=perturbations,
            gates=gates, baseline=baseline, questions=questions,
        )  # fmt: skip
        log = evaluate(options, settings_from(set_, config, index_dir=index))
        _write(log, out)
    _verdict(log)


@app.command()
def score(
    report: Annotated[Path, typer.Argument(help="A report.json.")],
    out: OutOption,
    gates: GatesOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Score the answers in a report again, without asking anything, and write a new report.

    Leave-one-out attribution, the answers behind abstentions, judges and perturbations stay as recorded.
    """
    with _faults():
        from eval.evaluation import rules
        from eval.log import read_log
        from eval.report.assemble import decide
        from eval.scoring import rescore

        log = rescore(read_log(report))
        log = decide(log, *rules(gates, baseline))
        _write(log, out)
    _verdict(log)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="A report.json, or a baseline.")],
    after: Annotated[Path, typer.Argument(help="The later report.json.")],
    json_: JsonOption = False,
) -> None:
    """Compare two reports: every metric with the paired bootstrap, and the questions that turned bad or good."""
    with _faults():
        from eval.comparison import compare, matching
        from eval.log import read_log, read_scores

        old, new = read_scores(before), read_log(after)
        pairs = [(run, matching(run, old.runs)) for run in new.runs]
        comparisons = {run.name: compare(other, run) for run, other in pairs if other is not None}
        if not comparisons:
            raise UsageError("The two reports have no run in common.", "Runs are matched by the name of their model.")
    if json_:
        print_json({name: comparison.model_dump(mode="json") for name, comparison in comparisons.items()})
        return
    from eval.tables import print_comparison

    questions = {sample.id: sample.question for run in new.runs for sample in run.samples}
    for name, comparison in comparisons.items():
        print_comparison(name, comparison, questions)


@app.command()
def gate(
    report: Annotated[Path, typer.Argument(help="A report.json.")],
    gates: GatesOption = None,
    baseline: BaselineOption = None,
    accept: Annotated[bool, typer.Option("--accept", help="Make this report the baseline instead.")] = False,
) -> None:
    """Gate a report: exit code 1 with a line for each breach, 2 if the report cannot be gated."""
    with _faults():
        from eval.evaluation import rules
        from eval.gates import BASELINE
        from eval.log import read_log
        from eval.report.assemble import decide

        log = read_log(report)
        if accept:
            if log.error_count or not log.is_complete:
                raise UsageError(f"{report} cannot be the baseline.", "Ask every question, without an error.")
            target = baseline or BASELINE
            target.write_text(log.scores().to_json(), encoding="utf-8")
            say(f"{target} is now {report}")
            return
        log = decide(log, *rules(gates, baseline))
    for decision in log.gates:
        print(decision)
    _verdict(log)


@app.command()
def lint(json_: JsonOption = False, questions: QuestionsOption = None) -> None:
    """Check the questions: fields, titles, key facts against the abstracts, leaks, repeats, counts, splits."""
    with _faults():
        from collections import Counter

        from eval.questions import FOLDER, TYPES, read
        from eval.questions import lint as check
        from rag.corpus.reading import packaged_corpus, read_papers

        question_set = read(questions or FOLDER)
        problems = check(question_set, read_papers([packaged_corpus()])[0])
    splits = Counter((q.type, q.split) for q in question_set)
    if json_:
        counts = {kind: {s: splits[kind, s] for s in ("dev", "test")} for kind in TYPES}
        print_json({"questions": len(question_set), "types": counts, "problems": problems})
    else:
        for problem in problems:
            print(problem)
        for kind in TYPES:
            say(f"{kind:24}{splits[kind, 'dev']:4} dev{splits[kind, 'test']:4} test")
        say(f"{len(question_set)} questions, {len(problems)} problems")
    if problems:
        raise typer.Exit(BREACHED)


# --- shared by the commands -------------------------------------------------------------------------


@contextmanager
def _faults() -> Iterator[None]:
    """Exit with FAULT on any error: an evaluation that stopped has neither passed nor breached a gate."""
    try:
        yield
    except RagError as error:
        say(f"rag eval: {error}")
        raise typer.Exit(FAULT) from error
    except ModuleNotFoundError as error:
        say(f"rag eval: {error.name} is not installed. Install rag again: it is one of its requirements.")
        raise typer.Exit(FAULT) from error
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("RAG_DEBUG"):
            raise
        say(f"rag eval: unexpected {type(error).__name__}: {error} (RAG_DEBUG=1 shows where)")
        raise typer.Exit(FAULT) from error


def _write(log: EvalLog, out: Path) -> None:
    """Write the reports and print the figures."""
    from eval.report.assemble import write
    from eval.tables import print_figures

    write(log, out)
    print_figures(log)
    say(f"Reports in {out}: report.html, report.md, report.json, junit.xml")


def _verdict(log: EvalLog) -> None:
    """Print the decision on `log`, and exit with its code."""
    from eval.report.figures import verdict

    for breach in log.breaches():
        say(str(breach))
    if log.error_count:
        say(f"{verdict(log)}: this run is not valid.")
        raise typer.Exit(FAULT)
    if any(log.breaches()):
        raise typer.Exit(BREACHED)
    say(f"{verdict(log)}.")
