"""Entries: the exchanges of a conversation as plain JSON, which the browser keeps.

An entry is the JSON object of `rag ask --json` with the hits of its search, its spelling corrections, and for some
`broken` (what a model had written before it failed) or `stopped`.
"""

from __future__ import annotations

from typing import Any

from rag.types import Answer, Draft

Entry = dict[str, Any]


def answered(answer: Answer, **more: Any) -> Entry:
    """The exchange that ended with `answer`; `more` is `broken` or `stopped`."""
    search = answer.search
    corrections = [list(pair) for pair in search.corrections]
    return answer.as_json() | {"hits": search.as_json()["hits"], "corrections": corrections, **more}


def unfinished(draft: Draft, **more: Any) -> Entry:
    """The exchange of a model that wrote no more than `draft`, which is not verified."""
    return answered(draft.as_answer(), **more)


def author(entry: Entry) -> str:
    """Who wrote the answer."""
    return f"by {entry['model']}" if entry["model"] else "quoted from the papers"


def plain_text(entry: Entry) -> str:
    """The answer with its sources, as text."""
    sources = "".join(f"\n[{citation['n']}] {citation['title']}" for citation in entry["citations"])
    return f"{entry['answer']}\n{sources}" if sources else str(entry["answer"])
