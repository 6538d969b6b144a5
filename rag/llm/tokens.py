"""The number of tokens of a prompt, estimated high: the model's own tokenizer is on the server."""

from __future__ import annotations

from collections.abc import Sequence

MESSAGE_TOKENS = 8  # what a chat template puts around one message


def estimate_tokens(text: str) -> int:
    """Tokens of `text`, estimated high for every common tokenizer.

    A token is 3.5 letters or spaces, one digit or punctuation mark, or two bytes of another script.
    """
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in text)
    marks = sum(c.isascii() for c in text) - letters
    other_bytes = len(text.encode("utf-8", "replace")) - letters - marks
    return int(letters / 3.5 + marks + other_bytes / 2) + 1


def estimate_message_tokens(messages: Sequence[dict[str, str]]) -> int:
    """Tokens of `messages` in a chat template, estimated high."""
    return sum(estimate_tokens(message["content"]) + MESSAGE_TOKENS for message in messages)
