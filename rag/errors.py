"""One error type per kind of failure; each carries the remedy a user can act on."""

from __future__ import annotations


class RagError(Exception):
    """Base of every failure this program expects: `message` says what is wrong, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(RagError):
    """The request itself cannot be carried out: an empty question, a bad setting, a bad path."""


class CorpusError(UsageError):
    """A corpus file is missing, unreadable, not UTF-8, or holds no paper."""


class ModelError(RagError):
    """The embedding model cannot be loaded, or its weights are not the published ones."""


class IndexMissing(RagError):
    """There is no index where one was expected."""


class IndexUnfit(RagError):
    """The index was built in another way than the settings ask for; names the field that differs."""


class IndexDamaged(RagError):
    """The index is there but cannot be read or written."""


REBUILD = "Run `rag index --rebuild`."  # the remedy for most damage


class IndexLocked(IndexDamaged):
    """Another process is writing this index."""


class ModelUnavailable(RagError):
    """The language-model server or the model asked for cannot be used."""


class GenerationFailed(ModelUnavailable):
    """The model broke off; `partial` is the answer text that had streamed by then."""

    def __init__(self, message: str, hint: str = "", partial: str = "") -> None:
        super().__init__(message, hint)
        self.partial = partial


class PromptTruncated(GenerationFailed):
    """The prompt does not fit the model's context, or the server cut it; what it wrote is no answer."""
