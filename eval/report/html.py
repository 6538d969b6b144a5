"""report.html: one self-contained file that loads nothing from the network."""

from __future__ import annotations

import json
from pathlib import Path

from eval.log import EvalLog
from eval.metrics import METRICS
from eval.report.figures import HEADLINES, interval, latency, number, subtitle, verdict
from eval.report.plots import accuracy_by_type, risk_coverage


def html(log: EvalLog) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval, "latency": latency, "number": number}
    return environment.get_template("report.html.jinja").render(
        log=log,
        metrics=METRICS,
        headlines=HEADLINES,
        verdict=verdict(log),
        subtitle=subtitle(log),
        breaches=list(log.breaches()),
        failed=bool(log.error_count) or any(log.breaches()),
        bars=accuracy_by_type(log.runs),
        curve=risk_coverage(log.runs),
        data=_embedded(log),
        groups=list(dict.fromkeys(metric.group for metric in METRICS.values())),
    )


def _embedded(log: EvalLog) -> str:
    """The questions and papers as JSON that cannot close its `script` element."""
    runs = [run.model_dump(mode="json", include={"name", "samples"}) for run in log.runs]
    papers = {paper_id: paper.model_dump() for paper_id, paper in log.papers.items()}
    text = json.dumps({"runs": runs, "papers": papers}, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
