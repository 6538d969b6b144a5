"""The log of an evaluation: what was asked, what was answered, and every figure computed from it.

`EvalLog` is report.json, `Scores` is baseline.json. docs/eval-log.md is generated from these types by
`python -m eval.log_docs`. A log of schema 1 is converted when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from eval.log_schema1 import from_schema_1
from rag.corpus.reading import read_text
from rag.errors import RagError, UsageError
from rag.types import Citation, Grounding, Turn, VerdictLabel

SCHEMA = 2
DIGITS = 4  # decimals of every figure in the log

Figure = Annotated[float, AfterValidator(lambda value: round(value, DIGITS))]
Milliseconds = Annotated[float, AfterValidator(lambda value: round(value, 1))]


class Record(BaseModel):
    """A frozen part of the log; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


# --- figures ------------------------------------------------------------------------------------------


class Estimate(Record):
    """A figure over `n` questions with its 95% interval, all null if n is 0."""

    value: Figure | None = Field(default=None, description="The figure.")
    low: Figure | None = Field(default=None, description="Lower end of the interval.")
    high: Figure | None = Field(default=None, description="Upper end of the interval.")
    n: int = Field(default=0, description="Questions that the figure applies to.")


class Latency(Record):
    """How long an answer takes, in milliseconds."""

    p50: Milliseconds | None = Field(description="The median.")
    p95: Milliseconds | None = Field(description="The 95th percentile.")


class RiskCoverage(Record):
    """The risk-coverage curve: point i is about the i most confident answers."""

    coverage: tuple[Figure, ...] = Field(description="Share of all questions.")
    risk: tuple[Figure, ...] = Field(description="Mean loss among them.")


class JudgeAgreement(Record):
    """What a judge model says about the claims of a run, beside the verifier. It never gates."""

    model: str = Field(description="Name of the judge model.")
    agreement: Estimate = Field(description="Share of claims on which both agree whether the papers support them.")
    kappa: Estimate = Field(description="Cohen's kappa of the two.")
    verifier_supported: Estimate = Field(description="Share of claims that the verifier calls supported.")
    judge_supported: Estimate = Field(description="Share of claims that the judge calls supported.")


# --- one question -------------------------------------------------------------------------------------


class EvidenceSpan(Record):
    """Where the evidence of a sentence is. Offsets are characters of the abstract."""

    paper_id: str = Field(description="The paper.")
    start: int = Field(description="First character.")
    end: int = Field(description="Character after the last one.")


class LoggedSentence(Record):
    """One sentence of an answer with its verdict."""

    text: str = Field(description="The sentence without its citations.")
    citations: tuple[int, ...] = Field(description="The numbers that it cites.")
    verdict: VerdictLabel | None = Field(description="The verdict.")
    support: Figure | None = Field(description="Support score in [0, 1]; null if the sentence is not a claim.")
    reason: str = Field(description="Why the verdict is not better, for a reader.")
    evidence: EvidenceSpan | None = Field(description="The span that supports the sentence most.")
    repaired_from: tuple[int, ...] | None = Field(description="Its citations before they were corrected.")
    judge: str | None = Field(default=None, description="The label of the judge model, with `--judge`.")


class LoggedHit(Record):
    """One retrieved paper."""

    paper_id: str = Field(description="The paper.")
    score: Figure = Field(description="Its retrieval score in [0, 1].")


class LoggedAnswer(Record):
    """An answer as the assistant gave it."""

    text: str = Field(description="The text with its citations.")
    abstained: bool = Field(description="Whether the assistant abstained.")
    query: str = Field(description="What was searched for.")
    sentences: tuple[LoggedSentence, ...] = Field(description="The sentences.")
    citations: tuple[Citation, ...] = Field(description="The cited papers with their evidence.")
    context: tuple[str, ...] = Field(description="Ids of the papers that the answer was written from: [n] is the n-th.")
    hits: tuple[LoggedHit, ...] = Field(description="The retrieved papers, best first.")
    grounding: Grounding | None = Field(description="What the verifier counted; null if it abstained.")
    latency_ms: Milliseconds | None = Field(description="Time to the verified answer in milliseconds.")


class SampleScores(Record):
    """The figures of one question."""

    id: str = Field(description="Id of the question.")
    good: bool = Field(default=False, description="Whether its accuracy is 1, without failures or an error.")
    confidence: float = Field(default=0.0, description="The highest abstention threshold at which it is answered.")
    loss: float = Field(default=1.0, description="1 if the answer is wrong, or would be if it were given; else 0.")
    metrics: dict[str, Figure] = Field(default={}, description="Name to value; metrics that do not apply are left out.")


class EvalSample(SampleScores):
    """One question, its answer and its scores."""

    question: str = Field(description="The question.")
    history: tuple[Turn, ...] = Field(description="Earlier turns of the conversation.")
    type: str = Field(description="Type of the question.")
    split: str = Field(description="dev or test.")
    answerable: bool = Field(description="Whether the corpus answers it.")
    gold: tuple[str, ...] = Field(description="Titles of the papers that a right answer draws on.")
    acceptable: tuple[str, ...] = Field(description="Titles of papers that may be cited as well.")
    key_facts: tuple[str, ...] = Field(description="Phrases that a right answer contains.")
    answer: LoggedAnswer | None = Field(default=None, description="The answer; null if the question ended in an error.")
    ranking: tuple[str, ...] = Field(default=(), description="Ids of the ten best papers.")
    forced_loss: float | None = Field(
        default=None, description="Loss of the answer given with abstention switched off; null if it was not asked for."
    )
    leave_one_out: float | None = Field(
        default=None, description="Leave-one-out attribution as measured; null if it was not."
    )
    facts_found: tuple[bool, ...] = Field(default=(), description="For each key fact, whether the answer holds it.")
    failures: tuple[str, ...] = Field(default=(), description="Hard failures of the answer.")
    error: str | None = Field(default=None, description="The error that the question ended in.")


class Incident(Record):
    """A hard failure or an error."""

    id: str = Field(description="Id of the question.")
    message: str = Field(description="What happened.")


# --- runs, gates, comparisons ---------------------------------------------------------------------------


class RunScores(Record):
    """The figures of one run."""

    name: str = Field(description="`extractive`, or the model.")
    mode: Literal["extractive", "generative"] = Field(description="Who answered.")
    model: str | None = Field(default=None, description="The model, as the server names it.")
    metrics: dict[str, Estimate] = Field(description="Every metric.")
    samples: tuple[SampleScores, ...] = Field(description="The questions.")


class EvalRun(RunScores):
    """One run: every question asked of one assistant."""

    settings: dict[str, JsonValue] = Field(description="The settings by name.")
    by_type: dict[str, dict[str, Estimate]] = Field(description="The metrics for each type of question.")
    by_split: dict[str, dict[str, Estimate]] = Field(description="The metrics for dev and test.")
    latency_ms: Latency = Field(description="Latency over the questions.")
    risk_coverage: RiskCoverage = Field(description="The risk-coverage curve.")
    groundedness_corrected: Figure | None = Field(
        default=None, description="Groundedness corrected for the verifier's error rates in gates.toml."
    )
    hard_failures: tuple[Incident, ...] = Field(default=(), description="Every hard failure.")
    errors: tuple[Incident, ...] = Field(default=(), description="Every question that ended in an error.")
    judge: JudgeAgreement | None = Field(default=None, description="The judge model, with `--judge`.")
    samples: tuple[EvalSample, ...] = Field(description="The questions with their answers.")


class PerturbationResult(Record):
    """One kind of damage, the gate that it must breach, and how much of it the verifier caught."""

    name: str = Field(description="The damage; `nothing` counts the false alarms on untouched answers.")
    gate: str = Field(description="The metric or the check whose gate must be breached.")
    tripped: bool = Field(description="Whether that gate was breached (`nothing`: false alarms are within bounds).")
    caught: Estimate | None = Field(description="Share of damaged sentences that the verifier objects to.")
    expected: float | None = Field(description="The least share that it must object to.")
    passed: bool = Field(description="Whether the gate was breached and enough was caught.")


class GateDecision(Record):
    """One decision about one run."""

    run: str = Field(description="Name of the run, or `perturbation`.")
    name: str = Field(description="The gate.")
    passed: bool = Field(description="Whether the run passes it.")
    detail: str = Field(description="The figures behind the decision.")

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'BREACH':6} {self.run}: {self.name}: {self.detail}"


class MetricChange(Record):
    """How one metric changed over the questions that both runs have."""

    before: Figure | None = Field(description="The metric in the earlier run.")
    after: Figure | None = Field(description="The metric in the later run.")
    value: Figure | None = Field(description="Mean of the paired differences.")
    low: Figure | None = Field(description="Lower end of its interval.")
    high: Figure | None = Field(description="Upper end of its interval.")
    n: int = Field(description="Questions that the difference is over.")
    significant: bool = Field(description="Whether the interval excludes zero.")


class Comparison(Record):
    """Two runs side by side. The lists hold ids of questions."""

    metrics: dict[str, MetricChange] = Field(description="Every metric that both runs have.")
    turned_bad: tuple[str, ...] = Field(description="Good before, not good after.")
    turned_good: tuple[str, ...] = Field(description="Good after, not good before.")
    only_before: tuple[str, ...] = Field(description="Asked in the earlier run only.")
    only_after: tuple[str, ...] = Field(description="Asked in the later run only.")


# --- files --------------------------------------------------------------------------------------------


class CorpusInfo(Record):
    """The corpus that was searched."""

    papers: int = Field(description="Number of papers.")
    sha256: str = Field(description="Hash of the corpus, from the index manifest.")


class QuestionSet(Record):
    """The questions, and how many of them were asked."""

    total: int = Field(description="Questions in the set.")
    asked: int = Field(description="Questions asked.")
    sha256: str = Field(description="Hash of the whole set.")


class LoggedPaper(Record):
    """A paper that the log mentions."""

    title: str = Field(description="Its title.")
    abstract: str = Field(description="Its abstract.")


class Scores(Record):
    """The part of a log that a later run is compared with: baseline.json."""

    schema_version: Literal[2] = Field(default=2, alias="schema", description="Version of this format.")
    version: str = Field(description="Version of rag.")
    corpus: CorpusInfo = Field(description="The corpus.")
    questions: QuestionSet = Field(description="The questions.")
    runs: tuple[RunScores, ...] = Field(description="The runs.")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The log in `text`, of schema 2 or 1. Raises ValueError (of which ValidationError is one)."""
        return cls.model_validate(_current(json.loads(text)))

    def to_json(self) -> str:
        """The log as JSON; every sample starts on a new line, so that diffs stay readable."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), ensure_ascii=False, separators=(",", ":"))
        return text.replace('{"id":', '\n{"id":') + "\n"


class EvalLog(Scores):
    """An evaluation: report.json."""

    created: str = Field(description="When it was written: ISO 8601, UTC.")
    runs: tuple[EvalRun, ...] = Field(description="The runs.")
    perturbations: tuple[PerturbationResult, ...] = Field(default=(), description="The proof that the gates can fail.")
    papers: dict[str, LoggedPaper] = Field(description="Every paper that the log mentions, by id.")
    gates: tuple[GateDecision, ...] = Field(default=(), description="The decisions.")
    comparison: dict[str, Comparison] = Field(default={}, description="Each run against the baseline.")

    def to_json(self) -> str:
        """The log as indented JSON."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), ensure_ascii=False, indent=1) + "\n"

    @property
    def error_count(self) -> int:
        """Questions that ended in an error, over all runs."""
        return sum(len(run.errors) for run in self.runs)

    @property
    def is_complete(self) -> bool:
        """Whether every question of the set was asked."""
        return self.questions.asked == self.questions.total

    def breaches(self) -> Iterator[GateDecision]:
        """The gates that did not pass."""
        return (gate for gate in self.gates if not gate.passed)

    def scores(self) -> Scores:
        """The part that a later run is compared with: the figures of each question, without answers."""
        runs = tuple(
            RunScores(
                name=run.name,
                mode=run.mode,
                model=run.model,
                metrics=run.metrics,
                samples=tuple(_scores_of(sample) for sample in run.samples),
            )
            for run in self.runs
        )
        return Scores(version=self.version, corpus=self.corpus, questions=self.questions, runs=runs)


def _scores_of(sample: EvalSample) -> SampleScores:
    return SampleScores(
        id=sample.id,
        good=sample.good,
        confidence=round(sample.confidence, DIGITS),
        loss=sample.loss,
        metrics=sample.metrics,
    )


def read_log(path: Path) -> EvalLog:
    """The report.json at `path`. Raises UsageError if it is not one."""
    return _validated(EvalLog, path, _load(path), "Give a report.json that `rag eval run` wrote.")


def read_scores(path: Path) -> Scores:
    """The baseline or report.json at `path`. Raises UsageError if it is neither."""
    data = _load(path)
    kind = EvalLog if isinstance(data, dict) and "created" in data else Scores
    return _validated(kind, path, data, "Give a report.json or a baseline.json.")


_Log = TypeVar("_Log", bound=Scores)


def _validated(kind: type[_Log], path: Path, data: Any, hint: str) -> _Log:
    try:
        return kind.model_validate(_current(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path} is not a log of `rag eval run`: {field}: {first['msg']}.", hint) from None
    except ValueError as error:
        raise UsageError(f"{path} is not a log of `rag eval run`: {error}.", hint) from None


def _load(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (RagError, ValueError) as error:
        message = error.message.removesuffix(".") if isinstance(error, RagError) else f"{path} is not JSON: {error}"
        raise UsageError(f"{message}.", "Give a report.json that `rag eval run` wrote.") from None


def _current(data: Any) -> Any:
    """`data` in the current schema. Raises ValueError if it is of a schema that cannot be read."""
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError("it has no schema version")
    # "sabotage" is what "perturbations" was called before version 2.
    data = {"perturbations" if name == "sabotage" else name: value for name, value in data.items()}
    if data["schema"] == 1:
        return from_schema_1(data)
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is {data['schema']!r}; this version reads 1 and {SCHEMA}")
    return data
