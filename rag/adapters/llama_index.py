"""The model of an `LLMSession` behind llama-index's LLM interface, for programs that are built on llama-index.

llama-index's own `Ollama` class (0.11) requests the model's whole context length if none is set, cannot ask the server
to refuse a prompt that does not fit, and has one timeout for loading, reading and writing. This class sizes the context
to the prompt, refuses a prompt that does not fit, sets `think` by the model, and has the errors and deadlines of rag.
"""

# mypy: disable-error-code="misc, untyped-decorator"
# llama-index is not followed by mypy here, so its base class and decorators count as untyped.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
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

from rag.llm.reasoning import ReasoningSplitter
from rag.llm.session import LLMSession
from rag.settings import Settings


class LocalLLM(CustomLLM):
    """The model of `session`; by default the one that `settings` name. `raw` of a response is a ChatChunk as a dict."""

    _session: LLMSession = PrivateAttr()

    def __init__(self, settings: Settings | None = None, *, session: LLMSession | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._session = session or LLMSession((settings or Settings.load()).llm)

    @classmethod
    def class_name(cls) -> str:
        return "rag_local_llm"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self._session.context_limit,
            num_output=self._session.settings.answer_tokens,
            is_chat_model=True,
            model_name=self._session.model_info.name,
        )

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        plain = [{"role": m.role.value, "content": m.content or ""} for m in messages]

        def responses() -> ChatResponseGen:
            splitter, text = ReasoningSplitter(), ""
            for chunk in self._session.chat(plain):
                delta = ""
                for kind, part in splitter.feed(chunk.text, last=chunk.done):
                    if kind == "discard":
                        text = delta = ""
                    elif kind == "answer":
                        delta += part
                text += delta
                message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
                yield ChatResponse(message=message, delta=delta, raw=asdict(chunk))

        return responses()

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
