"""A question-answering assistant over a corpus of paper abstracts, every sentence traced to its source.

The public API is small:

    from rag import Assistant
    answer = Assistant.open().ask("what mitigates forgetting?")

Names are resolved on first use (PEP 562), so that `import rag` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.answering import Answer
    from rag.assistant import Assistant
    from rag.papers import Paper
    from rag.settings import Settings

__version__ = "0.1.0"
__all__ = ["Answer", "Assistant", "Paper", "Settings", "__version__"]

_HOMES = {
    "Answer": "rag.answering",
    "Assistant": "rag.assistant",
    "Paper": "rag.papers",
    "Settings": "rag.settings",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rag' has no attribute {name!r}")
