"""`Assistant`: the one path that a question takes through the program.

    question -> Retriever.search -> Answerer.stream -> Draft -> Verifier.verify -> Answer

Every front end calls this and renders what it yields.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from rag.answering.extractive import ExtractiveAnswerer
from rag.answering.protocols import Answerer
from rag.encoders.factory import query_encoder
from rag.errors import IndexMissingError, LLMError
from rag.index.store import Index
from rag.retrieval.followup import search_with_history
from rag.retrieval.hybrid import HybridRetriever
from rag.settings import Settings
from rag.types import (
    ABSTENTION,
    Answer,
    Draft,
    Event,
    FellBack,
    Finished,
    Paper,
    Progress,
    Searched,
    SearchResult,
    Turn,
)
from rag.verification.verifier import Verifier

if TYPE_CHECKING:
    from rag.encoders.protocols import TokenEncoder
    from rag.index.manifest import Manifest
    from rag.llm.client import LLMClient, ModelInfo, ModelSummary
    from rag.llm.session import LLMSession
    from rag.retrieval.protocols import Retriever
    from rag.verification.external import ExternalCheck

WITHHELD = "The model's answer was withheld: no retrieved paper supports any of it."


class Assistant:
    """Answers questions over one open index.

    Every part has a default, made from the index and the settings when it is first needed; an argument replaces it:
    `encoder`, `retriever`, `client` (the language-model server of the generative answerer and of the judges, so that
    closing it ends whatever a model is writing), `extractive` and `generative` (the answerers) and `verifier`.
    """

    def __init__(
        self,
        index: Index,
        settings: Settings | None = None,
        *,
        encoder: TokenEncoder | None = None,
        retriever: Retriever | None = None,
        client: LLMClient | None = None,
        extractive: Answerer | None = None,
        generative: Answerer | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._index = index
        parts = {
            "encoder": encoder,
            "retriever": retriever,
            "client": client,
            "extractive": extractive,
            "generative": generative,
            "verifier": verifier,
        }
        self._parts: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        _ = index.vectors  # open it now: a build may replace this version before the first search

    @classmethod
    def open(
        cls, settings: Settings | None = None, *, progress: Progress | None = None, build: bool = True, **parts: Any
    ) -> Assistant:
        """An assistant on the index that the settings name (`Settings.load()` by default).

        If there is no index yet, the packaged corpus is indexed first, unless `build` is False; `progress(done,
        total)` counts its papers. `parts` are those of the constructor. Raises IndexMissingError,
        IndexMismatchError, IndexCorruptError, and what `build_index` raises.
        """
        settings = settings or Settings.load()
        try:
            index = Index.open(settings)
        except IndexMissingError:
            if not build:
                raise
            from rag.corpus.reading import packaged_corpus, read_papers
            from rag.index.build import build_index

            build_index(read_papers([packaged_corpus()])[0], settings, progress=progress or (lambda done, total: None))
            index = Index.open(settings)
        return cls(index, settings, **parts)

    def configured(self, settings: Settings | None = None, **parts: Any) -> Assistant:
        """An assistant on the same index with other settings or parts; the encoder and the other parts stay."""
        return type(self)(self._index, settings or self.settings, **({"encoder": self.encoder} | self._parts | parts))

    # --- parts ----------------------------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> TokenEncoder:
        """The encoder of queries."""
        manifest = self._index.manifest
        return cast("TokenEncoder", self._parts.get("encoder")) or query_encoder(
            manifest.embedding_model, manifest.max_tokens, manifest.numpy_queries
        )

    @cached_property
    def retriever(self) -> Retriever:
        """The retriever."""
        replacement = cast("Retriever | None", self._parts.get("retriever"))
        return replacement or HybridRetriever(self._index, self.settings.retrieval, encoder=self.encoder)

    @cached_property
    def client(self) -> LLMClient:
        """The language-model server."""
        from rag.llm.ollama import OllamaClient

        return cast("LLMClient", self._parts.get("client")) or OllamaClient.from_settings(self.settings.llm)

    @cached_property
    def session(self) -> LLMSession:
        """The model that answers."""
        from rag.llm.session import LLMSession

        return LLMSession(self.settings.llm, self.client)

    @cached_property
    def extractive(self) -> Answerer:
        """The answerer that quotes."""
        replacement = cast("Answerer | None", self._parts.get("extractive"))
        return replacement or ExtractiveAnswerer(self.retriever, self.settings.answering)

    @cached_property
    def generative(self) -> Answerer:
        """The answerer that asks a model."""
        from rag.answering.generative import GenerativeAnswerer

        return cast("Answerer", self._parts.get("generative")) or GenerativeAnswerer(self.session)

    @cached_property
    def verifier(self) -> Verifier:
        """The verifier, with the judges that the settings name."""
        if replacement := self._parts.get("verifier"):
            return cast("Verifier", replacement)
        judges: Sequence[Any] = ()
        if self.settings.verification.nli_model or self.settings.verification.judge_model:
            from rag.verification.judges import judges_from

            judges = judges_from(self.settings, self.client)
        return Verifier(self._index, self.encoder, judges=judges)

    # --- questions ------------------------------------------------------------------------------------------

    def search(self, question: str, history: Sequence[Turn] = (), k: int | None = None) -> SearchResult:
        """Retrieval without an answer. Raises UsageError for an empty or oversized question."""
        return search_with_history(self.retriever, question, history, k)

    def ask(self, question: str, history: Sequence[Turn] = ()) -> Answer:
        """The whole answer to `question`. Raises what `stream` raises."""
        for event in self.stream(question, history):
            if isinstance(event, Finished):
                return event.answer
        raise AssertionError("a stream ends with Finished")

    def stream(self, question: str, history: Sequence[Turn] = ()) -> Iterator[Event]:
        """The events of one answer; the last is `Finished`. Closing the iterator stops a model's generation.

        In mode "generative" a model answers; in "extractive" none is asked; in "auto" rag quotes the papers if no
        server answers or its model fails. Raises what `search` raises, and LLMError in mode "generative".
        """
        started = perf_counter()
        note = self._reason_for_no_model()
        generative = self.settings.answering.mode != "extractive" and not note
        search = self._contextual_search(question, history, generative)
        searched = perf_counter()
        yield Searched(search)
        draft: Draft | None = None
        if generative:
            try:
                draft = yield from _events(self.generative, search, history)
            except LLMError as error:
                if self.settings.answering.mode == "generative":
                    raise
                note = f"{error} Quoting the papers instead."
                yield FellBack(note, error.partial)
        if draft is None:
            draft = yield from _events(self.extractive, search, history)
        drafted = perf_counter()
        answer = _withhold_unsupported(self.verify(draft, strict=self.settings.verification.strict))
        verified = perf_counter()
        timings = {
            "search": (searched - started) * 1000,
            "answer": (drafted - searched) * 1000,
            "verify": (verified - drafted) * 1000,
            "total": (verified - started) * 1000,
        }
        notes = (note, *answer.notes) if note else answer.notes
        yield Finished(replace(answer, notes=notes, timings_ms={**timings, **answer.timings_ms}))

    def verify(self, draft: Draft, *, repair: bool = True, strict: bool = False) -> Answer:
        """`draft` with a verdict and evidence for every sentence; see `Verifier.verify`."""
        return self.verifier.verify(draft, repair=repair, strict=strict)

    def verify_text(self, text: str) -> ExternalCheck:
        """The verdicts on any text that cites papers of the corpus. Raises UsageError if there is nothing to check."""
        from rag.verification.external import verify_text

        return verify_text(text, self._index, self.retriever, self.verifier)

    # --- papers and models ------------------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """How the index was built."""
        return self._index.manifest

    @property
    def index_size(self) -> int:
        """Number of papers in the index."""
        return len(self._index)

    def papers(self) -> list[Paper]:
        """All papers, in the order of the corpus."""
        return self._index.papers()

    def find(self, paper_ids: Iterable[str]) -> list[Paper]:
        """The papers with these ids; unknown ids are left out."""
        return [record.paper for record in self._index.find(list(dict.fromkeys(paper_ids)))]

    def similar(self, paper: Paper, n: int = 5) -> list[tuple[Paper, float]]:
        """The `n` papers most similar to `paper`, with their cosines, best first."""
        return self.retriever.similar(paper, n)

    def models(self) -> tuple[ModelSummary, ...]:
        """The models of the language-model server, the latest first. Raises LLMUnavailableError."""
        return self.client.models()

    def model_info(self, name: str = "") -> ModelInfo:
        """The model `name`, or the one that answers. Raises LLMUnavailableError if it cannot answer."""
        from rag.llm.session import choose_model

        return choose_model(self.client, name or self.settings.llm.model)

    # --- the steps of a question --------------------------------------------------------------------------------

    def _reason_for_no_model(self) -> str:
        """Why mode "auto" quotes the papers: no server answers; empty if one does, or in another mode."""
        if self.settings.answering.mode != "auto" or self.client.is_listening(self.settings.llm.connect_timeout):
            return ""
        return (
            f"Quoting the papers: no Ollama server answers at {self.client.address}. "
            "Start one for written answers (`ollama serve`); --mode extractive omits this note."
        )

    def _contextual_search(self, question: str, history: Sequence[Turn], generative: bool) -> SearchResult:
        if not generative:
            return self.search(question, history)
        self.client.preload()
        if history and self.settings.answering.rewrite:
            from rag.answering.rewriting import rewrite_question

            return self.retriever.search(question, query=rewrite_question(self.session, question, history))
        return self.search(question, history)


def _events(answerer: Answerer, search: SearchResult, history: Sequence[Turn]) -> Generator[Event, None, Draft]:
    """Yield the answerer's events and return its draft."""
    with closing(answerer.stream(search, history)) as events:
        for event in events:
            if isinstance(event, Draft):
                return event
            yield event
    raise AssertionError("an answerer's stream ends with its draft")


def _withhold_unsupported(answer: Answer) -> Answer:
    """`answer`, or an abstention if a model wrote it and no paper supports any of it: then it is a guess."""
    if answer.mode != "generative" or not answer.sentences or answer.supported:
        return answer
    return replace(answer, text=ABSTENTION, abstained=True, sentences=(), citations=(), notes=(WITHHELD,))
