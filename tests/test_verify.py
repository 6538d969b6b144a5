"""Abstention, `rag verify`, `--explain`, `--bib`: what the verdicts are used for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rag.answering.foreign import check
from rag.assistant import Assistant
from rag.grounding import missing_detail
from rag.papers import Paper
from tests.conftest import Run

UNSUPPORTED, ABSTAINED, USAGE = 4, 3, 2
PARAPHRASE = "Reinforcement fine-tuning naturally protects prior knowledge thanks to the implicit regularization of RFT"
NOWHERE = "Penguins of the Antarctic coast eat fish and breed in large colonies every winter"


@pytest.fixture(scope="module")
def rft(corpus: list[Paper]) -> Paper:
    return next(p for p in corpus if p.paper_id.startswith("reinforcement-fine-tuning-naturally-"))


@pytest.fixture(scope="module")
def tulu(corpus: list[Paper]) -> Paper:
    return next(p for p in corpus if p.paper_id.startswith("tulu-3-"))


# --- text from elsewhere ---------------------------------------------------------------------------


def verdicts(assistant: Assistant, text: str) -> list[str | None]:
    checked = check(text, assistant.index, assistant.retriever, assistant.verifier)
    return [s.verdict for s in checked.answer.sentences]


@pytest.mark.parametrize(
    "form",
    [
        "{text} [7].\n\nReferences\n[7] {title}",
        "{text} [2].\n\n1. Something else entirely\n2. {title}.",
        "{text} [{title}].",
    ],
)
def test_citations_are_resolved_by_title_in_every_form(assistant: Assistant, rft: Paper, form: str) -> None:
    text = form.format(text=PARAPHRASE, title=rft.title)
    checked = check(text, assistant.index, assistant.retriever, assistant.verifier)
    (sentence,) = checked.answer.sentences
    assert sentence.verdict == "supported"
    assert [checked.given[n - 1] for n in sentence.citations] == [rft]


def test_a_title_with_a_typo_is_found_and_an_unknown_one_named(assistant: Assistant, rft: Paper) -> None:
    text = (
        f"{PARAPHRASE} [1]. {NOWHERE} [2].\n\n[1] {rft.title.replace('Naturally', 'Naturaly')}\n[2] Fish of the South"
    )
    checked = check(text, assistant.index, assistant.retriever, assistant.verifier)
    assert [s.verdict for s in checked.answer.sentences] == ["supported", "unsupported"]
    assert checked.unknown == ("Fish of the South",)


def test_a_wrong_citation_is_told_and_not_repaired(assistant: Assistant, rft: Paper, tulu: Paper) -> None:
    text = f"{PARAPHRASE} [1].\n\n[1] {tulu.title}"
    checked = check(text, assistant.index, assistant.retriever, assistant.verifier)
    (sentence,) = checked.answer.sentences
    assert sentence.verdict == "miscited" and rft.title in sentence.reason and sentence.repaired_from is None
    assert checked.given[sentence.citations[0] - 1] == tulu


def test_verify_prints_verdicts_and_exits_4_where_one_is_bad(
    cli: Callable[..., Run], rft: Paper, tmp_path: Path
) -> None:
    good = f"{PARAPHRASE} [1].\n\n[1] {rft.title}\n"
    run = cli("verify", "-", stdin=good)
    assert run.code == 0 and "supported" in run.out and "implicit regularization inherent to RFT" in run.out
    (tmp_path / "text.md").write_text(f"{PARAPHRASE} [1]. {NOWHERE} [1].\n\n[1] {rft.title}\n", encoding="utf-8")
    run = cli("verify", tmp_path / "text.md", "--json")
    assert run.code == UNSUPPORTED
    assert [s["verdict"] for s in run.json["sentences"]] == ["supported", "unsupported"]
    assert run.json["grounding"]["groundedness"] == 0.5 and run.json["unknown"] == []
    (evidence,) = run.json["citations"][0]["evidence"][:1]
    assert rft.abstract[evidence["start"] : evidence["end"]] == evidence["text"]


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_nothing_to_verify_is_a_usage_error(cli: Callable[..., Run], text: str) -> None:
    run = cli("verify", "-", stdin=text)
    assert run.code == USAGE and run.err.count("\n") == 1 and run.out == ""


def test_an_answer_of_ours_verifies_as_a_text_from_elsewhere(cli: Callable[..., Run]) -> None:
    asked = cli("ask", "what mitigates forgetting?", "--mode", "extractive")
    run = cli("verify", "-", "--json", stdin=asked.out)
    assert run.code == 0, run.out
    assert {s["verdict"] for s in run.json["sentences"]} <= {"supported", "not_a_claim"}


# --- what ask adds ---------------------------------------------------------------------------------


def test_explain_prints_each_sentence_beside_its_evidence(cli: Callable[..., Run]) -> None:
    run = cli("ask", "what mitigates forgetting?", "--explain")
    plain = cli("ask", "what mitigates forgetting?")
    assert run.code == 0 and run.out.startswith(plain.out.rstrip("\n")[:200]) and len(run.out) > len(plain.out)
    assert "supported" in run.out and "supported" not in plain.out


def test_bib_holds_the_cited_papers_and_no_others(cli: Callable[..., Run], tmp_path: Path) -> None:
    run = cli("ask", "what mitigates forgetting?", "--json", "--bib", tmp_path / "out.bib")
    written = (tmp_path / "out.bib").read_text(encoding="utf-8")
    titles = [c["title"] for c in run.json["citations"]]
    assert written.count("@") == len(titles) > 0
    for title in titles:
        assert title in written.replace("{", "").replace("}", "")
    run = cli("ask", "what mitigates forgetting?", "--bib", tmp_path / "no" / "out.bib")
    assert run.code == USAGE and "--bib" in run.err


def test_every_extractive_sentence_is_supported_by_itself(cli: Callable[..., Run]) -> None:
    answer = cli("ask", "what mitigates forgetting?", "--json").json
    assert {s["verdict"] for s in answer["sentences"]} == {"supported"}
    figures = answer["grounding"]
    assert figures["groundedness"] == figures["citation_recall"] == figures["citation_precision"] == 1.0
    assert figures["misattributed"] == figures["novel_numbers"] == figures["novel_names"] == 0


# --- abstention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        "Who won the 1998 football world cup?",
        "What is the best recipe for apple pie?",
        "How do I renew my passport in Norway?",
        "When did the Roman empire fall?",
    ],
)
def test_what_the_corpus_is_not_about_is_refused_with_the_nearest_papers(
    cli: Callable[..., Run], question: str
) -> None:
    run = cli("ask", question)
    assert run.code == ABSTAINED and "The corpus does not answer this" in run.out
    assert "Related, but" in run.out
    answer = cli("ask", question, "--json").json
    assert answer["abstained"] and answer["sentences"] == [] and answer["citations"] == []
    assert answer["grounding"] is None or set(answer["grounding"].values()) == {None}


def test_a_detail_that_the_abstract_does_not_give_is_refused(assistant: Assistant, tulu: Paper) -> None:
    answer = assistant.ask("How many GPU hours did the training of Tulu 3 take?")
    assert answer.abstained and any("GPU hours" in n or "gpu" in n.lower() for n in answer.notes)
    assert tulu in [hit.paper for hit in answer.search.hits]


def test_a_detail_that_an_abstract_gives_is_not_missing() -> None:
    assert missing_detail("What learning rate was used?", ["We train with a learning rate of 1e-4."]) is None
    assert missing_detail("What learning rate was used?", ["We train for long."]) == "learning rate"
    assert missing_detail("What is learned?", ["We train for long."]) is None
