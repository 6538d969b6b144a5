"""The text dumps of a "Daily Papers" listing (grammar in corpus/README.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from rag.corpus.records import Problem, make_paper_id
from rag.types import Paper

CRAWL_YEAR = 2025  # the year of the listing, for the dates it prints without one
# A dump has no field names, so the reader separates titles from abstracts by length: in the corpus, titles have at
# most 174 characters and abstracts at least 406.
LONGEST_TITLE = 300
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH = "|".join(_MONTHS)
_HEADER = re.compile(
    r"new|Get trending papers in your email inbox(?: once a day)?!|Subscribe|Daily Papers|"
    rf"byAK and the research community|(?:{_MONTH}) \d{{1,2}}"
)
_AUTHORS = re.compile(r"•\s*(\d+)\s+authors?")
_DATE = re.compile(rf"({_MONTH}) (\d{{1,2}})(?:, (\d{{4}}))?(?: (\d+))?")


def read_dump(text: str, source: str, problems: list[Problem]) -> Iterator[Paper]:
    """Records of one listing dump, in order; malformed ones are appended to `problems`."""
    title, title_line = "", 0
    paper: Paper | None = None
    in_header = True
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip().removeprefix("\ufeff")
        if not line or line == "·":
            continue
        if in_header:
            if _HEADER.fullmatch(line):
                continue
            line = line.removeprefix("Subscribe")  # one dump glues its first title to this word
            in_header = False
        if match := _AUTHORS.fullmatch(line):
            if paper is None or title:
                problems.append(Problem(source, number, "an author count that follows no abstract"))
            else:
                paper = replace(paper, author_count=int(match[1]))
        elif paper is not None and paper.author_count and not paper.date and (match := _DATE.fullmatch(line)):
            month, day, year, votes = match.groups()
            date = f"{int(year or CRAWL_YEAR):04}-{_MONTHS.index(month) + 1:02}-{int(day):02}"
            paper = replace(paper, date=date, votes=int(votes) if votes else None)
        elif len(line) <= LONGEST_TITLE:
            if title:
                problems.append(Problem(source, title_line, f"no abstract follows the title {title[:60]!r}"))
            title, title_line = line, number
        elif title:
            if paper is not None:
                yield paper
            paper = Paper(paper_id=make_paper_id(title), title=title, abstract=line, sources=(source,))
            title = ""
        else:
            problems.append(Problem(source, number, f"no title precedes the abstract {line[:60]!r}"))
    if title:
        problems.append(Problem(source, title_line, f"no abstract follows the title {title[:60]!r}"))
    if paper is not None:
        yield paper
