"""What verification costs: processor time per sentence of an answer, everything included.

    python benchmarks/verification.py

Answers of five sentences from five retrieved papers, each an abstract's sentence of median length with its first
word replaced, so that none passes as a quotation; each paper is seen for the first time, as in a cold `rag ask`.
Prints JSON: milliseconds of one core per sentence, median and 95th percentile over answers, and the same for
papers that were seen before.
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

from rag.answering import Answer
from rag.answering.markers import split_sentences
from rag.assistant import Assistant
from rag.papers import Paper
from rag.settings import Settings
from rag.text import sentence_spans

ANSWERS, SENTENCES = 60, 5


def answers(assistant: Assistant) -> Iterator[tuple[Answer, list[Paper]]]:
    """Answers as a model writes them, with the papers they were written from."""
    papers = assistant.index.papers()
    for paper in papers[:: len(papers) // ANSWERS][:ANSWERS]:
        search = assistant.search(paper.title)
        given = [hit.paper for hit in search.hits][:SENTENCES]
        text = ""
        for n, one in enumerate(given, start=1):
            spans = sorted(sentence_spans(one.abstract), key=lambda span: span[1] - span[0])
            start, end = spans[len(spans) // 2]  # of median length
            _, _, rest = one.abstract[start:end].partition(" ")
            text += f"There {rest.rstrip('.')} [{n}]. "
        draft = split_sentences(text.strip(), len(given))
        yield Answer(paper.title, text.strip(), False, "ollama", "m", draft, (), search), given


def main() -> None:
    """Measure and print."""
    assistant = Assistant.open(Settings.load({"mode": "extractive"}))
    first: list[float] = []
    again: list[float] = []
    for answer, given in answers(assistant):
        for times in (first, again):
            began = process_time()
            assistant.verifier.verify(answer, given)
            times.append(1000 * (process_time() - began) / len(answer.sentences))
        assistant.verifier.source.cache_clear()
    first, again = first[1:], again[1:]  # the first answer maps the weights
    result = {
        name: {"median_ms": round(float(np.median(times)), 1), "p95_ms": round(float(np.quantile(times, 0.95)), 1)}
        for name, times in (("new_papers", first), ("known_papers", again))
    }
    print(json.dumps(result | {"answers": len(first), "sentences_each": SENTENCES}, indent=1))


if __name__ == "__main__":
    main()
