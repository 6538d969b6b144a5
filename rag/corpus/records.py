"""What every reader of a file format shares: ids of papers, and records that could not be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from rag.text.terms import words


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that could not be read: where (1-based line), and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def make_paper_id(title: str) -> str:
    """A stable, readable id from a title: its first words and four hex digits of its hash."""
    key = " ".join(words(title)) or title.strip()
    slug = ""
    for word in words(title):
        if len(slug) + len(word) > 44 and slug:
            break
        slug = f"{slug}-{word}" if slug else word[:44]
    return f"{slug or 'paper'}-{hashlib.sha256(key.encode()).hexdigest()[:4]}"
