"""A conversation as text to keep: Markdown with a bibliography, or plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rag.bibtex import bibtex
from rag.papers import Paper
from rag.text import printable

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~])")


def plain(item: Mapping[str, Any]) -> str:
    """One answer with its sources, as text."""
    sources = "".join(f"\n[{c['n']}] {c['title']}" for c in item["citations"])
    return f"{item['answer']}\n{sources}" if sources else str(item["answer"])


def markdown(entries: Sequence[Mapping[str, Any]], papers: Mapping[str, Paper]) -> str:
    """The conversation with one bibliography: its numbers are the same from the first answer to the last."""
    number: dict[str, int] = {}
    parts = ["# Conversation\n"]
    for item in entries:
        for citation in item["citations"]:
            number.setdefault(citation["paper_id"], len(number) + 1)
        own = {int(c["n"]): number[c["paper_id"]] for c in item["citations"]}
        parts.append(f"## {_escaped(item['question'])}\n")
        if item["query"] != item["question"]:
            parts.append(f"*Searched for: {_escaped(item['query'])}*\n")
        pieces = re.split(r"\[(\d{1,3})\]", item["answer"])
        body = _escaped(pieces[0])
        for n, text in zip(pieces[1::2], pieces[2::2], strict=True):
            body += (f"[{own[int(n)]}]" if int(n) in own else f"\\[{n}\\]") + _escaped(text)
        parts.append(body.replace("\n", "\n\n") + "\n")
        parts += [f"> {_escaped(s['text'])} — *{_escaped(s['reason'] or s['verdict'])}*\n" for s in _doubtful(item)]
        by = f"by {item['model']}" if item["model"] else "quoted from the papers"
        parts.append(f"*{_escaped(by)}{', stopped' if item.get('stopped') else ''}*\n")
    if number:
        parts.append("## Bibliography\n")
        for paper_id, n in number.items():
            paper = papers.get(paper_id)
            title = paper.title if paper else paper_id
            date = f" ({paper.date})" if paper and paper.date else ""
            parts.append(f"[{n}] {_escaped(title)}{_escaped(date)}\n")
        entries_ = "\n".join(bibtex(papers[paper_id]) for paper_id in number if paper_id in papers)
        parts.append(f"```bibtex\n{entries_}```\n")
    return "\n".join(parts)


def _doubtful(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [s for s in item["sentences"] if s["verdict"] in ("partial", "unsupported")]


def _escaped(text: str) -> str:
    """`text` so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", printable(text))
