"""The evaluation as a whole: runs, perturbations, reports, exit codes, recordings, and the report in a browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Page
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner, Result

from eval import gates
from eval.cli import app
from eval.log import EvalLog, read_log
from eval.report.assemble import decide, write
from eval.report.html import html
from eval.report.junit import junit
from eval.report.markdown import markdown
from tests.ollama_server import FakeModel, OllamaServer

PASSED, BREACHED, FAULT = 0, 1, 2
SIZE = 24  # answers damaged in each way
Rag = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, as on the command line: on a busy machine more threads wait for each other."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def rag_eval(index_dir: Path) -> Rag:
    """`rag eval` in this process, on the whole index."""

    def run(*arguments: object) -> Result:
        command = [str(argument) for argument in arguments]
        on_index = ["--index", str(index_dir)] if command[0] == "run" and "--index" not in command else []
        result = CliRunner().invoke(app, [*command, *on_index])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture(scope="module")
def folder(rag_eval: Rag, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of a run over a third of the questions."""
    out = tmp_path_factory.mktemp("report")
    result = rag_eval("run", "--out", out, "--limit", 120, "--perturbations", SIZE, "--leave-one-out", 12)
    assert result.exit_code == PASSED, result.stderr
    return out


@pytest.fixture
def report(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return loaded


# --- the run ---------------------------------------------------------------------------------------------


def test_a_run_has_every_figure_with_interval_and_n(report: dict[str, Any]) -> None:
    (run,) = report["runs"]
    for name, figure in run["metrics"].items():
        assert figure["n"] > 0, name
        assert figure["low"] <= figure["value"] <= figure["high"], name
    assert len(run["by_type"]) == 13 and set(run["by_split"]) == {"dev", "test"}
    assert run["latency_ms"]["p50"] <= run["latency_ms"]["p95"]
    assert run["groundedness_corrected"] is not None
    assert run["hard_failures"] == run["errors"] == []
    for sample in run["samples"]:
        for citation in sample["answer"]["citations"]:
            abstract = report["papers"][citation["paper_id"]]["abstract"]
            assert all(abstract[e["start"] : e["end"]] == e["text"] for e in citation["evidence"])
            assert sample["answer"]["context"][citation["n"] - 1] == citation["paper_id"]


def test_runs_are_deterministic_and_quiet_in_a_pipe(rag_eval: Rag, tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        result = rag_eval("run", "--out", tmp_path / name, "--limit", 8, "--perturbations", 1, "--leave-one-out", 2)
        assert "Asking" not in result.stderr + result.stdout
        text = (tmp_path / name / "report.json").read_text(encoding="utf-8")
        texts.append(re.sub(r'"(latency_ms": [\d.]+|p\d\d": [\d.]+|created": "[^"]+)', "", text))
    assert texts[0] == texts[1]


def test_scoring_a_log_again_reproduces_it(rag_eval: Rag, folder: Path, tmp_path: Path) -> None:
    result = rag_eval("score", folder / "report.json", "--out", tmp_path)
    assert result.exit_code == PASSED, result.stderr
    log, again = read_log(folder / "report.json"), read_log(tmp_path / "report.json")
    assert [run.metrics for run in again.runs] == [run.metrics for run in log.runs]
    assert again == log
    assert EvalLog.from_json(log.to_json()) == log


def test_scoring_a_changed_log_again_changes_its_figures(
    rag_eval: Rag, folder: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    sample = next(s for s in report["runs"][0]["samples"] if s["good"] and s["answerable"])
    sample["answer"]["text"] = "Nothing of the kind."
    rag_eval("score", saved(report, tmp_path), "--out", tmp_path)
    changed = {s.id: s for s in read_log(tmp_path / "report.json").runs[0].samples}[sample["id"]]
    assert not changed.good and changed.loss == 1.0 and changed.metrics["key_fact_recall"] == 0.0


# --- the gates can fail ----------------------------------------------------------------------------------

PERTURBATIONS = {
    "a number changed": "numeric_fidelity",
    "a name swapped": "name_fidelity",
    "citations swapped for random papers": "citation_recall",
    "citations swapped for the nearest papers": "citation_recall",
    "citations dropped": "citation_recall",
    "an unsupported sentence appended": "groundedness",
    "a title invented": "no hard failure",
    "a citation of nothing": "no hard failure",
    "an empty answer": "no hard failure",
    "everything refused": "false_refusal_rate",
    "everything answered": "false_answer_rate",
    "retrieval broken": "recall@5",
}


@pytest.mark.parametrize(("name", "gate"), PERTURBATIONS.items())
def test_every_perturbation_breaches_its_gate(report: dict[str, Any], name: str, gate: str) -> None:
    row = next(row for row in report["perturbations"] if row["name"] == name)
    assert (row["gate"], row["tripped"], row["passed"]) == (gate, True, True)


def test_the_verifier_catches_damage_and_raises_no_false_alarms(report: dict[str, Any]) -> None:
    rows = {row["name"]: row["caught"] for row in report["perturbations"] if row["caught"]}
    assert rows["nothing"]["value"] <= 0.01
    assert rows["a number changed"]["value"] >= 0.80
    assert rows["a name swapped"]["value"] >= 0.80
    assert rows["citations swapped for random papers"]["value"] == 1.0
    assert rows["citations swapped for the nearest papers"]["value"] >= 0.65


def test_a_perturbation_without_effect_fails_the_run(report: dict[str, Any]) -> None:
    report["perturbations"][1] |= {"tripped": False, "passed": False}
    breaches = gated(report).breaches()
    assert [(g.run, g.name) for g in breaches] == [("perturbation", "a number changed")]


def gated(report: dict[str, Any]) -> EvalLog:
    """`report` as a log, gated again without a baseline."""
    return decide(EvalLog.from_json(json.dumps(report)), gates.read_gates()[0], None)


def saved(report: dict[str, Any], folder: Path, name: str = "changed.json") -> Path:
    (folder / name).write_text(json.dumps(report), encoding="utf-8")
    return folder / name


def worsened(report: dict[str, Any], metric: str, value: float) -> dict[str, Any]:
    """`report` of all questions, in which every question has `value` of `metric`."""
    changed = copy.deepcopy(report)
    changed["questions"]["total"] = changed["questions"]["asked"]
    for sample in changed["runs"][0]["samples"]:
        if metric in sample["metrics"]:
            sample["metrics"][metric] = value
    figure = changed["runs"][0]["metrics"][metric]
    changed["runs"][0]["metrics"][metric] = {"value": value, "low": value, "high": value, "n": figure["n"]}
    return changed


@pytest.mark.parametrize(
    ("metric", "value", "line"),
    [
        ("recall@5", 0.0, "BREACH extractive: Recall@5 at least"),
        ("numeric_fidelity", 0.5, "BREACH extractive: Numeric fidelity at least"),
        ("false_refusal_rate", 1.0, "BREACH extractive: False refusals at most"),
        ("accuracy", 0.0, "BREACH extractive: Accuracy no worse than the baseline"),
    ],
)
def test_a_breach_exits_1_with_its_line(
    rag_eval: Rag, report: dict[str, Any], tmp_path: Path, metric: str, value: float, line: str
) -> None:
    whole = worsened(report, metric, report["runs"][0]["metrics"][metric]["value"])
    baseline = saved(report | {"questions": whole["questions"]}, tmp_path, "baseline.json")
    result = rag_eval("gate", saved(worsened(report, metric, value), tmp_path), "--baseline", baseline)
    assert result.exit_code == BREACHED
    assert line in result.stderr


def test_a_hard_failure_exits_1_even_in_a_part_of_the_questions(
    rag_eval: Rag, report: dict[str, Any], tmp_path: Path
) -> None:
    report["runs"][0]["hard_failures"] = [{"id": "q", "message": "invented title: 'Everything'"}]
    result = rag_eval("gate", saved(report, tmp_path))
    assert result.exit_code == BREACHED and "invented title" in result.stderr


# --- faults are not verdicts -----------------------------------------------------------------------------


def test_errors_exit_2_and_never_pass(rag_eval: Rag, report: dict[str, Any], tmp_path: Path) -> None:
    report["runs"][0]["errors"] = [{"id": "q", "message": "the disk is full"}]
    assert rag_eval("gate", saved(report, tmp_path)).exit_code == FAULT
    assert rag_eval("gate", tmp_path / "changed.json", "--accept", "--baseline", tmp_path / "b.json").exit_code == FAULT
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mode", "abstractive"),
        ("--mode", "generative"),
        ("--mode", "generative", "--model", "m"),  # no server answers
        ("--model", "m"),
        ("--judge", "m"),
        ("--record", "here"),
        ("--type", "poem"),
        ("--questions", "/nowhere"),
        ("--gates", "/nowhere"),
        ("--baseline", "/nowhere"),
        ("--mode", "generative", "--model", "m", "--replay", "/nowhere"),
        ("--set", "k=0"),
    ],
)
def test_a_fault_exits_2(rag_eval: Rag, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = rag_eval("run", "--out", tmp_path / "r", "--limit", 1, "--perturbations", 0, *arguments)
    assert result.exit_code == FAULT
    assert result.stderr.count("\n") == 1 and not (tmp_path / "r").exists()


def test_a_broken_index_exits_2(rag_eval: Rag, index_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(index_dir, tmp_path / "index")
    for file in (tmp_path / "index").rglob("manifest.json"):
        file.write_text("{")
    result = rag_eval("run", "--out", tmp_path / "r", "--index", tmp_path / "index")
    assert result.exit_code == FAULT and "index" in result.stderr


def test_other_commands_exit_2_if_they_cannot_read_their_input(rag_eval: Rag, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    for arguments in (
        ("gate", tmp_path / "bad.json"),
        ("run", "--out", tmp_path / "bad.json"),
        ("diff", folder / "report.json", tmp_path / "bad.json"),
        ("lint", "--questions", tmp_path),
        ("grounding", tmp_path / "bad.json"),
        ("retrieval", "--beir", tmp_path),
    ):
        assert rag_eval(*arguments).exit_code == FAULT


# --- comparison ------------------------------------------------------------------------------------------


def test_only_a_complete_report_becomes_a_baseline_and_can_be_compared(
    rag_eval: Rag, folder: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    baseline = tmp_path / "baseline.json"
    assert rag_eval("gate", folder / "report.json", "--accept", "--baseline", baseline).exit_code == FAULT
    whole = saved(report | {"questions": report["questions"] | {"total": 120}}, tmp_path)
    assert rag_eval("gate", whole, "--accept", "--baseline", baseline).exit_code == PASSED
    assert rag_eval("gate", whole, "--baseline", baseline).exit_code == PASSED
    sample = report["runs"][0]["samples"][0]
    sample["good"] = not sample["good"]
    result = rag_eval("diff", baseline, saved(report, tmp_path, "later.json"))
    assert result.exit_code == PASSED
    assert f"{sample['id']}  {sample['question']}" in result.stdout
    turned = json.loads(rag_eval("diff", baseline, tmp_path / "later.json", "--json").stdout)["extractive"]
    assert [sample["id"]] in (turned["turned_bad"], turned["turned_good"])
    assert turned["metrics"]["recall@5"]["value"] == 0 and not turned["metrics"]["recall@5"]["significant"]


def test_lint_passes_and_counts(rag_eval: Rag) -> None:
    result = rag_eval("lint", "--json")
    assert result.exit_code == PASSED
    assert json.loads(result.stdout)["problems"] == []


# --- models ----------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaServer]:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    with OllamaServer({"one:1b": FakeModel(), "two:1b": FakeModel()}) as fake:
        fake.reply = ["It trains", " a model", " on curated data", " [1]", "."]
        yield fake


def few(out: Path, *arguments: object) -> tuple[object, ...]:
    return ("run", "--out", out, "--limit", 4, "--perturbations", 0, "--leave-one-out", 0, *arguments)


def test_models_are_compared_and_can_be_replayed_without_a_server(
    rag_eval: Rag, server: OllamaServer, tmp_path: Path
) -> None:
    models = ("--mode", "generative", "--model", "one:1b", "--model", "two:1b")
    live = rag_eval(
        *few(tmp_path / "live", *models, "--set", f"ollama_host={server.host}", "--record", tmp_path / "recording")
    )
    assert live.exit_code == PASSED, live.stderr
    asked = len(server.chats())
    again = rag_eval(*few(tmp_path / "again", *models, "--replay", tmp_path / "recording"))
    assert again.exit_code == PASSED, again.stderr
    assert len(server.chats()) == asked == 8
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("live", "again")]
    for run in reports[0]["runs"]:
        assert run["mode"] == "generative" and run["name"] == run["model"]
    texts = [[[s["answer"]["text"] for s in run["samples"]] for run in report["runs"]] for report in reports]
    assert texts[0] == texts[1]
    assert "| metric | one:1b | two:1b | n |" in (tmp_path / "live" / "report.md").read_text()


def test_a_recording_answers_only_the_recorded_prompt(rag_eval: Rag, server: OllamaServer, tmp_path: Path) -> None:
    model = ("--mode", "generative", "--model", "one:1b")
    rag_eval(*few(tmp_path / "r", *model, "--set", f"ollama_host={server.host}", "--record", tmp_path / "recording"))
    stale = rag_eval(*few(tmp_path / "s", *model, "--set", "k=2", "--replay", tmp_path / "recording"))
    assert stale.exit_code == FAULT and "Record again" in stale.stderr
    (tmp_path / "recording" / "one_1b.jsonl").write_text("{broken")
    corrupt = rag_eval(*few(tmp_path / "s", *model, "--replay", tmp_path / "recording"))
    assert corrupt.exit_code == FAULT and "not a recording" in corrupt.stderr


def test_an_interrupted_stream_is_a_fault_and_not_a_low_score(
    rag_eval: Rag, server: OllamaServer, tmp_path: Path
) -> None:
    server.fault = "stream_error"
    result = rag_eval(
        *few(tmp_path / "r", "--mode", "generative", "--model", "one:1b", "--set", f"ollama_host={server.host}")
    )
    assert result.exit_code == FAULT and "4 questions ended in an error" in result.stderr


def test_a_judge_never_gates_and_can_be_replayed(rag_eval: Rag, server: OllamaServer, tmp_path: Path) -> None:
    server.reply = ["MISSING"]
    host = ("--set", f"ollama_host={server.host}")
    live = rag_eval(*few(tmp_path / "live", "--judge", "one:1b", *host, "--record", tmp_path / "recording"))
    assert live.exit_code == PASSED, live.stderr
    asked = len(server.chats())
    again = rag_eval(*few(tmp_path / "again", "--judge", "one:1b", "--replay", tmp_path / "recording"))
    assert again.exit_code == PASSED, again.stderr
    assert len(server.chats()) == asked > 0
    for name in ("live", "again"):
        judged = json.loads((tmp_path / name / "report.json").read_text())["runs"][0]["judge"]
        assert judged["agreement"]["value"] == judged["judge_supported"]["value"] == 0.0
        assert judged["verifier_supported"]["value"] == 1.0 and judged["agreement"]["n"] == asked
        assert "The judge one:1b agrees with 0.000" in (tmp_path / name / "report.md").read_text()


# --- the reports -----------------------------------------------------------------------------------------

HOSTILE = "</script><img src=x onerror='window.evil=1'>\x00\x0b & | `x` <b>{{7*7}}</b>"


@pytest.fixture
def hostile(report: dict[str, Any]) -> EvalLog:
    """A report whose papers, questions, answers and failures contain markup."""
    for sample in report["runs"][0]["samples"]:
        sample |= {"question": HOSTILE, "good": False, "key_facts": [HOSTILE], "facts_found": [False]}
        sample["answer"]["text"] = HOSTILE
        for sentence in sample["answer"]["sentences"]:
            sentence |= {"text": HOSTILE, "reason": HOSTILE}
    report["runs"][0] |= {"name": HOSTILE, "hard_failures": [{"id": "fact-001", "message": HOSTILE}]}
    for paper in report["papers"].values():
        paper |= {"title": HOSTILE, "abstract": HOSTILE * 20}
    return gated(report)


def test_junit_xml_is_well_formed(folder: Path, report: dict[str, Any], hostile: EvalLog) -> None:
    root = ElementTree.parse(folder / "junit.xml").getroot()
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"gates", "extractive"}
    for suite in root:
        assert len(suite.findall("testcase")) == int(suite.get("tests", ""))
        assert len(suite.findall("testcase/failure")) == int(suite.get("failures", "")) == 0
    assert len(ElementTree.fromstring(junit(hostile)).findall(".//failure")) == 1


def test_markdown_fits_on_the_page_of_a_ci_job(folder: Path, hostile: EvalLog) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Evaluation: ") and len(text.encode()) < 1_000_000
    for heading in ("## extractive by type", "## Perturbations"):
        assert heading in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1 for table in tables)
    assert "<img" not in markdown(hostile) and "<b>" not in markdown(hostile)


def test_old_option_names_are_accepted_with_a_note(rag_eval: Rag, tmp_path: Path) -> None:
    result = rag_eval("run", "--out", tmp_path, "--limit", 2, "--sabotage", 0, "--leave-one-out", 0)
    assert result.exit_code == PASSED and "use --perturbations" in result.stderr
    assert json.loads((tmp_path / "report.json").read_text())["perturbations"] == []
    result = rag_eval("run", "--out", tmp_path, "--mode", "ollama")
    assert result.exit_code == FAULT and "use --mode generative" in result.stderr


def test_the_old_name_of_the_perturbations_is_read(report: dict[str, Any], tmp_path: Path) -> None:
    renamed = {"sabotage" if name == "perturbations" else name: value for name, value in report.items()}
    assert len(read_log(saved(renamed, tmp_path)).perturbations) == len(report["perturbations"])


def test_html_is_self_contained_and_small(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    page = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\((?!#)|fetch\(|<link", page)


def test_hostile_text_is_escaped_in_html(hostile: EvalLog) -> None:
    page = html(hostile)
    assert "<img" not in page and "{{7*7}}" in page and page.count("</script>") == 2


# --- in a browser ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`visit(file, **context)`: the file in a new page, offline; it must make no request and raise no error."""
    problems: list[str] = []

    def open_(file: Path, fragment: str = "", **context: Any) -> Page:
        page = browser.new_context(offline=True, **context).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file:") else problems.append(request.url))
        page.goto(file.as_uri() + fragment)
        return page

    yield open_
    assert problems == []


def states(page: Any) -> list[str]:
    labels: list[str] = page.locator("#questions .state").all_inner_texts()
    return labels


def test_the_table_shows_failures_first_sorts_and_filters(visit: Callable[..., Any], folder: Path) -> None:
    page = visit(folder / "report.html")
    good = [state in ("right", "abstained") for state in states(page)]
    assert len(good) == 120 and good == sorted(good) and not good[0] and good[-1]
    page.get_by_label("Outcome").select_option("good")
    assert set(states(page)) <= {"right", "abstained"}
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("Type", exact=True).select_option("number")
    assert set(page.locator("#questions tr.q td:nth-child(3)").all_inner_texts()) == {"number"}
    page.get_by_role("button", name="Confidence").click()
    column = [float(text) for text in page.locator("#questions tr.q td:last-child").all_inner_texts()]
    assert column == sorted(column) and len(set(column)) > 1
    page.get_by_role("button", name="Confidence").click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Confidence")
    page.get_by_role("searchbox").fill("no question has these words")
    assert page.locator("#count").inner_text() == "0 of 120"


def test_a_question_opens_to_answer_verdict_evidence_and_expectation(
    visit: Callable[..., Any], folder: Path, report: dict[str, Any]
) -> None:
    sample = next(s for s in report["runs"][0]["samples"] if s["good"] and s["answerable"])
    page = visit(folder / "report.html", f"#{sample['id']}")
    assert page.locator("#questions tr.q").count() == 1
    opened = page.locator("tr.open")
    evidence = report["papers"][sample["answer"]["citations"][0]["paper_id"]]["abstract"]
    span = sample["answer"]["sentences"][0]["evidence"]
    marked = "".join(opened.locator(".paper").first.locator("mark").all_inner_texts())
    assert " ".join(evidence[span["start"] : span["end"]].split()) in " ".join(marked.split())
    assert "supported" in opened.locator(".sentence").first.inner_text()
    assert opened.locator("ul.facts").first.locator("li").all_inner_texts() == sample["key_facts"]
    page.locator("tr.q button").press("Enter")
    assert page.locator("tr.open").count() == 0


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_every_screen(visit: Callable[..., Any], folder: Path, width: int, scheme: str) -> None:
    page = visit(folder / "report.html", viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (bright[0] < bright[1]) == (scheme == "light")


def test_hostile_text_does_nothing_in_a_browser(visit: Callable[..., Any], hostile: EvalLog, tmp_path: Path) -> None:
    write(hostile, tmp_path)
    page = visit(tmp_path / "report.html")
    page.locator("tr.q button").first.click()
    assert page.evaluate("window.evil") is None and page.locator("img").count() == 0
    assert "<img src=x" in page.locator("tr.open").inner_text()
