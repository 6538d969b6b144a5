"""Uses of the verdicts: external text, `rag verify`, `--explain`, `--bib` and abstention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rag.answering.abstention import missing_detail, never_abstain
from rag.answering.citations import find_citations
from rag.assistant import Assistant
from rag.types import Paper
from tests.conftest import Run
from tests.helpers_verification import IN_NO_PAPER, PARAPHRASE, RFT, paper_named

UNSUPPORTED, ABSTAINED, USAGE = 4, 3, 2


@pytest.fixture(scope="module")
def rft(corpus: list[Paper]) -> Paper:
    return paper_named(corpus, RFT)


@pytest.fixture(scope="module")
def tulu(corpus: list[Paper]) -> Paper:
    return paper_named(corpus, "tulu-3-")


# --- external text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "{text} [7].\n\nReferences\n[7] {title}",
        "{text} [2].\n\n1. Something else entirely\n2. {title}.",
        "{text} [{title}].",
    ],
)
def test_citations_are_resolved_by_title_in_every_form(assistant: Assistant, rft: Paper, form: str) -> None:
    answer = assistant.verify_text(form.format(text=PARAPHRASE, title=rft.title)).answer
    (sentence,) = answer.sentences
    assert sentence.verdict == "supported" and answer.mode == "external"
    assert [answer.context[n - 1] for n in sentence.citations] == [rft]


def test_a_title_with_a_typo_is_resolved_and_an_unknown_title_is_reported(assistant: Assistant, rft: Paper) -> None:
    text = (
        f"{PARAPHRASE} [1]. {IN_NO_PAPER} [2].\n\n"
        f"[1] {rft.title.replace('Naturally', 'Naturaly')}\n[2] Fish of the South"
    )
    check = assistant.verify_text(text)
    assert [s.verdict for s in check.answer.sentences] == ["supported", "unsupported"]
    assert check.unknown == ("Fish of the South",)


def test_a_wrong_citation_is_reported_and_not_corrected(assistant: Assistant, rft: Paper, tulu: Paper) -> None:
    answer = assistant.verify_text(f"{PARAPHRASE} [1].\n\n[1] {tulu.title}").answer
    (sentence,) = answer.sentences
    assert sentence.verdict == "miscited" and rft.title in sentence.reason and sentence.repaired_from is None
    assert answer.context[sentence.citations[0] - 1] == tulu


def test_the_numbers_in_a_checked_text_refer_to_its_context(assistant: Assistant, rft: Paper, tulu: Paper) -> None:
    text = f"{PARAPHRASE} [7].\n{IN_NO_PAPER} [4][9].\n\n[4] {tulu.title}\n[7] {rft.title}\n[9] Fish of the South"
    answer = assistant.verify_text(text).answer
    assert [s.citations for s in answer.sentences] == [(2,), (1,)] and answer.context[:2] == (tulu, rft)
    for sentence in answer.sentences:
        written = answer.text[slice(*sentence.span)]
        assert tuple(n for _, _, n in find_citations(written)) == sentence.citations


def test_verify_prints_verdicts_and_exits_4_if_one_is_bad(cli: Callable[..., Run], rft: Paper, tmp_path: Path) -> None:
    good = f"{PARAPHRASE} [1].\n\n[1] {rft.title}\n"
    run = cli("verify", "-", stdin=good)
    assert run.code == 0 and "supported" in run.out and "implicit regularization inherent to RFT" in run.out
    (tmp_path / "text.md").write_text(f"{PARAPHRASE} [1]. {IN_NO_PAPER} [1].\n\n[1] {rft.title}\n", encoding="utf-8")
    run = cli("verify", tmp_path / "text.md", "--json")
    assert run.code == UNSUPPORTED
    assert [s["verdict"] for s in run.json["sentences"]] == ["supported", "unsupported"]
    assert run.json["grounding"]["groundedness"] == 0.5 and run.json["unknown"] == []
    (evidence,) = run.json["citations"][0]["evidence"][:1]
    assert rft.abstract[evidence["start"] : evidence["end"]] == evidence["text"]


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_text_is_a_usage_error(cli: Callable[..., Run], text: str) -> None:
    run = cli("verify", "-", stdin=text)
    assert run.code == USAGE and run.err.count("\n") == 1 and run.out == ""


def test_an_answer_of_rag_verifies_as_external_text(cli: Callable[..., Run]) -> None:
    answer = cli("ask", "what mitigates forgetting?", "--mode", "extractive")
    run = cli("verify", "-", "--json", stdin=answer.out)
    assert run.code == 0, run.out
    assert {s["verdict"] for s in run.json["sentences"]} <= {"supported", "not_a_claim"}


# --- options of ask ---------------------------------------------------------------------------------


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
    metrics = answer["grounding"]
    assert metrics["groundedness"] == metrics["citation_recall"] == metrics["citation_precision"] == 1.0
    assert metrics["misattributed"] == metrics["novel_numbers"] == metrics["novel_names"] == 0


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
def test_an_off_topic_question_gets_an_abstention_and_related_papers(cli: Callable[..., Run], question: str) -> None:
    run = cli("ask", question)
    assert run.code == ABSTAINED and "The corpus does not answer this" in run.out
    assert "Related, but" in run.out
    answer = cli("ask", question, "--json").json
    assert answer["abstained"] and answer["sentences"] == [] and answer["citations"] == []
    assert answer["grounding"] is None or set(answer["grounding"].values()) == {None}


def test_a_question_for_a_detail_that_the_abstract_lacks_gets_an_abstention(assistant: Assistant, tulu: Paper) -> None:
    answer = assistant.ask("How many GPU hours did the training of Tulu 3 take?")
    assert answer.abstained and any("GPU hours" in n or "gpu" in n.lower() for n in answer.notes)
    assert tulu in [hit.paper for hit in answer.search.hits] and never_abstain(answer.search) == ""


def test_a_detail_that_an_abstract_has_is_not_missing() -> None:
    assert missing_detail("What learning rate was used?", ["We train with a learning rate of 1e-4."]) is None
    assert missing_detail("What learning rate was used?", ["We train for long."]) == "learning rate"
    assert missing_detail("What is learned?", ["We train for long."]) is None
