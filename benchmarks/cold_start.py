"""Cold start: `rag ask` in a new process, compared with a plain llama-index script that finds the same papers.

    pip install -c constraints.txt ".[bench]"
    python benchmarks/cold_start.py [--runs 5] [--json]

Both sides use the same corpus, model and question. The script is the one in llama-index's documentation,
`VectorStoreIndex.from_vector_store` over a persistent Chroma collection with `HuggingFaceEmbedding`. It only
retrieves; `rag ask` also answers. Runs are interleaved, after one warm-up of each. The ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUESTION = "what mitigates forgetting?"

PLAIN = """
import sys
import chromadb
from llama_index.core import VectorStoreIndex
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.chroma import ChromaVectorStore

collection = chromadb.PersistentClient(sys.argv[1]).get_collection("papers")
index = VectorStoreIndex.from_vector_store(
    ChromaVectorStore(chroma_collection=collection), embed_model=HuggingFaceEmbedding(sys.argv[2])
)
for hit in index.as_retriever(similarity_top_k=5).retrieve(sys.argv[3]):
    print(hit.metadata["title"])
"""


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Wall seconds of one run. Raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Build a scratch index, time both sides, print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from rag.encoders.weights import DEFAULT_MODEL, locate
    from rag.index.folder import current_version

    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {"RAG_INDEX_DIR": scratch, "HF_HUB_OFFLINE": "1"}
        rag = [sys.executable, "-m", "rag"]
        print("building an index …", file=sys.stderr)
        subprocess.run([*rag, "index"], env=environment, check=True, stdout=subprocess.DEVNULL)
        chroma = current_version(Path(scratch)) / "chroma"
        sides = {
            "rag ask": [*rag, "ask", QUESTION],
            "plain llama-index": [sys.executable, "-c", PLAIN, str(chroma), locate(DEFAULT_MODEL), QUESTION],
        }
        walls: dict[str, list[float]] = {name: [] for name in sides}
        for run in range(options.runs + 1):
            for name, command in sides.items():
                wall = timed(command, environment)
                if run:  # the first round warms the file cache
                    walls[name].append(wall)
    medians = {name: statistics.median(values) for name, values in walls.items()}
    ratio = medians["rag ask"] / medians["plain llama-index"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if options.json:
        print(json.dumps({"wall_s": walls, "median_s": medians, "ratio": ratio, "peak_kib_of_largest": peak}))
        return
    for name, values in walls.items():
        print(f"{name:20} median {medians[name]:6.2f} s   min {min(values):6.2f}   max {max(values):6.2f}")
    print(f"{'ratio':20} {ratio:.3f} (1/{1 / ratio:.0f})")


if __name__ == "__main__":
    main()
