"""The Ollama server behind llama-index's LLM interface, for programs that are built on llama-index.

Not llama-index's own `Ollama` class, for the reasons in `rag.answering.ollama`: this one sizes `num_ctx` to the
prompt, refuses a prompt that does not fit, sets `think` by the model, and has the same errors and deadlines.
"""

# mypy: disable-error-code="misc, untyped-decorator"
# llama-index is not followed by mypy here, so its base class and decorators count as untyped.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import (
    chat_to_completion_decorator,
    stream_chat_to_completion_decorator,
)
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import PrivateAttr

from rag.answering.generative import OllamaAnswerer
from rag.answering.markers import Reasoning
from rag.answering.ollama import said
from rag.settings import Settings


class LocalLLM(CustomLLM):
    """The model that `settings` choose. `raw` of the last response is Ollama's own, with `done_reason`."""

    _answerer: OllamaAnswerer = PrivateAttr()

    def __init__(self, settings: Settings | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._answerer = OllamaAnswerer(settings or Settings.load())

    @classmethod
    def class_name(cls) -> str:
        return "rag_local_llm"

    @property
    def metadata(self) -> LLMMetadata:
        answerer = self._answerer
        return LLMMetadata(
            context_window=answerer.limit,
            num_output=answerer.settings.answer_tokens,
            is_chat_model=True,
            model_name=answerer.card.name,
        )

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        plain = [{"role": m.role.value, "content": m.content or ""} for m in messages]

        def chunks() -> ChatResponseGen:
            reasoning, text = Reasoning(), ""
            for line in self._answerer.chat(plain):
                delta = ""
                for kind, part in reasoning.feed(said(line)[1], last=bool(line.get("done"))):
                    if kind == "discard":
                        text = delta = ""
                    elif kind == "answer":
                        delta += part
                text += delta
                yield ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=delta, raw=line)

        return chunks()

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        *_, last = self.stream_chat(messages, **kwargs)
        return last

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return chat_to_completion_decorator(self.chat)(prompt, **kwargs)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        return stream_chat_to_completion_decorator(self.stream_chat)(prompt, **kwargs)
