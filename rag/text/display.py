"""Text that is safe to print: the one place that removes control characters."""

from __future__ import annotations

import re

_BIDIRECTIONAL = "\u202a-\u202e\u2066-\u2069"
_CONTROL = f"\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDIRECTIONAL}\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[{_CONTROL}]")
# Terminal escape sequences, control characters and invisible characters, none of which a question needs.
_NOT_TYPED = re.compile(f"\x1b\\[[0-9;?]*[ -/]*[@-~]|[{_CONTROL}\u200b-\u200f\ufeff]")


def printable(text: str) -> str:
    """`text` safe for a terminal or a page: a space for every control character or bidirectional override."""
    return _UNPRINTABLE.sub(" ", text)


def strip_control(text: str) -> str:
    """`text` without escape sequences, control and invisible characters, and surplus white space."""
    return " ".join(_NOT_TYPED.sub(" ", text).split())
