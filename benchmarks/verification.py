"""What verification costs: processor time per sentence of an answer, everything included.

    python benchmarks/verification.py

Verifies answers of five sentences from five retrieved papers. Each sentence is one of an abstract, of median length,
with its first word replaced so that it is not recognised as a quotation. Prints JSON: milliseconds of one core per
sentence, median and 95th percentile over the answers, for papers that were not loaded before (as in a cold `rag ask`)
and for papers that were.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from time import process_time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported

# ruff: noqa: E402
import numpy as np

from rag.answering.citations import split_sentences
from rag.index.store import Index
from rag.retrieval.hybrid import HybridRetriever
from rag.retrieval.protocols import Retriever
from rag.settings import Settings
from rag.text.sentences import sentence_spans
from rag.types import Draft, Paper
from rag.verification.verifier import Verifier

ANSWERS, SENTENCES = 60, 5


def drafts(papers: list[Paper], retriever: Retriever) -> Iterator[Draft]:
    """Answers as a model writes them."""
    for paper in papers[:: len(papers) // ANSWERS][:ANSWERS]:
        search = retriever.search(paper.title)
        context = tuple(hit.paper for hit in search.hits[:SENTENCES])
        written = []
        for n, cited in enumerate(context, start=1):
            spans = sorted(sentence_spans(cited.abstract), key=lambda span: span[1] - span[0])
            start, end = spans[len(spans) // 2]  # of median length
            _, _, rest = cited.abstract[start:end].partition(" ")
            written.append(f"There {rest.rstrip('.')} [{n}].")
        text = " ".join(written)
        sentences = split_sentences(text, len(context))
        yield Draft(search=search, text=text, mode="generative", model="m", context=context, sentences=sentences)


def main() -> None:
    """Measure and print."""
    settings = Settings.load()
    index = Index.open(settings)
    retriever = HybridRetriever(index, settings.retrieval)
    new: list[float] = []
    known: list[float] = []
    for draft in drafts(index.papers(), retriever):
        verifier = Verifier(index, retriever.encoder)  # a new one has no paper in its cache
        for times in (new, known):
            began = process_time()
            answer = verifier.verify(draft)
            times.append(1000 * (process_time() - began) / len(answer.sentences))
    new, known = new[1:], known[1:]  # the first answer maps the weights
    result = {
        name: {"median_ms": round(float(np.median(times)), 1), "p95_ms": round(float(np.quantile(times, 0.95)), 1)}
        for name, times in (("new_papers", new), ("known_papers", known))
    }
    print(json.dumps(result | {"answers": len(new), "sentences_each": SENTENCES}, indent=1))


if __name__ == "__main__":
    main()
