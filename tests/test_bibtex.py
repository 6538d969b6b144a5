"""BibTeX entries that TeX can read."""

from __future__ import annotations

import re

import pytest

from rag.corpus.bibtex import bibtex, key
from rag.types import Paper


@pytest.mark.parametrize(
    ("title", "written"),
    [
        ("R&D at 10%", r"R\&D at 10\%"),
        (r"R\&D at 10\%", r"R\&D at 10\%"),
        ("a_b ~ c^2 {x}", r"a\_b \textasciitilde{} c\textasciicircum{}2 \{x\}"),
        ("\\input secret", r"\textbackslash{}input secret"),
        ("bidi \u202e and \x1b[31m", "bidi   and  [31m"),
    ],
)
def test_special_characters_are_escaped_once(title: str, written: str) -> None:
    assert f"title = {{{{{written}}}}}" in bibtex(Paper(paper_id="id-1", title=title, abstract="Text."))


def test_keys_are_plain_and_differ(corpus: list[Paper]) -> None:
    keys = [key(paper) for paper in corpus]
    assert len(set(keys)) == len(corpus)
    assert all(re.fullmatch(r"[A-Za-z0-9]+", one) for one in keys)


def test_only_a_paper_with_a_date_has_a_year(corpus: list[Paper]) -> None:
    dated = next(p for p in corpus if p.date)
    entry = bibtex(dated)
    assert dated.date and f"year = {{{dated.date[:4]}}}" in entry
    assert "year" not in bibtex(next(p for p in corpus if not p.date))
