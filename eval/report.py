"""The report: assembled once, written as report.json, report.md, report.html and junit.xml."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from eval.gates import Gate, check, compare, corrected_groundedness, matching
from eval.metrics import METRICS
from eval.questions import Question
from eval.run import Examiner, papers_of
from eval.sabotage import Result
from rag import __version__

HEADLINES = (
    "accuracy", "recall@5", "key_fact_recall", "groundedness", "citation_recall", "numeric_fidelity",
    "false_refusal_rate", "false_answer_rate",
)  # fmt: skip

Report = dict[str, Any]


def assemble(
    runs: Sequence[Report],
    sabotage: Sequence[Result],
    everything: Sequence[Question],
    asked: Sequence[Question],
    examiner: Examiner,
    rules: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
) -> Report:
    """The whole report, gates decided (schema in eval/README.md)."""
    fingerprint = "".join(f"{q.id}\0{q.question}\0{q.gold}\0{q.key_facts}\0" for q in everything)
    report: Report = {
        "schema": 1,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "corpus": {"papers": len(examiner.papers), "sha256": examiner.assistant.index.passport.corpus},
        "questions": {
            "total": len(everything),
            "asked": len(asked),
            "sha256": hashlib.sha256(fingerprint.encode()).hexdigest(),
        },
        "runs": list(runs),
        "sabotage": [result.as_json() for result in sabotage],
        "papers": papers_of(runs, examiner.papers),
    }
    return decide(report, rules, baseline)


def decide(report: Report, rules: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> Report:
    """`report` with `gates`, `comparison` with the baseline, and groundedness corrected for the verifier's errors.

    Floors, ceilings and regressions need all questions; hard failures and sabotage are judged on any.
    """
    whole = report["questions"]["asked"] == report["questions"]["total"]
    gates: list[Gate] = []
    comparison: Report = {}
    for run in report["runs"]:
        run["groundedness_corrected"] = corrected_groundedness(run, rules)
        before = matching(run, baseline["runs"]) if baseline else None
        if before is not None:
            comparison[run["name"]] = compare(before, run).as_json()
        decided = check(run, rules, before)
        gates += decided if whole else decided[:1]
    for row in report.get("sabotage", []):
        caught = f", {row['caught']['value']:.0%} of {row['caught']['n']} caught" if row["caught"] else ""
        wanted = f" ({row['expected']:.0%} expected)" if row["expected"] else ""
        tripped = "within bounds" if row["name"] == "nothing" else "trips its gate"
        detail = f"{row['gate']} {tripped if row['tripped'] else f'does not: {tripped}'}{caught}{wanted}"
        gates.append(Gate("sabotage", row["name"], row["passed"], detail))
    return report | {"gates": [g.as_json() for g in gates], "comparison": comparison}


def write(report: Report, folder: Path) -> None:
    """All four files, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.html").write_text(html(report), encoding="utf-8")
    (folder / "junit.xml").write_bytes(junit(report))


# --- Markdown ----------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The summary for a CI job's page: verdict, figures, types, sabotage, and what turned."""
    runs, breaches = report["runs"], [g for g in report["gates"] if not g["passed"]]
    lines = [f"# Evaluation: {verdict(report)}", "", subtitle(report), ""]
    lines += [f"- **{_md(g['run'])}: {g['name']}**: {_md(g['detail'])}" for g in breaches] + ([""] if breaches else [])
    names = [run["name"] for run in runs]
    rows = []
    for n, metric in METRICS.items():
        asked = max(run["metrics"][n]["n"] for run in runs)
        rows.append([metric.label, *(interval(run["metrics"][n]) for run in runs), str(asked)])
    rows.append(["Groundedness, corrected", *(_number(run.get("groundedness_corrected")) for run in runs), ""])
    rows.append(["Latency p50 / p95 (ms)", *(latency(run) for run in runs), ""])
    lines += _table(["metric", *names, "n"], rows)
    rows = [
        [METRICS[n].label, *(interval(run["by_split"][split].get(n)) for run in runs for split in ("dev", "test"))]
        for n in HEADLINES
    ]
    lines += _table(["split", *(f"{name} {split}".strip() for name in names for split in ("dev", "test"))], rows)
    for run in runs:
        if judge := run.get("judge"):
            agreed, kappa = interval(judge["agreement"]), interval(judge["kappa"])
            lines += [f"The judge {_md(judge['model'])} agrees with {agreed} of the verdicts on {_md(run['name'])} "
                      f"(n = {judge['agreement']['n']}, Cohen's kappa {kappa}).", ""]  # fmt: skip
    for run in runs:
        by = ("accuracy", "recall@5", "key_fact_recall")
        rows = [
            [kind, *(interval(figures.get(n)) for n in by), str(figures["accuracy"]["n"])]
            for kind, figures in run["by_type"].items()
        ]
        head = ["type", *(METRICS[n].label for n in by), "n"]
        lines += [f"## {_md(run['name'])} by type", "", *_table(head, rows)]
    if report["sabotage"]:
        rows = [
            [
                row["name"],
                METRICS[row["gate"]].label if row["gate"] in METRICS else row["gate"],
                "yes" if row["passed"] else "NO",
                interval(row["caught"]),
                str(row["caught"]["n"]) if row["caught"] else "",
            ]
            for row in report["sabotage"]
        ]
        lines += ["## Sabotage", "", *_table(["damage", "gate it must trip", "passed", "sentences caught", "n"], rows)]
    for name, change in report["comparison"].items():
        rows = [
            [METRICS[n].label, _number(c["before"]), _number(c["after"]), signed(c)]
            for n, c in change["metrics"].items()
            if c["significant"]
        ]
        lines += [f"## {_md(name)} against the baseline", ""]
        lines += _table(["metric", "before", "after", "difference"], rows) if rows else ["No significant change.", ""]
        for title, ids in (("Turned bad", change["turned_bad"]), ("Turned good", change["turned_good"])):
            shown = ", ".join(f"`{i}`" for i in ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
            lines += [f"{title}: {len(ids)}. {shown}".rstrip(), ""]
    return "\n".join(lines)


def verdict(report: Report) -> str:
    """One line: what the gates say."""
    errors = sum(len(run.get("errors", [])) for run in report["runs"])
    breached = sum(not g["passed"] for g in report["gates"])
    if errors:
        return f"{errors} question{'s' * (errors != 1)} ended in an error"
    gates = len(report["gates"])
    return f"{breached} of {gates} gates breached" if breached else f"{gates} gate{'s' * (gates != 1)} passed"


def subtitle(report: Report) -> str:
    """What was asked of what, in one line."""
    asked, total = report["questions"]["asked"], report["questions"]["total"]
    count = f"All {total} questions" if asked == total else f"{asked} of {total} questions"
    when = report["created"][:16].replace("T", " ")
    return f"{count} on {report['corpus']['papers']} papers · rag {report['version']} · {when} UTC"


def interval(estimate: Mapping[str, Any] | None) -> str:
    """`0.812 [0.770, 0.850]`."""
    if not estimate or estimate["value"] is None:
        return "–"
    digits = 1 if abs(estimate["value"]) > 2 else 3
    return f"{estimate['value']:.{digits}f} [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"


def latency(run: Mapping[str, Any]) -> str:
    """`31 / 48`."""
    return " / ".join("–" if (v := run["latency_ms"][q]) is None else f"{v:.0f}" for q in ("p50", "p95"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def signed(estimate: Mapping[str, Any]) -> str:
    """`+0.012 [-0.004, +0.030]`."""
    return f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_md(cell) for cell in row)} |" for row in cells] + [""]


def _md(text: str) -> str:
    """`text` on one line, as words and not as markup: models and papers write what they like."""
    return re.sub(r"([|`*_\\])", r"\\\1", escape(" ".join(text.split()), quote=False))


# --- JUnit -------------------------------------------------------------------------------------------


def junit(report: Report) -> bytes:
    """JUnit XML: a suite of gates, and one a run whose cases are its questions.

    Hard failures and errors fail a question; a wrong answer is told in its output, as the gates judge how many are one
    too many.
    """
    root = ElementTree.Element("testsuites", name="rag eval")
    gates = ElementTree.SubElement(root, "testsuite", name="gates", tests=str(len(report["gates"])))
    for gate in report["gates"]:
        run, name = _xml(gate["run"]), _xml(gate["name"])
        case = ElementTree.SubElement(gates, "testcase", classname=f"gates.{run}", name=name, time="0")
        if not gate["passed"]:
            ElementTree.SubElement(case, "failure", message=_xml(gate["detail"]))
    gates.set("failures", str(sum(not g["passed"] for g in report["gates"])))
    for run in report["runs"]:
        outcomes = run["outcomes"]
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(run["name"]), tests=str(len(outcomes)))
        for o in outcomes:
            seconds = f"{(o.get('latency_ms') or 0) / 1000:.3f}"
            case = ElementTree.SubElement(
                suite, "testcase", classname=_xml(o["type"]), name=_xml(o["id"]), time=seconds
            )
            if o["error"]:
                ElementTree.SubElement(case, "error", message=_xml(o["error"]))
            elif o["failures"]:
                ElementTree.SubElement(case, "failure", message=_xml("; ".join(o["failures"])))
            elif not o["good"]:
                ElementTree.SubElement(case, "system-out").text = _xml(f"wrong: {o['question']}\n{o['answer']}")
        suite.set("failures", str(sum(bool(o["failures"]) for o in outcomes)))
        suite.set("errors", str(sum(bool(o["error"]) for o in outcomes)))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _xml(text: str) -> str:
    """`text` without the characters that XML 1.0 cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


# --- HTML --------------------------------------------------------------------------------------------


def html(report: Report) -> str:
    """One file that needs nothing else: no network, no fonts, no scripts from elsewhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"interval": interval, "latency": latency, "number": _number}
    runs = [{"name": run["name"], "outcomes": run["outcomes"]} for run in report["runs"]]
    data = {"runs": runs, "papers": report["papers"]}
    embedded = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template("report.html.jinja").render(
        report=report, metrics=METRICS, headlines=HEADLINES, verdict=verdict(report), subtitle=subtitle(report),
        failed=any(not g["passed"] for g in report["gates"]) or any(r["errors"] for r in report["runs"]),
        bars=_bars(report["runs"]), curve=_curve(report["runs"]), data=embedded,
        groups=list(dict.fromkeys(metric.group for metric in METRICS.values())),
    )  # fmt: skip


# Drawn in colours that stand for the page's own, so that a figure follows light and dark.
_INK, _MUTED, _GRID = "#101112", "#707172", "#d0d1d2"
_SERIES = ("#2a5fb1", "#c2611f", "#2c8a5a", "#8a4fb0", "#a83256", "#7a6a10")
_PAGE = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--line)"} | {
    colour: f"var(--s{i})" for i, colour in enumerate(_SERIES, start=1)
}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 10, "axes.edgecolor": _MUTED, "text.color": _INK}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_INK, length=0, labelsize=10)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    from matplotlib import rc_context

    file = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "rag"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    for colour, variable in _PAGE.items():
        svg = svg.replace(colour, variable)
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _bars(runs: Sequence[Report]) -> str:
    """Accuracy per type with its interval, a bar a run."""
    kinds = list(runs[0]["by_type"])
    figure, axes = _figure(5.4, 0.8 + len(kinds) * (0.16 + 0.15 * len(runs)))
    thick = 0.7 / len(runs)
    for r, run in enumerate(runs):
        known = [(y, run["by_type"][kind]["accuracy"]) for y, kind in enumerate(kinds) if kind in run["by_type"]]
        places = [y + (r - (len(runs) - 1) / 2) * thick for y, _ in known]
        values = [e["value"] for _, e in known]
        reach = [[e["value"] - e["low"] for _, e in known], [e["high"] - e["value"] for _, e in known]]
        axes.barh(places, values, thick * 0.9, color=_SERIES[r % len(_SERIES)], label=run["name"])
        axes.plot(values, places, "|", color=_SERIES[r % len(_SERIES)], markersize=10, markeredgewidth=2)
        axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
    counts = {kind: next(r["by_type"][kind]["accuracy"]["n"] for r in runs if kind in r["by_type"]) for kind in kinds}
    names = [f"{kind.removeprefix('unanswerable_')}{' ∅' if '_' in kind else ''}  ({counts[kind]})" for kind in kinds]
    axes.set_yticks(range(len(kinds)), names)
    axes.set_xlim(0, 1.02)
    axes.invert_yaxis()
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    if len(runs) > 1:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=_INK)
    return _svg(figure, "Accuracy by type of question")


def _curve(runs: Sequence[Report]) -> str:
    """Risk over coverage for every run; the dot is where the run itself stops answering."""
    figure, axes = _figure(5.4, 3.6)
    for r, run in enumerate(runs):
        colour = _SERIES[r % len(_SERIES)]
        coverage, risk = run["risk_coverage"]["coverage"], run["risk_coverage"]["risk"]
        axes.plot(coverage, risk, color=colour, linewidth=1.8, label=run["name"])
        losses = sorted(o["loss"] for o in run["outcomes"])
        best = [sum(losses[: i + 1]) / (i + 1) for i in range(len(losses))]
        axes.plot(coverage, best[: len(coverage)], color=colour, linewidth=1, linestyle=(0, (3, 3)), alpha=0.7)
        point, accuracy = run["metrics"]["coverage"]["value"], run["metrics"]["selective_accuracy"]["value"]
        if point is not None and accuracy is not None:
            axes.plot([point], [1 - accuracy], "o", color=colour, markersize=7)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("coverage: share of questions answered", color=_MUTED)
    axes.set_ylabel("risk: share of wrong answers", color=_MUTED)
    axes.grid(color=_GRID, linewidth=0.8)
    if len(runs) > 1:
        axes.legend(frameon=False, labelcolor=_INK)
    return _svg(figure, "Risk over coverage")
