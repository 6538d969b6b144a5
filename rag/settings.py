"""Every setting: its default, its environment name, and where its value came from.

Values come, in rising precedence, from the default, the environment (`RAG_` and the name in capitals),
a `rag.toml` (`--config FILE` or `RAG_CONFIG`, else `./rag.toml`, else the one in the user's configuration
folder), and command-line flags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rag.errors import UsageError


def _setting(default: Any, doc: str, **bounds: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **bounds})


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults; build one with `load`."""

    index_dir: str = _setting("", "Folder of the index; empty: the user's data folder.")
    # -- embedding and passages (changing one of these needs a new index)
    embedding_model: str = _setting("all-MiniLM-L6-v2", "A sentence-transformers hub name or a path.")
    max_tokens: int = _setting(512, "Longest passage in word pieces; longer papers are split at sentences.", low=64)
    # -- retrieval
    k: int = _setting(5, "Papers retrieved for a question.", low=1, high=1000)
    dense_weight: float = _setting(0.5, "w in w*cos/max(cos) + (1-w)*bm25/max(bm25).", low=0.0, high=1.0)
    window_weight: float = _setting(0.3, "Share of the best window of sentences in the dense score.", low=0.0, high=1.0)
    window: int = _setting(3, "Sentences in such a window.", low=1, high=100)
    interaction_weight: float = _setting(
        0.5, "Weight of late interaction in ranking anew; 0: none.", low=0.0, high=10.0
    )
    depth: int = _setting(100, "Length of the dense and the lexical list that are fused.", low=1, high=10000)
    bm25_k1: float = _setting(1.5, "BM25 term saturation (needs a new index).", low=0.0)
    bm25_b: float = _setting(0.75, "BM25 length normalisation (needs a new index).", low=0.0, high=1.0)
    title_repeat: int = _setting(2, "Times a title counts in BM25 (needs a new index).", low=0, high=10)
    bigram_weight: float = _setting(0.1, "Weight of BM25 over stem pairs.", low=0.0)
    correct_spelling: bool = _setting(True, "Correct misspelt question words to those of the corpus (edit distance 1).")
    # -- extractive answers
    max_sentences: int = _setting(4, "Most sentences in an extractive answer.", low=1, high=50)
    abstain_below: float = _setting(0.41, "Answerability below which the corpus does not answer.", low=0.0, high=1.0)
    strict: bool = _setting(False, "Remove sentences that the retrieved papers do not support.")
    nli_model: str = _setting("", "An NLI cross-encoder (hub name or path) as a second opinion; empty: none.")
    judge: str = _setting("", "An Ollama model as a second opinion on sentences in doubt; empty: none.")
    # -- answers by a local model
    mode: str = _setting(
        "auto",
        "Who answers: ollama, extractive, or auto (a model if a server answers).",
        choices=("auto", "ollama", "extractive"),
    )
    llm: str = _setting("", "Ollama model that answers; empty: the first one on the server that can.")
    ollama_host: str = _setting("", "Ollama server, as in OLLAMA_HOST; empty: OLLAMA_HOST, else 127.0.0.1:11434.")
    temperature: float = _setting(0.0, "Sampling temperature.", low=0.0, high=2.0)
    seed: int = _setting(42, "Sampling seed.", low=0)
    num_ctx: int = _setting(8192, "Longest context asked of the model, in tokens.", low=512)
    answer_tokens: int = _setting(512, "Longest answer, in tokens.", low=16)
    think: str = _setting(
        "off",
        "Reasoning before the answer, where the model can: off, on, low, medium or high.",
        choices=("off", "on", "low", "medium", "high"),
    )
    rewrite: bool = _setting(False, "Let the model, not a rule, rewrite a follow-up question for retrieval.")
    keep_alive: str = _setting("", "Time the model stays loaded, such as 10m or -1; empty: the server's default.")
    connect_timeout: float = _setting(2.0, "Seconds to wait for a connection to Ollama.", low=0.001)
    first_token_timeout: float = _setting(300.0, "Seconds to wait for the first token (loading, reading).", low=0.001)
    token_timeout: float = _setting(60.0, "Seconds to wait between two tokens.", low=0.001)

    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def origin(self, name: str) -> str:
        """Where the value of setting `name` came from."""
        return self.origins.get(name, "default")

    @property
    def index_path(self) -> Path:
        """The index folder, absolute."""
        if self.index_dir:
            return Path(self.index_dir).expanduser().absolute()
        from platformdirs import user_data_path

        return user_data_path("rag", appauthor=False) / "index"

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        config: str | Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Settings from defaults, `environ`, the configuration file and `flags` (None values are unset).

        Raises UsageError for an unknown name, a value of the wrong type or out of bounds, or a
        configuration file that cannot be read.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        path, wanted = _config_path(config, environ)
        layers: list[tuple[Mapping[str, Any], str]] = [
            ({n: environ[v] for n in _FIELDS if (v := f"RAG_{n.upper()}") in environ}, "environment"),
            (_read_toml(path, wanted), str(path)),
            ({n: v for n, v in (flags or {}).items() if v is not None}, "command line"),
        ]
        for layer, origin in layers:
            for name, value in layer.items():
                shown = f"environment RAG_{name.upper()}" if origin == "environment" else origin
                if name not in _FIELDS:
                    raise UsageError(f"Unknown setting {name!r} in {shown}.", "`rag config` lists all settings.")
                values[name], origins[name] = _convert(name, value, shown), shown
        return cls(**values, origins=origins)


_FIELDS = {f.name: f for f in fields(Settings) if f.name != "origins"}


def describe(name: str) -> str:
    """The one-line description of setting `name`."""
    return str(_FIELDS[name].metadata["doc"])


def names() -> list[str]:
    """All setting names, in order of definition."""
    return list(_FIELDS)


def _config_path(config: str | Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The configuration file, and whether it was asked for by name."""
    if named := (config or environ.get("RAG_CONFIG")):
        return Path(named).expanduser(), True
    local = Path("rag.toml")
    if os.path.isfile(local):  # noqa: PTH113  # False, not an error, where the working folder is closed to us
        return local, False
    from platformdirs import user_config_path

    return user_config_path("rag", appauthor=False) / "rag.toml", False


def _read_toml(path: Path, wanted: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if wanted:
            raise UsageError(f"No configuration file at {path}.", "Check --config or RAG_CONFIG.") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.", "Check its permissions and that it is UTF-8.") from error
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", "Mend that line.") from error


def _convert(name: str, value: Any, origin: str) -> Any:
    """`value` in the type of setting `name`, checked against its bounds."""
    spec = _FIELDS[name]
    kind = type(spec.default)
    try:
        if kind is bool and isinstance(value, str):
            value = {"1": True, "true": True, "yes": True, "on": True}.get(value.strip().lower()) or {
                "0": False, "false": False, "no": False, "off": False,
            }[value.strip().lower()]  # fmt: skip
        elif kind is bool and not isinstance(value, bool):
            raise ValueError
        elif kind in (int, float):
            if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
                raise ValueError
            value = kind(value)
        elif kind is str and not isinstance(value, str):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        word = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
        raise UsageError(f"{name} = {value!r} ({origin}) must be {word}.", describe(name)) from None
    choices = spec.metadata.get("choices")
    if choices and value not in choices:
        raise UsageError(f"{name} = {value!r} ({origin}) must be one of {', '.join(choices)}.", describe(name))
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if kind in (int, float) and not (
        value == value and (low is None or value >= low) and (high is None or value <= high)
    ):
        span = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise UsageError(f"{name} = {value} ({origin}) must be {span}.", describe(name))
    return value
