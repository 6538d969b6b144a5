"""Writes the documentation of the log from its types: `python -m eval.log_docs > docs/eval-log.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import JsonValue

from eval.log import SCHEMA, EvalLog, Record, Scores

_INTRODUCTION = f"""\
# The evaluation log

`rag eval run --out DIR` writes `DIR/report.json`, schema {SCHEMA}: an `EvalLog`. `eval/baseline.json` holds a `Scores`.
`eval/log.py` defines both; `python -m eval.log_docs > docs/eval-log.md` writes this page. Read a log with
`eval.log.read_log(path)` or any JSON parser. Figures are rounded to 4 decimals, and offsets count characters.

A log of schema 1 is converted when it is read, without the context of an answer and without the verifier's counts, so
`rag eval score` refuses it."""

_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def documentation() -> str:
    """docs/eval-log.md."""
    types: list[type] = []
    for root in (EvalLog, Scores):
        _collect(root, types)
    return "\n\n".join([_INTRODUCTION, *map(_section, types)]) + "\n"


def _collect(kind: type, types: list[type]) -> None:
    """Append `kind` and every type that its fields mention to `types`, in order of mention."""
    if kind not in types:
        types.append(kind)
        for _, annotation, *_ in _fields(kind):
            for mentioned in _mentioned(annotation):
                _collect(mentioned, types)


def _mentioned(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and (issubclass(annotation, Record) or is_dataclass(annotation)):
        yield annotation
    for argument in get_args(annotation):
        yield from _mentioned(argument)


def _section(kind: type) -> str:
    heads = ["field", "type", "meaning"] if issubclass(kind, Record) else ["field", "type"]
    rows = [heads, ["---"] * len(heads)]
    rows += [[f"`{name}`", _type_name(annotation), *meaning] for name, annotation, *meaning in _fields(kind)]
    summary = " ".join((kind.__doc__ or "").split())
    return "\n".join([f"## {kind.__name__}", "", summary, "", *(f"| {' | '.join(row)} |" for row in rows)])


def _fields(kind: type) -> Iterator[tuple[str, Any, *tuple[str, ...]]]:
    """(name in JSON, annotation, meaning) of every field; a dataclass of rag has the meanings in its docstring."""
    if issubclass(kind, Record):
        for name, info in kind.model_fields.items():
            yield info.alias or name, info.annotation, info.description or ""
    elif is_dataclass(kind):
        hints = get_type_hints(kind)
        for field in fields(kind):
            yield field.name, hints[field.name]


def _type_name(annotation: Any) -> str:
    """The JSON type of a field, with links to the types of the log."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is JsonValue:
        return "any"
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type_name(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"object: name → {_type_name(arguments[1])}"
    return _NAMES.get(annotation) or f"[{annotation.__name__}](#{annotation.__name__.lower()})"


if __name__ == "__main__":
    print(documentation(), end="")
