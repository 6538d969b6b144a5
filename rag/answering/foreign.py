"""Text that came from elsewhere: its citations resolved against the corpus, its sentences judged.

A text cites by [n] with a bibliography of titles ("[3] Title" or "3. Title" on lines of their own), or by
titles in brackets. Nothing is repaired: the verdicts are the result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rag.answering import Answer
from rag.answering.markers import split_sentences
from rag.answering.verify import Verifier
from rag.errors import UsageError
from rag.index.store import Index
from rag.papers import Paper
from rag.retrieval import LONGEST_QUESTION, Retriever, Search
from rag.text import words

_ENTRY = re.compile(r"^\s*(?:[-*]\s+)?\[?(\d{1,3})[\].)]{1,2}:?\s+(\S.*)$")
_HEADING = re.compile(r"^\s*#*\s*(?:sources|references|bibliography|works cited)\s*:?\s*$", re.IGNORECASE)
_BRACKETED = re.compile(r"[\[(]([^\[\]()]{8,300})[\])]")
_CLOSE = 90.0  # per cent of similarity from which a title is taken for the corpus's


@dataclass(frozen=True, slots=True)
class Checked:
    """A foreign text after verification. Its [n] now stands for `given[n - 1]`; `unknown` are cited titles
    that the corpus does not have."""

    answer: Answer
    given: list[Paper]
    unknown: tuple[str, ...]


def check(text: str, index: Index, retriever: Retriever, verifier: Verifier) -> Checked:
    """The sentences of `text` with verdicts. Raises UsageError if there is nothing to check."""
    titles = Titles(index.papers())
    body, entries = _split(text)
    papers: dict[int, Paper] = {}
    unknown: list[str] = []
    for n, title in entries.items():
        if found := titles.find(title):
            papers[n] = found
        else:
            unknown.append(title)
    number = {paper.paper_id: n for n, paper in papers.items()}

    def cite(match: re.Match[str]) -> str:
        found = titles.find(match[1], exact=True)
        if found is None:
            return match[0]
        n = number.setdefault(found.paper_id, max([0, *papers, *entries]) + 1)
        papers[n] = found
        return f"[{n}]"

    body = _BRACKETED.sub(cite, body)
    top = max([0, *papers, *(int(n) for n in re.findall(r"\[(\d{1,3})\]", body))])
    sentences = split_sentences(body, top)
    # Every sentence is also held against what retrieval finds for it, so that a wrong citation shows.
    given = [papers[n] for n in sorted(papers)]
    search: Search | None = None
    for sentence in sentences:
        if any(c.isalnum() for c in sentence.text):
            search = retriever.search(sentence.text[:LONGEST_QUESTION])
            given += [hit.paper for hit in search.hits if hit.paper not in given]
    if search is None:
        raise UsageError("There is no sentence to check.", "Give text with [n] citations and a list of titles.")
    place = {n: i for i, n in enumerate(sorted(papers), start=1)}
    cited = tuple(replace(s, citations=tuple(place[n] for n in s.citations if n in place)) for s in sentences)
    answer = Answer("", body, False, "verify", None, cited, (), search)
    return Checked(verifier.verify(answer, given, repair=False), given, tuple(unknown))


class Titles:
    """Finds papers of the corpus by title."""

    def __init__(self, papers: list[Paper]) -> None:
        self._by_title = {" ".join(words(p.title)): p for p in papers}

    def find(self, text: str, exact: bool = False) -> Paper | None:
        """The paper whose title is `text`, stands in it, or (unless `exact`) nearly is it."""
        key = " ".join(words(text))
        if key in self._by_title:
            return self._by_title[key]
        if exact or not key:
            return None
        held = [title for title in self._by_title if f" {title} " in f" {key} "]
        if held:
            return self._by_title[max(held, key=len)]
        from rapidfuzz import fuzz, process

        best = process.extractOne(key, self._by_title.keys(), scorer=fuzz.ratio, score_cutoff=_CLOSE)
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
    if not end:  # a text of numbered lines only is a text, not a bibliography
        return text, {}
    if entries and _HEADING.match(lines[end - 1]):
        end -= 1
    return "\n".join(lines[:end]).strip(), dict(sorted(entries.items()))
