"""Every setting: its group, default, bounds, and where its value came from.

Settings are frozen groups that are validated when they are constructed. `Settings.load` reads them, in rising
precedence, from the defaults, a `rag.toml`, the environment (`RAG_` and the name in capitals) and the command line.
The name of a setting is unique, so that `k`, `retrieval.k`, `RAG_K` and `[retrieval] k` all refer to the same setting.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rag.errors import IndexMissingError, SettingsError


def _setting(default: Any, doc: str, **bounds: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **bounds})


class _Group:
    """A group of settings. Constructing one with an invalid value raises SettingsError."""

    def __post_init__(self) -> None:
        for spec in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            object.__setattr__(self, spec.name, _validated(spec, getattr(self, spec.name)))


@dataclass(frozen=True, kw_only=True)
class IndexSettings(_Group):
    """Where the index is, and how it is built. A change of any but `index_dir` needs a new index."""

    index_dir: str = _setting("", "Folder of the index; empty: the user's data folder.")
    embedding_model: str = _setting("all-MiniLM-L6-v2", "A sentence-transformers hub name or a path.")
    max_tokens: int = _setting(512, "Longest passage in tokens; longer papers are split at sentences.", low=64)
    bm25_k1: float = _setting(1.5, "BM25 term saturation.", low=0.0)
    bm25_b: float = _setting(0.75, "BM25 length normalisation.", low=0.0, high=1.0)
    title_repeat: int = _setting(2, "How many times a title counts in BM25.", low=0, high=10)


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings(_Group):
    """How papers are ranked."""

    k: int = _setting(5, "Papers retrieved for a question.", low=1, high=1000)
    dense_weight: float = _setting(0.5, "w in w*cos/max(cos) + (1-w)*bm25/max(bm25).", low=0.0, high=1.0)
    window_weight: float = _setting(0.3, "Share of the best sentence window in the dense score.", low=0.0, high=1.0)
    window: int = _setting(3, "Sentences in a window.", low=1, high=100)
    late_interaction_weight: float = _setting(
        0.5, "Weight v of late interaction in reranking; its share of the score is v/(1+v).", low=0.0, high=10.0
    )
    depth: int = _setting(100, "Length of the dense and BM25 candidate lists that are fused.", low=1, high=10000)
    bigram_weight: float = _setting(0.1, "Weight of BM25 over stem bigrams.", low=0.0)
    correct_spelling: bool = _setting(True, "Correct misspelt question words to words of the corpus (edit distance 1).")


@dataclass(frozen=True, kw_only=True)
class AnsweringSettings(_Group):
    """Who answers, and when the answer is an abstention."""

    mode: str = _setting(
        "auto",
        "Who answers: generative (a model), extractive (quotations), or auto (a model if a server answers).",
        choices=("auto", "generative", "extractive"),
    )
    max_sentences: int = _setting(4, "Most sentences in an extractive answer.", low=1, high=50)
    abstain_below: float = _setting(0.41, "Answerability below which rag abstains.", low=0.0, high=1.0)
    rewrite: bool = _setting(False, "Let the model rewrite a follow-up question for retrieval.")


@dataclass(frozen=True, kw_only=True)
class VerificationSettings(_Group):
    """How sentences are checked against the papers."""

    strict: bool = _setting(False, "Remove sentences that no retrieved paper supports.")
    nli_model: str = _setting(
        "", "An NLI cross-encoder (hub name or path) that judges uncertain sentences; empty: none."
    )
    judge_model: str = _setting("", "An Ollama model that judges uncertain sentences; empty: none.")


@dataclass(frozen=True, kw_only=True)
class LLMSettings(_Group):
    """The Ollama server, its model, and how the model is run."""

    model: str = _setting("", "Ollama model that answers; empty: the first one on the server that can.")
    ollama_host: str = _setting("", "Ollama server, as in OLLAMA_HOST; empty: OLLAMA_HOST, else 127.0.0.1:11434.")
    temperature: float = _setting(0.0, "Sampling temperature.", low=0.0, high=2.0)
    seed: int = _setting(42, "Sampling seed.", low=0)
    num_ctx: int = _setting(8192, "Longest context requested from the model, in tokens.", low=512)
    answer_tokens: int = _setting(512, "Longest answer, in tokens.", low=16)
    think: str = _setting(
        "off",
        "Reasoning before the answer, if the model can: off, on, low, medium or high.",
        choices=("off", "on", "low", "medium", "high"),
    )
    keep_alive: str = _setting("", "How long the model stays loaded, such as 10m or -1; empty: the server's default.")
    connect_timeout: float = _setting(2.0, "Seconds to wait for a connection to Ollama.", low=0.001)
    first_token_timeout: float = _setting(300.0, "Seconds to wait for the first token (loading, reading).", low=0.001)
    token_timeout: float = _setting(60.0, "Seconds to wait between two tokens.", low=0.001)


_GROUPS: dict[str, type[_Group]] = {
    "index": IndexSettings,
    "retrieval": RetrievalSettings,
    "answering": AnsweringSettings,
    "verification": VerificationSettings,
    "llm": LLMSettings,
}
_FIELDS = {spec.name: spec for group in _GROUPS.values() for spec in fields(group)}  # type: ignore[arg-type]
_GROUP_OF = {spec.name: name for name, group in _GROUPS.items() for spec in fields(group)}  # type: ignore[arg-type]
# Names and values of earlier versions, kept for one release.
_RENAMED = {"interaction_weight": "late_interaction_weight", "llm": "model", "judge": "judge_model"}
_RENAMED_VALUES = {("mode", "ollama"): "generative"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings with their defaults: construct one with `Settings()`, `Settings.of` or `Settings.load`.

    `origins` maps a setting's name to where its value came from. `deprecations` are notes for the user about old
    names in use, one line each.
    """

    index: IndexSettings = field(default_factory=IndexSettings)
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    answering: AnsweringSettings = field(default_factory=AnsweringSettings)
    verification: VerificationSettings = field(default_factory=VerificationSettings)
    llm: LLMSettings = field(default_factory=LLMSettings)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    deprecations: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """The defaults with `values`, which are settings by name. Raises SettingsError."""
        return cls().replace(**values)

    def replace(self, **values: Any) -> Settings:
        """These settings with other `values`, which are settings by name. Raises SettingsError."""
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in _FIELDS:
                raise SettingsError(f"Unknown setting {name!r}.", "`rag config` lists all settings.")
            changes.setdefault(_GROUP_OF[name], {})[name] = value
        groups: dict[str, Any] = {group: replace(getattr(self, group), **new) for group, new in changes.items()}
        return replace(self, **groups)

    def value(self, name: str) -> Any:
        """The value of setting `name`."""
        return getattr(getattr(self, _GROUP_OF[name]), name)

    def as_dict(self) -> dict[str, Any]:
        """Every setting by name."""
        return {name: self.value(name) for name in _FIELDS}

    def origin(self, name: str) -> str:
        """Where the value of setting `name` came from."""
        return self.origins.get(name, "default")

    @property
    def index_path(self) -> Path:
        """The index folder, absolute. Raises IndexMissingError if none is named and the user has no home folder."""
        if self.index.index_dir:
            return _expanded(self.index.index_dir).absolute()
        from platformdirs import user_data_path

        try:
            return user_data_path("rag", appauthor=False) / "index"
        except RuntimeError:
            raise IndexMissingError(
                "There is no home folder, so there is no default folder for the index.",
                "Name a folder with --index or RAG_INDEX_DIR.",
            ) from None

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        config: str | Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Settings from the defaults, the configuration file, `environ` and `flags` (None values are unset).

        Raises SettingsError for an unknown name, a value of the wrong type or out of bounds, or a configuration
        file that cannot be read.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        deprecations: list[str] = []
        path, required = _config_path(config, environ)
        variables = ((name, f"RAG_{name.upper()}") for name in (*_RENAMED, *_FIELDS))
        layers: list[Iterable[tuple[str, Any, str]]] = [
            ((name, value, str(path)) for name, value in _read_toml(path, required)),
            ((name, environ[v], f"environment {v}") for name, v in variables if v in environ),
            ((name, value, "command line") for name, value in (flags or {}).items() if value is not None),
        ]
        for layer in layers:
            for written_name, value, origin in layer:
                name, value = _current(written_name, value, origin, deprecations)
                values[name], origins[name] = _validated(_FIELDS[name], value, origin), origin
        return replace(cls.of(**values), origins=origins, deprecations=tuple(deprecations))


def describe(name: str) -> str:
    """The one-line description of setting `name`."""
    return str(_FIELDS[name].metadata["doc"])


def groups() -> dict[str, list[str]]:
    """The names of all settings by group, in order of definition."""
    return {group: [name for name in _FIELDS if _GROUP_OF[name] == group] for group in _GROUPS}


def _current(written_name: str, value: Any, origin: str, deprecations: list[str]) -> tuple[str, Any]:
    """The current name and value of a setting; a deprecated one adds a note to `deprecations`. Raises SettingsError."""
    group, dot, name = written_name.rpartition(".")
    if name in _RENAMED:
        deprecations.append(f"The setting {name} ({origin}) is deprecated: use {_RENAMED[name]}.")
        name = _RENAMED[name]
    if name not in _FIELDS or (dot and group != _GROUP_OF[name]):
        raise SettingsError(f"Unknown setting {written_name!r} ({origin}).", "`rag config` lists all settings.")
    if isinstance(value, str) and (name, value) in _RENAMED_VALUES:
        current_value = _RENAMED_VALUES[name, value]
        deprecations.append(f"The value {value} of {name} ({origin}) is deprecated: use {current_value}.")
        value = current_value
    return name, value


def _expanded(path: str | Path) -> Path:
    """`path` with the user's home folder for ~. Raises SettingsError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"Cannot expand {path}: {error}", "Write the path without ~.") from None


def _config_path(config: str | Path | None, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The configuration file, and whether the user named it; None if none is named and there is no home folder."""
    if named := (config or environ.get("RAG_CONFIG")):
        return _expanded(named), True
    local = Path("rag.toml")
    if os.path.isfile(local):  # noqa: PTH113  # False, not an error, if the working folder cannot be read
        return local, False
    from platformdirs import user_config_path

    try:
        return user_config_path("rag", appauthor=False) / "rag.toml", False
    except RuntimeError:
        return None, False


def _read_toml(path: Path | None, required: bool) -> list[tuple[str, Any]]:
    """(name, value) of each setting in a configuration file; a setting of a table is named `table.name`."""
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise SettingsError(f"No configuration file at {path}.", "Check --config or RAG_CONFIG.") from None
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Cannot read {path}: {error}.", "Check its permissions and that it is UTF-8.") from error
    import tomllib

    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.", "Fix that line.") from error
    entries: list[tuple[str, Any]] = []
    for name, value in parsed.items():
        if isinstance(value, dict):
            entries += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            entries.append((name, value))
    return entries


_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _validated(spec: Any, value: Any, origin: str = "") -> Any:
    """`value` in the type of the setting `spec`, checked against its bounds. Raises SettingsError."""
    kind, where = type(spec.default), f" ({origin})" if origin else ""
    hint = str(spec.metadata["doc"])
    try:
        value = _converted(kind, value)
    except (ValueError, TypeError, OverflowError):
        raise SettingsError(f"{spec.name} = {value!r}{where} must be {_TYPE_NAMES[kind]}.", hint) from None
    choices = spec.metadata.get("choices")
    if choices and value not in choices:
        raise SettingsError(f"{spec.name} = {value!r}{where} must be one of {', '.join(choices)}.", hint)
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if kind in (int, float):
        in_bounds = value == value and (low is None or value >= low) and (high is None or value <= high)
        if not in_bounds:
            bounds = f"between {low} and {high}" if high is not None else f"at least {low}"
            raise SettingsError(f"{spec.name} = {value}{where} must be {bounds}.", hint)
    return value


def _converted(kind: type, value: Any) -> Any:
    """`value` converted to `kind`; text is parsed. Raises ValueError, TypeError or OverflowError."""
    if kind is bool:
        text = str(value).strip().lower()
        if not isinstance(value, bool | str) or text not in _TRUE | _FALSE:
            raise ValueError
        return text in _TRUE
    if kind in (int, float):
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
            raise ValueError
        return kind(value)
    if not isinstance(value, str):
        raise ValueError
    return value
