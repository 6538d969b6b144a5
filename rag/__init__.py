"""A question-answering assistant over a corpus of paper abstracts; every sentence names its source.

    from rag import Assistant
    answer = Assistant.open().ask("what mitigates forgetting?")

Names are resolved on first use (PEP 562), so that `import rag` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.assistant import Assistant as Assistant
    from rag.errors import (
        CorpusError as CorpusError,
    )
    from rag.errors import (
        EmbeddingModelError as EmbeddingModelError,
    )
    from rag.errors import (
        GenerationError as GenerationError,
    )
    from rag.errors import (
        IndexCorruptError as IndexCorruptError,
    )
    from rag.errors import (
        IndexFolderError as IndexFolderError,
    )
    from rag.errors import (
        IndexLockedError as IndexLockedError,
    )
    from rag.errors import (
        IndexMismatchError as IndexMismatchError,
    )
    from rag.errors import (
        IndexMissingError as IndexMissingError,
    )
    from rag.errors import (
        IndexWriteError as IndexWriteError,
    )
    from rag.errors import (
        LLMError as LLMError,
    )
    from rag.errors import (
        LLMUnavailableError as LLMUnavailableError,
    )
    from rag.errors import (
        PromptTooLongError as PromptTooLongError,
    )
    from rag.errors import (
        RagError as RagError,
    )
    from rag.errors import (
        SettingsError as SettingsError,
    )
    from rag.errors import (
        UsageError as UsageError,
    )
    from rag.index.build import build_index as build_index
    from rag.settings import Settings as Settings
    from rag.types import Answer as Answer
    from rag.types import Paper as Paper
    from rag.types import SearchResult as SearchResult
    from rag.types import Turn as Turn

__version__ = "0.2.0"

_MODULES = {
    "rag.assistant": ("Assistant",),
    "rag.index.build": ("build_index",),
    "rag.settings": ("Settings",),
    "rag.types": ("Answer", "Paper", "SearchResult", "Turn"),
    "rag.errors": (
        "CorpusError",
        "EmbeddingModelError",
        "GenerationError",
        "IndexCorruptError",
        "IndexFolderError",
        "IndexLockedError",
        "IndexMismatchError",
        "IndexMissingError",
        "IndexWriteError",
        "LLMError",
        "LLMUnavailableError",
        "PromptTooLongError",
        "RagError",
        "SettingsError",
        "UsageError",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        from importlib import import_module

        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'rag' has no attribute {name!r}")
