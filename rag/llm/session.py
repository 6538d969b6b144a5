"""`LLMSession`: one model on one server, with the context length that a prompt needs.

A server may truncate a prompt without saying so. Three measures detect that: the client asks the server to refuse
instead; the context is sized by a high estimate of the tokens; and the count of prompt tokens that the server reports
is compared with what was sent, for servers before Ollama 0.12.6 and proxies that ignore the request. The meaning of
that count has changed: the whole prompt in 0.4 to 0.29 and again since 0.31; without the cached part before 0.4 and
in the first releases of 0.30; nothing for a fully cached prompt in the oldest. So a low count proves truncation only
if the version counts cached tokens and the count is more than a fifth below the number of words, which no tokenizer
reaches. A count that fills the context is proof on every version, because the context has room for the reply.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import closing

from rag.errors import LLMUnavailableError, PromptTooLongError
from rag.llm.client import ChatChunk, ChatRequest, LLMClient, ModelInfo, ModelRefusedError
from rag.llm.ollama import OllamaClient
from rag.llm.reasoning import without_reasoning
from rag.llm.tokens import estimate_message_tokens
from rag.settings import LLMSettings

SUGGESTED_MODEL = "llama3.2"  # for hints
_MIN_CONTEXT = 4096
_REASONING_TOKENS = 2048  # in addition to the answer's, if the model reasons first
_MIN_TOKENS_PER_WORD = 0.8


class LLMSession:
    """A model on a server, chosen at the first use; keeps the context length that the model is loaded with.

    `client` defaults to the Ollama server of the settings.
    """

    def __init__(self, settings: LLMSettings, client: LLMClient | None = None) -> None:
        self.settings = settings
        self.client: LLMClient = client or OllamaClient.from_settings(settings)
        self._model_info: ModelInfo | None = None
        self._num_ctx = 0

    @property
    def model_info(self) -> ModelInfo:
        """The model. Raises LLMUnavailableError."""
        if self._model_info is None:
            self._model_info = choose_model(self.client, self.settings.model)
        return self._model_info

    @property
    def context_limit(self) -> int:
        """The longest context to request, in tokens: the setting `num_ctx`, or the model's own length if shorter."""
        return min(self.settings.num_ctx, self.model_info.context_length or self.settings.num_ctx)

    @property
    def reserved_tokens(self) -> int:
        """The tokens that an answer may take, reasoning included."""
        reasons = think_value(self.model_info, self.settings.think)
        return self.settings.answer_tokens + (_REASONING_TOKENS if reasons else 0)

    def request(self, messages: Sequence[dict[str, str]], max_tokens: int = 0) -> ChatRequest:
        """The request that continues `messages`, with a context length that holds them and the reply.

        `max_tokens` limits the reply and turns reasoning off; 0 means the settings. Raises PromptTooLongError if the
        messages do not fit.
        """
        reserved = max_tokens or self.reserved_tokens
        needed = estimate_message_tokens(messages) + reserved
        if needed > self.context_limit:
            raise self.prompt_too_long(f"About {needed} tokens do not fit into {self.context_limit}.")
        return ChatRequest(
            model=self.model_info.name,
            messages=tuple(messages),
            num_ctx=self._context_for(needed),
            max_tokens=reserved,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
            think=think_value(self.model_info, "off" if max_tokens else self.settings.think),
            keep_alive=self.settings.keep_alive,
        )

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int = 0) -> Generator[ChatChunk, None, None]:
        """The reply to `messages` as it is written; `max_tokens` as in `request`.

        Raises LLMUnavailableError, and PromptTooLongError if the messages do not fit the context.
        """
        yield from self.client.chat(self.request(messages, max_tokens))

    def write(self, messages: Sequence[dict[str, str]], max_tokens: int) -> str:
        """The whole reply of up to `max_tokens` tokens, without reasoning. Raises what `chat` raises."""
        with closing(self.chat(messages, max_tokens)) as chunks:
            return without_reasoning("".join(chunk.text for chunk in chunks))

    def truncation(self, request: ChatRequest, last: ChatChunk) -> str:
        """How the server truncated the prompt of `request`, by the counts in the `last` chunk; "" if it did not."""
        if not last.prompt_tokens:
            return ""  # an old server with the whole prompt in its cache
        context = min(request.num_ctx, self._loaded_context() or request.num_ctx)  # a proxy may have set a smaller one
        if last.prompt_tokens >= context or last.prompt_tokens + last.output_tokens > request.num_ctx:
            return f"The prompt filled the whole context of {context} tokens, so part of it was lost."
        words = sum(len(message["content"].split()) for message in request.messages)
        if last.prompt_tokens < _MIN_TOKENS_PER_WORD * words and self._counts_cached_tokens():
            return f"The model read only {last.prompt_tokens} tokens of a prompt of more than {words}."
        return ""

    def prompt_too_long(self, message: str, partial: str = "") -> PromptTooLongError:
        """The error for a prompt that does not fit, with the remedy for this model."""
        length, setting = self.model_info.context_length, self.settings.num_ctx
        if length is not None and setting >= length:
            remedy = f"Use a model with more than {length} tokens of context"
        else:
            remedy = f"Raise num_ctx (now {setting})"
        return PromptTooLongError(message, f"{remedy}, or retrieve fewer papers with -k.", partial)

    def _context_for(self, needed: int) -> int:
        """A context length that holds `needed` tokens: if possible the one that the model is loaded with.

        Another length makes the server load the model again, so it grows in powers of two and never shrinks.
        """
        if not self._num_ctx:
            self._num_ctx = self._loaded_context()
        if self._num_ctx < needed:
            self._num_ctx = min(self.context_limit, max(_MIN_CONTEXT, 1 << (needed - 1).bit_length()))
        return self._num_ctx

    def _loaded_context(self) -> int:
        """The context length that the model is loaded with; 0 if it is not, or the server does not say."""
        loaded, name = self.client.loaded(), self.model_info.name
        return loaded.get(name) or loaded.get(f"{name}:latest") or 0

    def _counts_cached_tokens(self) -> bool:
        """Whether the server's count of prompt tokens includes cached ones: see the top of this module."""
        try:
            version = [int(number) for number in re.findall(r"\d+", self.client.version())[:2]]
        except LLMUnavailableError:
            return True
        return version != [0, 30] and not [0, 0] < version < [0, 4]


def choose_model(client: LLMClient, wanted: str = "") -> ModelInfo:
    """Model `wanted`, else the first one on the server that can answer and runs there.

    Raises LLMUnavailableError if there is none, or if `wanted` is missing or can only embed.
    """
    if wanted:
        info = client.show(wanted)
        if not info.can_answer:
            raise LLMUnavailableError(f"{wanted} cannot answer: it can only embed.", "`rag models` lists others.")
        return info
    refusal: ModelRefusedError | None = None
    for model in client.models():
        if model.remote or not model.name:
            continue  # a cloud model would send the question elsewhere, so it is used only if the user names it
        try:
            if (info := client.show(model.name)).can_answer:
                return info
        except ModelRefusedError as error:  # one broken model must not prevent the others from answering
            refusal = refusal or error
    raise refusal or LLMUnavailableError(
        f"The server at {client.address} has no model that can answer.",
        f"`rag models pull {SUGGESTED_MODEL}` downloads one.",
    )


def think_value(info: ModelInfo, wanted: str) -> bool | str | None:
    """The `think` to send for the setting `wanted`: the closest value that the model accepts, None if it cannot reason.

    A model whose reasoning cannot be turned off gets its lowest level.
    """
    levels = [value for value in info.thinking if isinstance(value, str)]
    if "thinking" not in info.capabilities and not info.thinking:
        return None
    if wanted == "off":
        return levels[0] if levels and False not in info.thinking else False
    if wanted == "on":
        return "medium" if "medium" in levels and True not in info.thinking else True
    return wanted if wanted in levels else True
