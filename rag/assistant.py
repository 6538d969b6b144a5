"""`Assistant`: the one way a question takes through the program.

    question -> Retriever.search -> answerer (extractive | Ollama) -> Verifier.verify -> Answer

Every face (command line, chat, evaluation) calls this and renders what it yields.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from time import perf_counter

from rag.answering import ABSTENTION, Answer, Broken, Delta, Draft, Event, Finished, Searched, Turn, extractive
from rag.answering.followup import carried, retrieval_query
from rag.answering.generative import OllamaAnswerer
from rag.answering.ollama import address, listening
from rag.answering.opinion import judges
from rag.answering.verify import Verifier
from rag.errors import GenerationFailed, ModelUnavailable
from rag.index.store import Index
from rag.papers import Paper
from rag.retrieval import Retriever, Search
from rag.settings import Settings

# Of the development questions, 3 of 5 follow-ups that no pronoun gives away differ by more than this, and 2 in
# 100 pairs of unrelated questions.
_CLEARLY = 0.04
WITHHELD = "The model's answer was withheld: no retrieved paper says any of it."


class Assistant:
    """Answers questions over one open index."""

    def __init__(self, index: Index, settings: Settings) -> None:
        self.index, self.settings = index, settings
        self.retriever = Retriever(index, settings)
        self.verifier = Verifier(index, self.retriever, judges(settings))
        self.writer = OllamaAnswerer(settings)  # who writes where a server answers

    @classmethod
    def open(cls, settings: Settings | None = None) -> Assistant:
        """An assistant on the index the settings name (`Settings.load()` by default).

        Raises IndexMissing, IndexUnfit or IndexDamaged.
        """
        settings = settings or Settings.load()
        return cls(Index.open(settings), settings)

    def search(self, question: str, history: Sequence[Turn] = (), k: int | None = None) -> Search:
        """Retrieval alone. Raises UsageError for an empty or oversized question.

        A question that leans on the conversation carries its terms over. Whether another one does, the corpus
        tells: it is taken for a follow-up where papers fit it clearly better together with those terms.
        """
        query = retrieval_query(question, history)
        found = self.retriever.search(question, query, k)
        if not history or query != question or (longer := carried(question, history)) == question:
            return found
        together = self.retriever.search(question, longer, k)
        return together if together.answerability > found.answerability + _CLEARLY else found

    def stream(self, question: str, history: Sequence[Turn] = ()) -> Iterator[Event]:
        """The events of one answer; the last is `Finished`. Closing the iterator stops a model's generation.

        The mode decides who answers: "ollama" insists on a model, "extractive" asks none, and "auto" quotes
        the papers where no server answers or its model breaks off. Raises what `search` raises, and
        ModelUnavailable in mode "ollama".
        """
        clock = {"start": perf_counter()}
        note = ""
        if generative := self.settings.mode != "extractive":
            where = address(self.settings)
            if self.settings.mode == "auto" and not listening(where, self.settings.connect_timeout):
                generative = False
                note = (
                    f"Quoting the papers, as no Ollama server answers at {where}. "
                    "For written answers start one (`ollama serve`); to quote without this line: --mode extractive"
                )
        if generative and history and self.settings.rewrite:
            search = self.retriever.search(question, self.writer.query(question, history))
        else:
            search = self.search(question, history)
        clock["search"] = perf_counter()
        yield Searched(search)
        answer: Answer | None = None
        if generative:
            try:
                answer, given = yield from self._generate(question, search, history)
            except ModelUnavailable as error:
                if self.settings.mode == "ollama":
                    raise
                note = f"{error} Quoting the papers instead."
                yield Broken(note, error.partial if isinstance(error, GenerationFailed) else "")
        if answer is None:
            doubt = self.verifier.doubt(search, self.settings.abstain_below)
            answer, given = extractive.answer(self.retriever, search, self.settings, doubt)
            yield Delta(answer.text)
        clock["answer"] = perf_counter()
        answer = self.verifier.verify(answer, given, strict=self.settings.strict)
        if answer.mode == "ollama" and answer.sentences and not answer.supported:
            # No paper says any of it: a guess, which is refused rather than marked.
            answer = replace(answer, text=ABSTENTION, abstained=True, sentences=(), citations=(), notes=(WITHHELD,))
        now = perf_counter()
        timings = {
            "search": (clock["search"] - clock["start"]) * 1000,
            "answer": (clock["answer"] - clock["search"]) * 1000,
            "verify": (now - clock["answer"]) * 1000,
            "total": (now - clock["start"]) * 1000,
        }
        notes = (note, *answer.notes) if note else answer.notes
        yield Finished(replace(answer, notes=notes, timings_ms=timings | answer.timings_ms))

    def ask(self, question: str, history: Sequence[Turn] = ()) -> Answer:
        """The answer to `question`, whole. Raises what `stream` raises."""
        for event in self.stream(question, history):
            if isinstance(event, Finished):
                return event.answer
        raise AssertionError("a stream ends with Finished")

    def _generate(
        self, question: str, search: Search, history: Sequence[Turn]
    ) -> Generator[Event, None, tuple[Answer, list[Paper]]]:
        with closing(self.writer.stream(question, search, history)) as events:
            for event in events:
                if not isinstance(event, Draft):
                    yield event
                    continue
                sentences = () if event.abstained else event.sentences
                answer = Answer(
                    question=search.question,
                    text=event.text,
                    abstained=event.abstained,
                    mode="ollama",
                    model=event.model,
                    sentences=sentences,
                    citations=event.citations,
                    search=search,
                    timings_ms=event.timings_ms,
                    notes=event.notes,
                )
                return answer, [hit.paper for hit in event.given]
        raise AssertionError("a model's stream ends with its draft")
