"""JSON lines with `title` and `abstract` or `text`, with the field names of BEIR (`_id`) or plain ones (`id`)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rag.corpus.records import Problem, make_paper_id
from rag.types import Paper


def read_jsonl(text: str, source: str, problems: list[Problem]) -> Iterator[Paper]:
    """Records of one JSON-lines file, in order; malformed ones are appended to `problems`."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            title = " ".join(_string(record.get("title")).split())
            abstract = _string(record.get("abstract") or record.get("text")).strip()
            if not title and not abstract:
                raise ValueError("neither title nor abstract")
            paper_id = _string(record.get("_id", record.get("id", record.get("paper_id"))))
            date = _string(record.get("date") or record.get("published") or record.get("year"))
        except (ValueError, RecursionError) as error:
            problems.append(Problem(source, number, str(error)))
            continue
        yield Paper(
            paper_id=paper_id or make_paper_id(title or abstract),
            title=title or abstract[:80],
            abstract=abstract,
            sources=(source,),
            date=date or None,
        )


def _string(value: object) -> str:
    """`value` as text. Raises ValueError for a lone surrogate, which JSON can hold and UTF-8 cannot."""
    text = "" if value is None else str(value)
    text.encode()
    return text
