"""The parts of the evaluation: questions, metrics, gates, comparison, judges, labelled data, collections."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import beir, comparison, gates, metrics, questions
from eval import grounding as labelled
from eval.gates import Gates, ModeGates
from eval.judge import add_judge
from eval.log import (
    EvalRun,
    EvalSample,
    Latency,
    LoggedAnswer,
    LoggedPaper,
    LoggedSentence,
    RiskCoverage,
    RunScores,
    SampleScores,
)
from eval.questions import Question, lint, title_share
from eval.substitutes import CachingEncoder, ExcludingRetriever, WorstFirstRetriever
from rag.assistant import Assistant
from rag.errors import CorpusError, UsageError
from rag.settings import Settings
from rag.types import Citation, Paper
from rag.verification.judges import Entailment

# --- questions -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def question_set() -> list[Question]:
    return questions.read()


def test_the_questions_have_no_problems(question_set: list[Question], corpus: list[Paper]) -> None:
    assert lint(question_set, corpus) == []


def test_there_are_enough_questions_of_every_type(question_set: list[Question]) -> None:
    kinds = Counter(q.type for q in question_set)
    assert len(question_set) >= 200
    assert set(kinds) == set(questions.TYPES)
    unanswerable = [n for kind, n in kinds.items() if kind.startswith("unanswerable_")]
    assert len(unanswerable) == 3 and sum(unanswerable) >= 50 and min(unanswerable) >= 10
    assert 0.4 < sum(q.split == "dev" for q in question_set) / len(question_set) < 0.6


def test_no_question_copies_a_title(question_set: list[Question]) -> None:
    assert max(title_share(q) for q in question_set) < 0.30


def sound(**changes: Any) -> Question:
    return replace(
        Question(
            id="q",
            question="How fast does it learn?",
            type="fact",
            answerable=True,
            gold=("Swift Nets",),
            key_facts=("two days",),
        ),
        **changes,
    )


PAPERS = [
    Paper(paper_id="a", title="Swift Nets", abstract="They learn in two days."),
    Paper(paper_id="b", title="Slow Nets", abstract="They learn in two years."),
]


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (sound(gold=("Nets",)), "no paper is called 'Nets'"),
        (sound(acceptable=("Nets",)), "no paper is called 'Nets'"),
        (sound(key_facts=("two years",)), "is in no gold abstract"),
        (sound(key_facts=()), "needs gold papers and key facts"),
        (sound(answerable=False), "answerable is False"),
        (sound(type="riddle"), "unknown type"),
        (sound(question="  ?! "), "the question is empty"),
        (sound(acceptable=("Swift Nets",)), "gold and acceptable at once"),
        (sound(gold=("Swift Nets", "Swift Nets")), "named twice"),
        (sound(type="compare"), "1 gold papers for a compare question"),
        (sound(type="followup"), "has a history"),
        (sound(question="How swift are swift nets?"), "content stems are in a gold title"),
        (sound(type="unanswerable_absent", answerable=False), "has neither gold papers nor key facts"),
    ],
)
def test_lint_reports_every_problem(question: Question, problem: str) -> None:
    assert any(problem in line for line in lint([question], PAPERS))


def test_lint_reports_repeats_and_missing_types() -> None:
    problems = lint([sound(), sound(id="r", question="How fast does it learn")], PAPERS)
    assert "q: nearly the same question as r" in problems
    assert any("at least 200 are needed" in line for line in problems)
    assert "q: 2 questions have this id" in lint([sound(), sound(question="Another one")], PAPERS)


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "x"}', json.dumps(asdict(sound()) | {"surprise": 1})])
def test_a_line_that_is_not_a_question_is_reported_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(UsageError, match=r"a\.jsonl:2: not a question"):
        questions.read(tmp_path)


# --- metrics ---------------------------------------------------------------------------------------------


def test_retrieval_metrics_by_hand() -> None:
    qrels = {"q": {"a": 1, "b": 1}, "none": {"c": 1}}
    values = metrics.retrieval(qrels, {"q": ["x", "a", "y", "b"]})
    ideal = 1 + 1 / math.log2(3)
    assert values["nDCG@10"]["q"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert (values["recall@5"]["q"], values["MRR@10"]["q"], values["hit@1"]["q"]) == (1.0, 0.5, 0.0)
    assert {values[name]["none"] for name in values} == {0.0}


def test_acceptable_papers_are_neither_right_nor_wrong() -> None:
    assert metrics.condensed(["x", "a", "b"], {"x"}) == ["a", "b"]


@pytest.mark.parametrize(
    ("answer", "fact", "holds"),
    [
        ("It was trained on 4,523,000 pairs.", "4523000 pair", True),
        ("It reached $87\\%$ accuracy.", "87%", True),
        ("It reached 187% of that.", "87%", False),
        ("FINE-TUNING helps small models", "fine-tuning", True),
        ("Fine is the tuning", "fine-tuning", False),
        ("naïve methods fail", "naive method", True),
    ],
)
def test_key_facts(answer: str, fact: str, holds: bool) -> None:
    assert metrics.holds_fact(answer, fact) is holds


def test_intervals_of_means_have_the_right_coverage() -> None:
    assert metrics.mean([]).n == 0 and metrics.mean([None]).value is None
    few, many = metrics.mean([0.0, 1.0] * 5), metrics.mean([0.0, 1.0] * 500)
    for e in (few, many):
        assert e.low is not None and e.high is not None and e.low < 0.5 < e.high
    assert few.high - few.low > 5 * (many.high - many.low)  # type: ignore[operator]
    assert metrics.mean([0.0, 1.0, None] * 5) == metrics.mean([0.0, 1.0] * 5) == few  # a fixed seed, None left out
    # Nearly all 95% intervals of a fair coin tossed 40 times contain one half.
    rng = np.random.default_rng(1)
    contained = [
        e.low <= 0.5 <= e.high  # type: ignore[operator]
        for e in (metrics.mean(rng.integers(0, 2, 40).astype(float).tolist()) for _ in range(100))
    ]
    assert sum(contained) >= 88


def test_a_small_paired_difference_is_detected() -> None:
    rng = np.random.default_rng(0)
    before = {str(i): float(v) for i, v in enumerate(rng.random(200))}
    after = {i: v + 0.01 for i, v in before.items()}
    d = metrics.paired_difference(before, after)
    assert d.value == pytest.approx(0.01) and d.low is not None and d.low > 0
    assert metrics.paired_difference(before, {"elsewhere": 1.0}).n == 0


def test_risk_and_coverage() -> None:
    coverage, risk = metrics.risk_coverage([0.9, 0.5, 0.1], [0, 0, 1])
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1]) and risk == pytest.approx([0, 0, 1 / 3])
    assert metrics.aurc([0.9, 0.5, 0.1], [0, 0, 1]) == pytest.approx(1 / 9)
    assert metrics.risk_coverage([0.5, 0.5], [1, 0])[1] == metrics.risk_coverage([0.5, 0.5], [0, 1])[1] == [0.5, 0.5]
    assert metrics.aurc([], []) is None


def test_groundedness_is_corrected_for_false_alarms_and_misses() -> None:
    assert metrics.corrected_rate(0.90, 0.10, 0.25) == 1.0  # a perfect system
    assert metrics.corrected_rate(0.25, 0.10, 0.25) == 0.0  # a system whose claims are all false
    assert metrics.corrected_rate(0.5, 0.5, 0.5) == 0.5  # error rates of a coin: no correction is possible


# --- gates and comparison --------------------------------------------------------------------------------

RULES = Gates(
    drop=0.03,
    extractive=ModeGates(
        at_least={"recall@5": 0.8}, at_most={"false_answer_rate": 0.5}, no_worse=("accuracy", "false_refusal_rate")
    ),
)


def run_of(values: dict[str, list[float]], name: str = "extractive") -> RunScores:
    """A run whose question i has the i-th value of every metric."""
    n = max(map(len, values.values()))
    samples = tuple(
        SampleScores(
            id=f"q{i}",
            good=values.get("accuracy", [1.0] * n)[i] == 1,
            confidence=1.0,
            loss=0.0,
            metrics={name: v[i] for name, v in values.items()},
        )
        for i in range(n)
    )
    means = {m: metrics.mean(values.get(m, [])) for m in metrics.METRICS}
    return RunScores(name=name, mode="extractive", metrics=means, samples=samples)


def good(n: int = 100) -> dict[str, list[float]]:
    return {
        "recall@5": [0.9] * n,
        "false_answer_rate": [0.1] * n,
        "accuracy": [1.0] * n,
        "false_refusal_rate": [0.0] * n,
    }


def breaches(run: RunScores, before: RunScores | None = None, failures: tuple[tuple[str, str], ...] = ()) -> list[str]:
    return [gate.name for gate in gates.check(run, RULES, before, failures) if not gate.passed]


def test_a_good_run_passes() -> None:
    assert breaches(run_of(good()), run_of(good())) == []


@pytest.mark.parametrize(
    ("metric", "value", "name"),
    [
        ("recall@5", 0.5, "Recall@5 at least 0.8"),
        ("false_answer_rate", 0.9, "False answers at most 0.5"),
        ("accuracy", 0.0, "Accuracy no worse than the baseline"),
        ("false_refusal_rate", 1.0, "False refusals no worse than the baseline"),
    ],
)
def test_each_bound_can_be_breached(metric: str, value: float, name: str) -> None:
    assert breaches(run_of(good() | {metric: [value] * 100}), run_of(good())) == [name]


def test_hard_failures_and_missing_figures_always_breach() -> None:
    assert breaches(run_of(good()), failures=(("q1", "empty answer"),)) == ["no hard failure"]
    assert breaches(run_of({k: v for k, v in good().items() if k != "recall@5"})) == ["Recall@5 at least 0.8"]


def test_a_regression_needs_size_and_significance() -> None:
    before = run_of(good(400))
    small = run_of(good(400) | {"accuracy": [0.0] * 8 + [1.0] * 392})  # 2 points, significant
    assert comparison.compare(before, small).metrics["accuracy"].significant
    assert breaches(small, before) == []
    few = run_of(good(10) | {"accuracy": [0.0] + [1.0] * 9})  # 10 points, not significant
    assert not comparison.compare(run_of(good(10)), few).metrics["accuracy"].significant
    assert breaches(few, run_of(good(10))) == []
    both = run_of(good(400) | {"accuracy": [0.0] * 20 + [1.0] * 380})
    assert breaches(both, before) == ["Accuracy no worse than the baseline"]


def test_a_comparison_names_the_questions_that_turned() -> None:
    before, after = run_of({"accuracy": [1.0, 1.0, 0.0]}), run_of({"accuracy": [1.0, 0.0, 1.0, 1.0]})
    change = comparison.compare(before, after)
    assert (change.turned_bad, change.turned_good, change.only_after) == (("q1",), ("q2",), ("q3",))


def test_shipped_gates_are_valid_and_allow_for_errors_of_the_verifier() -> None:
    rules, notes = gates.read_gates()
    floors = [table.at_least["groundedness"] for table in (rules.extractive, rules.generative)]
    assert max(floors) <= 0.80 and rules.drop == 0.03 and notes == []


def test_the_old_name_of_the_generative_gates_is_read_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text("drop = 0.03\n[ollama.at_least]\naccuracy = 0.5")
    rules, (note,) = gates.read_gates(tmp_path / "gates.toml")
    assert rules.generative.at_least == {"accuracy": 0.5} and "use [generative]" in note


@pytest.mark.parametrize(
    "text",
    [
        "drop = [",
        "",
        "drop = 0.03\n[extractive.at_least]\nhapiness = 1",
        "drop = 0.03\n[extractive]\nfloors = 1",
        "drop = 0.03\n[human]",
        "drop = 0.03\n[extractive.at_least]\ngroundedness = 0.9",
    ],
)
def test_invalid_gates_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(UsageError):
        gates.read_gates(tmp_path / "gates.toml")


# --- judges ----------------------------------------------------------------------------------------------


class Verbatim:
    """A judge that supports a sentence only if the text contains it."""

    name = "verbatim"

    def __call__(self, sentence: str, text: str) -> Entailment:
        return Entailment(label="supported" if sentence in text else "not_stated")


def sample_of(sentences: tuple[LoggedSentence, ...] | None) -> EvalSample:
    answer = sentences and LoggedAnswer(
        text="",
        abstained=False,
        query="",
        sentences=sentences,
        citations=(Citation(n=1, paper_id="p", title="Birds"),),
        context=("p",),
        hits=(),
        grounding=None,
        latency_ms=None,
    )
    return EvalSample(
        id="q",
        question="",
        history=(),
        type="fact",
        split="dev",
        answerable=True,
        gold=(),
        acceptable=(),
        key_facts=(),
        answer=answer or None,
    )


def test_a_judge_is_reported_beside_the_verdicts() -> None:
    def sentence(text: str, verdict: Any, support: float | None = 0.9) -> LoggedSentence:
        return LoggedSentence(
            text=text, citations=(1,), verdict=verdict, support=support, reason="", evidence=None, repaired_from=None
        )

    sentences = (
        sentence("It flies.", "supported"),
        sentence("It swims.", "supported"),
        sentence("It sinks.", "partial"),
        sentence("In short:", "not_a_claim", None),
    )
    run = EvalRun(
        name="extractive",
        mode="extractive",
        metrics={},
        settings={},
        by_type={},
        by_split={},
        latency_ms=Latency(p50=None, p95=None),
        risk_coverage=RiskCoverage(coverage=(), risk=()),
        samples=(sample_of(sentences), sample_of(None)),
    )
    judged = add_judge(run, {"p": LoggedPaper(title="Birds", abstract="It flies. It eats.")}, Verbatim())
    assert judged.samples[0].answer and judged.judge
    labels = [s.judge for s in judged.samples[0].answer.sentences]
    assert labels == ["supported", "not_stated", "not_stated", None]
    assert judged.judge.model == "verbatim" and judged.judge.agreement.n == 3
    assert judged.judge.agreement.value == pytest.approx(2 / 3, abs=1e-4)
    assert judged.judge.kappa.value == pytest.approx(0.4, abs=1e-4)


# --- substitutes -----------------------------------------------------------------------------------------


def test_a_caching_encoder_encodes_a_text_once(assistant: Assistant) -> None:
    encoded: list[str] = []

    class Counting:
        encode_tokens = assistant.encoder.encode_tokens
        encode_with_tokens = assistant.encoder.encode_with_tokens
        is_vocabulary_word = assistant.encoder.is_vocabulary_word

        def encode(self, text: str) -> Any:
            encoded.append(text)
            return assistant.encoder.encode(text)

    encoder = CachingEncoder(Counting())
    first, again = encoder.encode("a question"), encoder.encode("a question")
    assert first is again and encoded == ["a question"]
    assert np.array_equal(first, assistant.encoder.encode("a question"))


def test_retrievers_leave_a_paper_out_and_rank_the_worst_first(assistant: Assistant) -> None:
    question = "What mitigates forgetting in continual learning?"
    hits = assistant.retriever.search(question, k=6).hits
    others = ExcludingRetriever(assistant.retriever, hits[1].paper.paper_id).search(question, k=5).hits
    assert [hit.paper for hit in others] == [hit.paper for hit in (hits[0], *hits[2:])]
    assert [hit.rank for hit in others] == [1, 2, 3, 4, 5]
    unaffected = ExcludingRetriever(assistant.retriever, hits[5].paper.paper_id).search(question, k=5)
    assert unaffected.hits == hits[:5]
    worst = WorstFirstRetriever(assistant.retriever, depth=6).search(question, k=2).hits
    assert [hit.paper for hit in worst] == [hits[5].paper, hits[4].paper] and worst[0].rank == 1


# --- human labels ----------------------------------------------------------------------------------------

RAGTRUTH = {
    "question": "How long do whales sleep?",
    "passages": "passage 1:Sperm whales sleep for about ten minutes at a time near the surface.\n\n"
    "passage 2:Whales are mammals that breathe air through a blowhole.\n\n",
}
TRUE_CLAIM = "Sperm whales sleep about ten minutes at a time near the surface."
FALSE_CLAIM = "Their favourite composers include Ludwig van Beethoven and Joseph Haydn."


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_labelled_responses_are_scored(tmp_path: Path, assistant: Assistant) -> None:
    partly_false = RAGTRUTH | {
        "response": f"{TRUE_CLAIM} {FALSE_CLAIM}",
        "unsupported": [{"start": len(TRUE_CLAIM) + 1, "end": len(TRUE_CLAIM) + 30}],
    }
    file = write(
        tmp_path / "r.jsonl",
        RAGTRUTH | {"response": TRUE_CLAIM, "unsupported": []},
        partly_false,
        RAGTRUTH | {"response": "I am unable to answer.", "unsupported": []},
        RAGTRUTH | {"response": "", "unsupported": []},
    )
    verifier = labelled.labelled_verifier(assistant)
    scored = [labelled.score(item, verifier) for item in labelled.read(file)]
    assert [s.is_wrong for s in scored] == [False, True, False, False]
    assert [s.flagged for s in scored] == [False, True, False, False]
    assert [[wrong for _, wrong, _ in s.sentences] for s in scored] == [[False], [False, True], [], []]
    report = labelled.as_json("r", scored, labelled.summarise(scored))
    for level in ("response", "sentence"):
        assert all(isinstance(report[level][name], float) for name in ("auroc", "balanced_accuracy", "f1"))
        assert report[level]["auroc"] == 1.0 and report[level]["f1"] == 1.0
    assert json.loads(json.dumps(report))["response"]["n"] == 4


def test_labelled_claims_are_scored(tmp_path: Path, assistant: Assistant) -> None:
    paper = {"title": "Whale sleep", "abstract": "Sperm whales sleep for about ten minutes at a time near the surface."}
    file = write(
        tmp_path / "s.jsonl",
        paper | {"claim": TRUE_CLAIM, "label": "SUPPORT"},
        paper | {"claim": FALSE_CLAIM, "label": "NOT_ENOUGH_INFO"},
        paper | {"claim": "Sperm whales never sleep near the surface.", "label": "CONTRADICT"},
    )
    verifier = labelled.labelled_verifier(assistant)
    scored = [labelled.score(item, verifier) for item in labelled.read(file)]
    assert [s.is_wrong for s in scored] == [False, True, True]
    assert [s.flagged for s in scored][:2] == [False, True]
    assert len({s.source for s in scored}) == 1  # claims about one abstract are one cluster


def test_auroc_needs_both_classes(tmp_path: Path, assistant: Assistant) -> None:
    file = write(tmp_path / "one.jsonl", RAGTRUTH | {"response": TRUE_CLAIM, "unsupported": []})
    scored = [labelled.score(item, labelled.labelled_verifier(assistant)) for item in labelled.read(file)]
    assert labelled.as_json("one", scored, labelled.summarise(scored))["response"]["auroc"] is None


@pytest.mark.parametrize("line", ["{}", "[1]", "nonsense", '{"claim": "x"}'])
def test_a_line_in_neither_format_is_reported_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(UsageError, match=r"x\.jsonl:1"):
        labelled.read(tmp_path / "x.jsonl")


# --- retrieval collections -------------------------------------------------------------------------------


def collection(folder: Path, qrels: str) -> Path:
    texts = {
        "d1": "Grape vines are pruned in winter while they are dormant.",
        "d2": "Steel bridges are painted every ten years to keep rust away.",
        "d3": "Bees navigate by the sun and remember landmarks near the hive.",
    }
    write(folder / "corpus.jsonl", *({"_id": i, "title": "", "text": text} for i, text in texts.items()))
    queries = {"1": "When are vines pruned?", "2": "rust on bridges", "3": "a query without a relevant document"}
    write(folder / "queries.jsonl", *({"_id": i, "text": text} for i, text in queries.items()))
    (folder / "qrels.tsv").write_text(qrels)
    return folder


@pytest.mark.slow
def test_a_collection_is_indexed_and_scored(tmp_path: Path) -> None:
    qrels = "query-id\tcorpus-id\tscore\n1\td1\t1\n2\td2\t2\n2\td3\t0\n"
    result = beir.evaluate(beir.read(collection(tmp_path, qrels)), Settings.of(index_dir="/nowhere"))
    report = result.as_json()
    assert report["documents"] == 3 and report["n"] == 2
    assert {report[name] for name in ("nDCG@10", "recall@5", "recall@10", "recall@100", "MRR@10", "hit@1")} == {1.0}
    assert report["intervals"]["nDCG@10"] == [1.0, 1.0]


def test_an_invalid_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="There is no folder"):
        beir.read(tmp_path / "missing")
    with pytest.raises(CorpusError, match="relevant document"):
        beir.read(collection(tmp_path, "query-id\tcorpus-id\tscore\n9\td1\t1\n"))
    with pytest.raises(CorpusError, match=r"qrels\.tsv:2"):
        beir.read(collection(tmp_path, "query-id\tcorpus-id\tscore\n1 d1 1\n"))
    (tmp_path / "queries.jsonl").write_text("{}")
    with pytest.raises(CorpusError, match=r"queries\.jsonl:1"):
        beir.read(tmp_path)
