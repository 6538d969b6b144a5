"""Processor time of `rag ui` from a new process to the first page, over the user's index (or RAG_INDEX_DIR).

    python benchmarks/ui_start.py [--runs 5]

Nearly all of it is the import of Gradio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

CODE = """
import time, urllib.request
from rag import Assistant
from ui import launch
app = launch(Assistant.open, wait=False)
assert urllib.request.urlopen(app.local_url).status == 200
print("seconds", time.process_time())
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Processor time of `rag ui` until the first page.")
    parser.add_argument("--runs", type=int, default=5)
    seconds = []
    for _ in range(parser.parse_args().runs):
        done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout.rsplit("seconds", 1)[1]))
    print(
        f"median {statistics.median(seconds):.2f} s of processor time (min {min(seconds):.2f}, max {max(seconds):.2f})"
    )


if __name__ == "__main__":
    main()
