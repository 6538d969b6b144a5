"""Draws docs/images/risk-coverage.svg from a report of `rag eval run`.

rag eval run --out reports/eval && python docs/figures.py reports/eval/report.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "rag"  # the same figure gives the same file
from matplotlib import pyplot as plt  # noqa: E402

OUT = Path(__file__).parent / "images" / "risk-coverage.svg"


def main(report: Path) -> None:
    """Draw the curve of the first run, with the point at which the program refuses."""
    run = json.loads(report.read_text(encoding="utf-8"))["runs"][0]
    curve, metrics = run["risk_coverage"], run["metrics"]
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(curve["coverage"], curve["risk"], color="#2b6cb0")
    axes.plot(metrics["coverage"]["value"], 1 - metrics["selective_accuracy"]["value"], "o", color="#c05621")
    axes.annotate("as shipped", (metrics["coverage"]["value"], 1 - metrics["selective_accuracy"]["value"]),
                  textcoords="offset points", xytext=(-8, 10), ha="right")  # fmt: skip
    axes.set(xlabel="coverage: share of questions answered", ylabel="risk: share of those answered wrong",
             xlim=(0, 1), ylim=(0, 1))  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
