"""Cleaning of a question before it is searched."""

from __future__ import annotations

from rag.errors import UsageError
from rag.text.display import strip_control

LONGEST_QUESTION = 20_000  # characters; a longer text is a document, not a question


def clean_question(text: str) -> str:
    """`text` without control characters and surplus white space.

    Raises UsageError if nothing is left to search for, or if it is too long to be a question.
    """
    cleaned = strip_control(text)
    if not any(c.isalnum() for c in cleaned):
        raise UsageError("The question is empty.", 'Ask something: rag ask "what mitigates forgetting?"')
    if len(cleaned) > LONGEST_QUESTION:
        raise UsageError(
            f"The question has {len(cleaned):,} characters; the limit is {LONGEST_QUESTION:,}.", "Shorten it."
        )
    return cleaned
