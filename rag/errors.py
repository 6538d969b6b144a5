"""One error type per kind of failure; each carries the remedy a user can act on.

RagError
├── UsageError                the request cannot be carried out
│   ├── SettingsError         a setting has an unknown name or an invalid value
│   └── CorpusError           a file of papers cannot be read, or holds no paper
├── EmbeddingModelError       the embedding model cannot be loaded
├── IndexFolderError          the index cannot be used
│   ├── IndexMissingError     there is no index
│   ├── IndexMismatchError    it was built with other settings, or by another version
│   ├── IndexCorruptError     its files cannot be read
│   ├── IndexLockedError      another process is writing it
│   └── IndexWriteError       it cannot be written
└── LLMError                  no answer came from a language model
    ├── LLMUnavailableError   the server or the model cannot be used
    ├── GenerationError       the model stopped early or wrote nothing
    └── PromptTooLongError    the prompt does not fit the model's context
"""

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
    """The request cannot be carried out: an empty question, a bad argument, a bad path."""


class SettingsError(UsageError):
    """A setting has an unknown name or an invalid value."""


class CorpusError(UsageError):
    """A corpus file is missing, unreadable, not UTF-8, or holds no paper."""


class EmbeddingModelError(RagError):
    """The embedding model cannot be loaded, or its weights are not the published ones."""


class IndexFolderError(RagError):
    """The index cannot be used."""


class IndexMissingError(IndexFolderError):
    """There is no index in the folder."""


class IndexMismatchError(IndexFolderError):
    """The index was built with other settings or by another version; the message names what differs."""


class IndexCorruptError(IndexFolderError):
    """The files of the index cannot be read."""


class IndexLockedError(IndexFolderError):
    """Another process is writing this index."""


class IndexWriteError(IndexFolderError):
    """The index cannot be written."""


class LLMError(RagError):
    """A language model gave no answer. `partial` is the text that had streamed by then."""

    def __init__(self, message: str, hint: str = "", partial: str = "") -> None:
        super().__init__(message, hint)
        self.partial = partial


class LLMUnavailableError(LLMError):
    """The language-model server, or the model asked for, cannot be used."""


class GenerationError(LLMError):
    """The model stopped before its answer was complete, or wrote nothing."""


class PromptTooLongError(LLMError):
    """The prompt does not fit the model's context, or the server truncated it."""


# The exit code of each kind of failure; the first type that matches decides.
EXIT_CODES: tuple[tuple[type[RagError], int], ...] = (
    (UsageError, 2),
    (LLMError, 5),
    (EmbeddingModelError, 6),
    (IndexFolderError, 6),
)


def exit_code(error: RagError) -> int:
    """The exit code of the command line for `error`; 1 for a kind that is not in the table."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
