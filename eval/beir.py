"""Any retrieval collection in BEIR's field names (Thakur et al. 2021): indexed in a scratch folder and searched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from eval.metrics import RETRIEVAL, Estimate, mean, retrieval
from rag.errors import CorpusError, UsageError
from rag.index import Index, build
from rag.papers import Paper, read_papers, read_text
from rag.retrieval import LONGEST_QUESTION, Retriever
from rag.settings import Settings

DEPTH = 100  # papers retrieved for each query
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as read: `queries` are those with a relevant document, `qrels[query][document]` a grade."""

    name: str
    papers: list[Paper]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Result:
    """Metrics of one collection, and per query for comparisons."""

    collection: Collection
    estimates: dict[str, Estimate]
    per_query: dict[str, dict[str, float]]
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Metric -> value, `n`, and `intervals` with [low, high] of each."""
        rounded = {name: e.as_json() for name, e in self.estimates.items()}
        return {
            "collection": self.collection.name,
            "documents": len(self.collection.papers),
            "n": len(self.collection.queries),
            **{name: e["value"] for name, e in rounded.items()},
            "intervals": {name: [e["low"], e["high"]] for name, e in rounded.items()},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }


def read(folder: Path) -> Collection:
    """The collection in `folder`: corpus.jsonl, queries.jsonl, and qrels.tsv (or BEIR's qrels/test.tsv).

    Raises CorpusError for a file that is missing or no collection.
    """
    if not folder.is_dir():
        raise CorpusError(f"There is no folder {folder}.", "Give one with corpus.jsonl, queries.jsonl and qrels.tsv.")
    papers, problems = read_papers([_first(folder, "corpus.jsonl", "corpus.jsonl.gz")])
    texts: dict[str, str] = {}
    for number, line in _lines(_first(folder, "queries.jsonl", "queries.jsonl.gz")):
        try:
            record = json.loads(line)
            texts[str(record["_id"])] = str(record["text"])
        except (ValueError, KeyError, TypeError):
            raise CorpusError(f'queries.jsonl:{number}: no object with "_id" and "text".') from None
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(_first(folder, "qrels.tsv", "qrels/test.tsv")):
        fields = line.split("\t")
        try:
            query, document, grade = fields[0], fields[1], int(float(fields[2]))
        except (ValueError, IndexError):
            if number == 1:
                continue  # the header
            raise CorpusError(f"qrels.tsv:{number}: not query-id, corpus-id and score.") from None
        qrels.setdefault(query, {})[document] = grade
    queries = {q: texts[q] for q, grades in qrels.items() if q in texts and max(grades.values()) > 0}
    if not queries:
        raise CorpusError(f"No query of {folder} has a relevant document.", "Check the ids in qrels.tsv.")
    told = [str(problem) for problem in problems]
    return Collection(folder.resolve().name, papers, queries, {q: qrels[q] for q in queries}, told)


def evaluate(collection: Collection, settings: Settings, progress: Progress = lambda done, total: None) -> Result:
    """Index `collection` beside everything else, search each query, and score what comes."""
    began = perf_counter()
    with TemporaryDirectory(prefix="rag-eval-") as scratch:
        settings = replace(settings, index_dir=scratch)
        build(collection.papers, settings, progress=progress)
        seconds = {"index": perf_counter() - began}
        result = score(collection, Retriever(Index.open(settings), settings), progress)
    return replace(result, seconds=seconds | result.seconds)


def score(
    collection: Collection, retriever: Retriever, progress: Progress = lambda done, total: None
) -> Result:  # fmt: skip
    """Search each query of `collection` in an index that holds it, and score what comes."""
    began = perf_counter()
    runs: dict[str, list[str]] = {}
    for done, (query, text) in enumerate(collection.queries.items(), start=1):
        try:
            found = retriever.search(text[:LONGEST_QUESTION], k=DEPTH)
            runs[query] = [hit.paper.paper_id for hit in found.hits]
        except UsageError:
            collection.problems.append(f"query {query} is empty and scores 0")
        progress(done, len(collection.queries))
    values = retrieval(collection.qrels, runs)
    estimates = {name: mean(list(values[name].values())) for name in RETRIEVAL}
    return Result(collection, estimates, values, {"search": perf_counter() - began})


def _first(folder: Path, *names: str) -> Path:
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(n, line) for n, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
