"""Draw docs/images/risk-coverage.svg from a report of `rag eval run`.

rag eval run --out reports/eval && python docs/figures.py reports/eval/report.json
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "rag"  # the same figure gives the same file
from matplotlib import pyplot as plt  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from eval.log import read_log  # noqa: E402

OUT = Path(__file__).parent / "images" / "risk-coverage.svg"


def main(report: Path) -> None:
    """Draw the curve of the first run, with the point at which rag abstains."""
    run = read_log(report).runs[0]
    coverage, accuracy = run.metrics["coverage"].value, run.metrics["selective_accuracy"].value
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(run.risk_coverage.coverage, run.risk_coverage.risk, color="#2b6cb0")
    if coverage is not None and accuracy is not None:
        point = coverage, 1 - accuracy
        axes.plot(*point, "o", color="#c05621")
        axes.annotate("as shipped", point, textcoords="offset points", xytext=(-8, 10), ha="right")
    axes.set(
        xlabel="coverage: share of questions answered",
        ylabel="risk: share of those answered wrong",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
