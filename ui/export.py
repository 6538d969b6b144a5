"""A conversation as Markdown with a bibliography."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rag.answering.citations import find_citations
from rag.corpus.bibtex import bibtex
from rag.text.display import printable
from rag.types import Paper
from ui.entries import Entry, author

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~])")


def markdown(entries: Sequence[Entry], papers: Mapping[str, Paper]) -> str:
    """The conversation with one bibliography, whose numbers the citations of all answers use."""
    numbers: dict[str, int] = {}
    parts = ["# Conversation\n"]
    for entry in entries:
        for citation in entry["citations"]:
            numbers.setdefault(citation["paper_id"], len(numbers) + 1)
        parts += _exchange(entry, {citation["n"]: numbers[citation["paper_id"]] for citation in entry["citations"]})
    return "\n".join(parts + (_bibliography(numbers, papers) if numbers else []))


def _exchange(entry: Entry, new_numbers: Mapping[int, int]) -> list[str]:
    """One exchange; [n] of its answer becomes [new_numbers[n]]."""
    parts = [f"## {_escaped(entry['question'])}\n"]
    if entry["query"] != entry["question"]:
        parts.append(f"*Searched for: {_escaped(entry['query'])}*\n")
    answer, body, position = entry["answer"], "", 0
    for start, end, n in find_citations(answer):
        if n in new_numbers:
            body += f"{_escaped(answer[position:start])}[{new_numbers[n]}]"
            position = end
    parts.append((body + _escaped(answer[position:])).replace("\n", "\n\n") + "\n")
    for sentence in entry["sentences"]:
        if sentence["verdict"] in ("partial", "unsupported"):
            parts.append(f"> {_escaped(sentence['text'])} — *{_escaped(sentence['reason'] or sentence['verdict'])}*\n")
    return [*parts, f"*{_escaped(author(entry))}{', stopped' if entry.get('stopped') else ''}*\n"]


def _bibliography(numbers: Mapping[str, int], papers: Mapping[str, Paper]) -> list[str]:
    parts = ["## Bibliography\n"]
    for paper_id, n in numbers.items():
        paper = papers.get(paper_id)
        title = paper.title if paper else paper_id
        date = f" ({paper.date})" if paper and paper.date else ""
        parts.append(f"[{n}] {_escaped(title)}{_escaped(date)}\n")
    bibtex_entries = "\n".join(bibtex(papers[paper_id]) for paper_id in numbers if paper_id in papers)
    return [*parts, f"```bibtex\n{bibtex_entries}```\n"]


def _escaped(text: str) -> str:
    """`text` so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", printable(text))
