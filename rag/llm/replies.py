"""Replies of an Ollama server, reduced to what rag reads, in types that the `ollama` package accepts.

Old servers and proxies omit fields or send other types; such a field counts as absent.
"""

from __future__ import annotations

from typing import Any

from rag.llm.transport import ExchangeError

Object = dict[str, Any]


class ErrorLineError(ExchangeError):
    """A line of a stream that reports an error; `error` is what the server sent."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.error = error


def as_int(value: Any) -> int:
    """`value` as a whole number if it is a number, else 0."""
    return int(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0


def as_text(value: Any) -> str:
    """`value` if it is text, else "". A lone surrogate, from a pair cut between two tokens, becomes "?"."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def clean_version(reply: Object) -> Object:
    """The reply of /api/version."""
    return {"version": as_text(reply.get("version"))}


def clean_models(reply: Object) -> Object:
    """The reply of /api/tags; without `models` if it has no list of them."""
    models = reply.get("models")
    return {"models": [_model(entry) for entry in _objects(models)]} if isinstance(models, list) else {}


def clean_loaded(reply: Object) -> Object:
    """The reply of /api/ps."""
    models = _objects(reply.get("models"))
    return {"models": [_model(m) | {"context_length": as_int(m.get("context_length"))} for m in models]}


def clean_info(reply: Object) -> Object:
    """The reply of /api/show."""
    values = _list(_object(reply.get("thinking")).get("values"))
    return {
        "model_info": _object(reply.get("model_info")),
        "capabilities": [name for name in _list(reply.get("capabilities")) if isinstance(name, str)],
        "thinking": [value for value in values if isinstance(value, bool | str)],
    }


def clean_chat_line(line: Object) -> Object:
    """A line of /api/chat. Raises ErrorLineError."""
    message = _object(_without_error(line).get("message"))
    counts = {name: as_int(line.get(name)) for name in ("prompt_eval_count", "eval_count", "eval_duration")}
    return counts | {
        "message": {
            "role": "assistant",
            "content": as_text(message.get("content")),
            "thinking": as_text(message.get("thinking")),
        },
        "done": bool(line.get("done")),
        "done_reason": as_text(line.get("done_reason")),
    }


def clean_pull_line(line: Object) -> Object:
    """A line of /api/pull. Raises ErrorLineError."""
    texts = {name: as_text(_without_error(line).get(name)) for name in ("status", "digest")}
    return texts | {name: as_int(line.get(name)) for name in ("completed", "total")}


def _model(entry: Object) -> Object:
    details = _object(entry.get("details"))
    return {
        "model": as_text(entry.get("name")) or as_text(entry.get("model")),
        "size": max(0, as_int(entry.get("size"))),
        "details": {name: as_text(details.get(name)) for name in ("parameter_size", "quantization_level")},
        "remote_host": as_text(entry.get("remote_host")),
    }


def _without_error(line: Object) -> Object:
    if error := line.get("error"):
        raise ErrorLineError(error)
    return line


def _object(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[Object]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]
