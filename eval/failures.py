"""Hard failures: errors that always breach a gate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rag.answering.citations import find_citations
from rag.text.terms import words
from rag.types import Answer, Paper

_QUOTED = re.compile(r"[\"“*_]([^\"“”*_\n]{12,200})[\"”*_]")
_TITLE_WORDS = 4  # words from which a quoted phrase may be a title
_CAPITALISED_SHARE = 0.6  # share of capitalised words from which it looks like one


def hard_failures(answer: Answer, papers: Mapping[str, Paper]) -> tuple[str, ...]:
    """The hard failures of `answer`, one line each; `papers` is the corpus, by id.

    They are: an empty answer, a citation that resolves to no retrieved paper, a title that no paper has, and a
    quotation that is not in the abstract.
    """
    failures = [] if words(answer.text) else ["empty answer"]
    used = {n for sentence in answer.sentences for n in sentence.citations}
    if not answer.abstained and answer.mode != "extractive":  # a quotation may contain [n] itself
        used |= {n for _, _, n in find_citations(answer.text)}
    failures += [_unresolved(n) for n in sorted(used - {citation.n for citation in answer.citations})]
    retrieved = {hit.paper.paper_id for hit in answer.search.hits}
    for citation in answer.citations:
        paper = papers.get(citation.paper_id)
        if citation.paper_id not in retrieved:
            failures.append(_unresolved(citation.n))
        elif paper is None or citation.title != paper.title:
            failures.append(_invented(citation.title))
        elif any(paper.abstract[span.start : span.end] != span.text for span in citation.evidence):
            failures.append(f"[{citation.n}] has a quotation that is not in the abstract")
    return (*failures, *map(_invented, _invented_titles(answer, papers)))


def _unresolved(n: int) -> str:
    return f"[{n}] resolves to no retrieved paper"


def _invented(title: str) -> str:
    return f"invented title: {title!r}"


def _invented_titles(answer: Answer, papers: Mapping[str, Paper]) -> Iterator[str]:
    """Titles in quotes or italics that are neither in the corpus nor in a retrieved abstract."""
    titles = [title for quoted in _QUOTED.findall(answer.text) if _looks_like_title(title := quoted.strip())]
    if not titles:
        return
    texts = [f"{hit.paper.title} {hit.paper.abstract}" for hit in answer.search.hits]
    known = " | ".join(" ".join(words(text)) for text in (*texts, *(paper.title for paper in papers.values())))
    yield from (title for title in titles if " ".join(words(title)) not in known)


def _looks_like_title(text: str) -> bool:
    parts = text.split()
    return len(parts) >= _TITLE_WORDS and sum(p[0].isupper() for p in parts) >= _CAPITALISED_SHARE * len(parts)
