"""The batch protocol: JSON lines {"id", "question", "history"} in, one JSON object per line out, in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.cli.options import stdin_text
from rag.errors import RagError, UsageError, exit_code

if TYPE_CHECKING:
    from rag.types import Turn

BatchAnswerer = Callable[[Any, str, "list[Turn]"], dict[str, Any]]  # (id, question, history) -> JSON object


def run_batch(source: list[str] | None, answer: BatchAnswerer) -> int:
    """Answer every line of a file, or of stdin; a line that cannot be answered yields {"id", "error"}.

    Returns the exit code of the last failure, or 0. Raises UsageError if the requests cannot be read.
    """
    if not source or source == ["-"]:
        text = stdin_text()
    else:
        from rag.corpus.reading import read_text

        text = read_text(Path(source[0]))
    code = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        id_: Any = None
        try:
            request = _request(line, number)
            id_ = request.get("id")
            result = answer(id_, *_question_and_history(request, number))
        except RagError as error:
            result, code = {"id": id_, "error": str(error)}, exit_code(error)
        print(json.dumps(result, ensure_ascii=False), flush=True)
    return code


def _request(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"Line {number} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UsageError(f"Line {number} is not a JSON object.")
    return value


def _question_and_history(request: dict[str, Any], number: int) -> tuple[str, list[Turn]]:
    from rag.retrieval.history import turns_from_json

    if not isinstance(request.get("question"), str):
        raise UsageError(f'Line {number} has no text "question".')
    try:
        return request["question"], turns_from_json(request.get("history"))
    except UsageError as error:
        raise UsageError(f"Line {number}: {error.message}") from None
