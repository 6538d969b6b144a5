"""External text: its citations are resolved against the corpus and its sentences verified.

The text cites by [n] with a bibliography of titles at its end ("[3] Title" or "3. Title" on lines of their own), or by
titles in brackets. Nothing is corrected or removed: the verdicts are the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rag.answering.citations import find_citations, split_sentences
from rag.errors import UsageError
from rag.index.store import Index
from rag.retrieval.protocols import Retriever
from rag.retrieval.question import LONGEST_QUESTION
from rag.text.terms import words
from rag.types import Answer, Draft, Paper, SearchResult, Sentence
from rag.verification.verifier import Verifier, replace_sentences

_ENTRY = re.compile(r"^\s*(?:[-*]\s+)?\[?(\d{1,3})[\].)]{1,2}:?\s+(\S.*)$")
_HEADING = re.compile(r"^\s*#*\s*(?:sources|references|bibliography|works cited)\s*:?\s*$", re.IGNORECASE)
_BRACKETED = re.compile(r"[\[(]([^\[\]()]{8,300})[\])]")
_MIN_TITLE_SIMILARITY = 90.0  # per cent; at or above it, a title counts as one of the corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCheck:
    """An external text after verification, and the titles it cites that the corpus does not have (`unknown`).

    The citations of `answer` are renumbered: [n] refers to `answer.context[n - 1]`.
    """

    answer: Answer
    unknown: tuple[str, ...]


def verify_text(text: str, index: Index, retriever: Retriever, verifier: Verifier) -> ExternalCheck:
    """The sentences of `text` with verdicts. Raises UsageError if there is nothing to check."""
    titles = _Titles(index.papers())
    body, bibliography = _split(text)
    resolved = {n: titles.find(title) for n, title in bibliography.items()}
    cited = {n: paper for n, paper in resolved.items() if paper}
    body = _number_titles(body, titles, cited, max([0, *bibliography]))
    sentences = split_sentences(body, max([0, *cited, *(n for _, _, n in find_citations(body))]))
    context = _context(sentences, cited, retriever)
    positions = {n: position for position, n in enumerate(sorted(cited), start=1)}
    renumbered = [replace(s, citations=tuple(positions[n] for n in s.citations if n in positions)) for s in sentences]
    body, checked = replace_sentences(body, sentences, renumbered)
    # The question is empty because its words would count as support, and this text answers no question.
    search = SearchResult(question="", query="")
    draft = Draft(search=search, text=body, mode="external", context=context, sentences=checked)
    unknown = tuple(title for n, title in bibliography.items() if n not in cited)
    return ExternalCheck(answer=verifier.verify(draft, repair=False), unknown=unknown)


def _number_titles(body: str, titles: _Titles, cited: dict[int, Paper], highest: int) -> str:
    """`body` with an [n] for every title in brackets; the papers are added to `cited` with numbers above `highest`."""
    numbers = {paper.paper_id: n for n, paper in cited.items()}

    def citation(match: re.Match[str]) -> str:
        paper = titles.find(match[1], exact=True)
        if paper is None:
            return match[0]
        n = numbers.setdefault(paper.paper_id, max([highest, *cited]) + 1)
        cited[n] = paper
        return f"[{n}]"

    return _BRACKETED.sub(citation, body)


def _context(sentences: Sequence[Sentence], cited: Mapping[int, Paper], retriever: Retriever) -> tuple[Paper, ...]:
    """The cited papers by number, then the papers retrieved for each sentence, which reveal wrong citations.

    Raises UsageError if there is no sentence to search for.
    """
    queries = [s.text[:LONGEST_QUESTION] for s in sentences if any(c.isalnum() for c in s.text)]
    if not queries:
        raise UsageError("There is no sentence to check.", "Give text with [n] citations and a list of titles.")
    papers = [cited[n] for n in sorted(cited)]
    known = {paper.paper_id for paper in papers}
    for query in queries:
        retrieved = [hit.paper for hit in retriever.search(query).hits if hit.paper.paper_id not in known]
        papers += retrieved
        known |= {paper.paper_id for paper in retrieved}
    return tuple(papers)


class _Titles:
    """Finds papers of the corpus by title."""

    def __init__(self, papers: Sequence[Paper]) -> None:
        self._by_title = {" ".join(words(p.title)): p for p in papers}

    def find(self, text: str, exact: bool = False) -> Paper | None:
        """The paper whose title is `text` or, unless `exact`, is contained in it or similar to it."""
        key = " ".join(words(text))
        if key in self._by_title:
            return self._by_title[key]
        if exact or not key:
            return None
        contained = [title for title in self._by_title if f" {title} " in f" {key} "]
        if contained:
            return self._by_title[max(contained, key=len)]
        from rapidfuzz import fuzz, process

        best = process.extractOne(key, self._by_title.keys(), scorer=fuzz.ratio, score_cutoff=_MIN_TITLE_SIMILARITY)
        return self._by_title[best[0]] if best else None


def _split(text: str) -> tuple[str, dict[int, str]]:
    """The body of `text` and its bibliography: the numbered lines at its end."""
    lines = text.rstrip().split("\n")
    entries: dict[int, str] = {}
    end = len(lines)
    while end and ((match := _ENTRY.match(lines[end - 1])) or not lines[end - 1].strip()):
        if match:
            entries[int(match[1])] = match[2].strip()
        end -= 1
    if not end:  # a text that consists of numbered lines is not a bibliography
        return text, {}
    if entries and _HEADING.match(lines[end - 1]):
        end -= 1
    return "\n".join(lines[:end]).strip(), dict(sorted(entries.items()))
