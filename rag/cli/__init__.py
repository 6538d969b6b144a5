"""The command line: parses arguments, calls `Assistant`, renders what it returns."""

from __future__ import annotations

import os

# One thread per query: more threads only wait for each other. NumPy reads these when it is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def main() -> None:
    """Run the command line. Every failure is one line on stderr and an exit code."""
    from rag.cli.app import run

    run()
