"""Follow-up questions rewritten by a model so that they can be searched for alone."""

from __future__ import annotations

from collections.abc import Sequence

from rag.answering.citations import remove_citations
from rag.answering.prompt import escape_markup
from rag.errors import LLMError
from rag.llm.session import LLMSession
from rag.retrieval.followup import retrieval_query
from rag.types import Turn

_INSTRUCTION = "Rewrite the last question so that it can be understood alone. Write only the question."
_MAX_TURNS = 3
_MAX_ANSWER_CHARACTERS = 400
_MAX_TOKENS = 96
_MAX_CHARACTERS = 300  # a longer reply is not a question


def rewrite_question(session: LLMSession, question: str, history: Sequence[Turn]) -> str:
    """`question` as the model rewrites it after `history`; if that fails, as `retrieval_query` contextualises it."""
    fallback = retrieval_query(question, history)
    if not history:
        return fallback
    turns = "\n".join(
        f"Q: {escape_markup(turn.question)}\nA: {escape_markup(remove_citations(turn.answer))[:_MAX_ANSWER_CHARACTERS]}"
        for turn in history[-_MAX_TURNS:]
    )
    content = f"{_INSTRUCTION}\n\n{turns}\n\nLast question: {escape_markup(question)}"
    try:
        reply = session.write([{"role": "user", "content": content}], _MAX_TOKENS)
    except LLMError:
        return fallback
    first_line = next((line.strip() for line in reply.splitlines() if line.strip()), "")
    return first_line if 0 < len(first_line) <= _MAX_CHARACTERS else fallback
