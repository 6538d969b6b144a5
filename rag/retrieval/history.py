"""Earlier turns of a conversation, as requests and question files write them."""

from __future__ import annotations

from typing import Any

from rag.errors import UsageError
from rag.types import Turn


def turns_from_json(value: Any) -> list[Turn]:
    """The turns in a list of {"question", "answer"} objects; none for None. Raises UsageError for anything else."""
    try:
        return [Turn(question=str(turn["question"]), answer=str(turn["answer"])) for turn in value or []]
    except (TypeError, KeyError):
        raise UsageError('"history" must be a list of {"question", "answer"} objects.') from None
