"""Write the packaged corpus as a retrieval dataset: each title is a query for its own abstract.

    python benchmarks/titles.py DIR && rag eval retrieval --beir DIR

The abstracts are indexed without their titles, so that only the abstract can match.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rag.corpus.reading import packaged_corpus, read_papers


def main(folder: Path) -> None:
    """Write corpus.jsonl, queries.jsonl and qrels.tsv, in BEIR's field names, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    papers, _ = read_papers([packaged_corpus()])
    corpus = ({"_id": p.paper_id, "title": "", "text": p.abstract} for p in papers)
    queries = ({"_id": p.paper_id, "text": p.title} for p in papers)
    for name, records in (("corpus", corpus), ("queries", queries)):
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    relevant = "".join(f"{p.paper_id}\t{p.paper_id}\t1\n" for p in papers)
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{relevant}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
