"""Retrieval collections in BEIR format (Thakur et al. 2021), indexed in a temporary folder and searched."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from eval.log import Estimate
from eval.metrics import RETRIEVAL, mean, retrieval
from rag.corpus.reading import read_papers, read_text
from rag.errors import CorpusError, UsageError
from rag.index.build import build_index
from rag.index.store import Index
from rag.retrieval.hybrid import HybridRetriever
from rag.retrieval.protocols import Retriever
from rag.retrieval.question import LONGEST_QUESTION
from rag.settings import Settings
from rag.types import Paper, Progress

DEPTH = 100  # papers retrieved for each query


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection. `queries` are those with a relevant document; `qrels[query][document]` is a grade."""

    name: str
    papers: list[Paper]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The metrics of one collection, over all queries and for each."""

    collection: Collection
    estimates: dict[str, Estimate]
    per_query: dict[str, dict[str, float]]
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Metric -> value, `n`, and `intervals` with [low, high] of each."""
        return {
            "collection": self.collection.name,
            "documents": len(self.collection.papers),
            "n": len(self.collection.queries),
            **{name: e.value for name, e in self.estimates.items()},
            "intervals": {name: [e.low, e.high] for name, e in self.estimates.items()},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }


def read(folder: Path) -> Collection:
    """The collection in `folder`: corpus.jsonl, queries.jsonl, and qrels.tsv (or BEIR's qrels/test.tsv).

    Raises CorpusError for a missing file, or one in another format.
    """
    if not folder.is_dir():
        raise CorpusError(f"There is no folder {folder}.", "Name one with corpus.jsonl, queries.jsonl and qrels.tsv.")
    papers, problems = read_papers([_first(folder, "corpus.jsonl", "corpus.jsonl.gz")])
    texts: dict[str, str] = {}
    for number, line in _lines(_first(folder, "queries.jsonl", "queries.jsonl.gz")):
        try:
            record = json.loads(line)
            texts[str(record["_id"])] = str(record["text"])
        except (ValueError, KeyError, TypeError):
            raise CorpusError(f'queries.jsonl:{number}: not an object with "_id" and "text".') from None
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(_first(folder, "qrels.tsv", "qrels/test.tsv")):
        fields = line.split("\t")
        try:
            query, document, grade = fields[0], fields[1], int(float(fields[2]))
        except (ValueError, IndexError):
            if number == 1:
                continue  # the header
            raise CorpusError(f"qrels.tsv:{number}: the line is not query-id, corpus-id and score.") from None
        qrels.setdefault(query, {})[document] = grade
    queries = {q: texts[q] for q, grades in qrels.items() if q in texts and max(grades.values()) > 0}
    if not queries:
        raise CorpusError(f"No query of {folder} has a relevant document.", "Check the ids in qrels.tsv.")
    return Collection(
        name=folder.resolve().name,
        papers=papers,
        queries=queries,
        qrels={query: qrels[query] for query in queries},
        problems=[str(problem) for problem in problems],
    )


def evaluate(collection: Collection, settings: Settings, progress: Progress = lambda done, total: None) -> Result:
    """Index `collection` in a temporary folder, search for each query, and score the rankings."""
    started = perf_counter()
    with TemporaryDirectory(prefix="rag-eval-") as folder:
        settings = settings.replace(index_dir=folder)
        build_index(collection.papers, settings, progress=progress)
        seconds = {"index": perf_counter() - started}
        result = score(collection, HybridRetriever(Index.open(settings), settings.retrieval), progress)
    return replace(result, seconds=seconds | result.seconds)


def score(collection: Collection, retriever: Retriever, progress: Progress = lambda done, total: None) -> Result:
    """Search for each query of `collection` with a retriever over its papers, and score the rankings."""
    started = perf_counter()
    runs: dict[str, list[str]] = {}
    for done, (query, text) in enumerate(collection.queries.items(), start=1):
        try:
            search = retriever.search(text[:LONGEST_QUESTION], k=DEPTH)
            runs[query] = [hit.paper.paper_id for hit in search.hits]
        except UsageError:
            collection.problems.append(f"query {query} is empty and scores 0")
        progress(done, len(collection.queries))
    values = retrieval(collection.qrels, runs)
    return Result(
        collection=collection,
        estimates={name: mean(list(values[name].values())) for name in RETRIEVAL},
        per_query=values,
        seconds={"search": perf_counter() - started},
    )


def _first(folder: Path, *names: str) -> Path:
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(n, line) for n, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
