"""BibTeX entries for papers, from their metadata in the corpus."""

from __future__ import annotations

import re

from rag.text.display import printable
from rag.text.terms import words
from rag.types import Paper

_SPECIAL = re.compile(r"\\(?=[&%$#_{}])|[&%$#_{}~^\\]")
_TEX_COMMANDS = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def bibtex(paper: Paper) -> str:
    """One @misc entry: key, title (capitals kept), and year and month if the paper has a date."""
    title = _SPECIAL.sub(_escaped, printable(paper.title))
    fields = [("title", "{" + title + "}")]
    year, _, rest = (paper.date or "").partition("-")
    if year:
        fields.append(("year", year))
    if rest:
        fields.append(("month", str(int(rest[:2]))))
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields)
    return f"@misc{{{key(paper)},\n{body}\n}}\n"


def _escaped(match: re.Match[str]) -> str:
    """A special character as TeX writes it. If it is already escaped, the backslash is dropped."""
    char = match.group()
    if char == "\\" and match.end() < len(match.string) and match.string[match.end()] in "&%$#_{}":
        return ""
    return _TEX_COMMANDS.get(char, f"\\{char}")


def key(paper: Paper) -> str:
    """A citation key: the title's first word of four letters or more, the year, and the end of the id."""
    first = next((w for w in words(paper.title) if len(w) > 3), "paper")
    tail = re.sub(r"[^A-Za-z0-9]", "", paper.paper_id)[-4:]
    return f"{re.sub(r'[^a-z0-9]', '', first) or 'paper'}{(paper.date or '')[:4]}{tail}"
