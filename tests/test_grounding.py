"""Support, guards, verdicts, repair and the figures of an answer, on the real corpus with the real model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from rag.answering import ABSTENTION, Answer
from rag.answering.markers import split_sentences
from rag.assistant import Assistant
from rag.grounding import (
    THRESHOLD,
    Judgement,
    bare,
    is_claim,
    judge,
    measure,
    names,
    numbers,
    polarity,
    read_claim,
    read_source,
)
from rag.papers import Paper

NO_OWNERS = np.zeros(0, np.int64)
QUESTION = "what mitigates forgetting?"
RFT = "reinforcement-fine-tuning-naturally-"
PARAPHRASE = "Reinforcement fine-tuning naturally protects prior knowledge thanks to the implicit regularization of RFT"
NOWHERE = "Penguins of the Antarctic coast eat fish and breed in large colonies every winter"


@pytest.fixture(scope="module")
def papers(corpus: list[Paper]) -> list[Paper]:
    """Three papers; [1] is about forgetting in fine-tuning, the others are about other things."""
    starts = (RFT, "jina-clip-v2-", "tulu-3-")
    return [next(p for p in corpus if p.paper_id.startswith(start)) for start in starts]


def checked(assistant: Assistant, papers: list[Paper], text: str, **how: Any) -> Answer:
    """`text` as an answer from `papers`, verified."""
    search = assistant.search(QUESTION)
    draft = Answer(QUESTION, text, False, "ollama", "m", split_sentences(text, len(papers)), (), search)
    return assistant.verifier.verify(draft, papers, **how)


# --- what is a claim -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    [
        "## Results and discussion of the experiments",
        "The passages do not mention the number of parameters of the model.",
        "I cannot answer this question from the given passages.",
        "The abstracts name several approaches to this problem:",
        "What else could reduce catastrophic forgetting in large models?",
        "Let me know if you have further questions about these methods.",
        "It works well.",
        "",
    ],
)
def test_what_states_nothing_is_no_claim_unless_it_cites(sentence: str) -> None:
    assert not is_claim(sentence, cited=False)
    assert is_claim(sentence, cited=True)


def test_a_lead_in_is_not_part_of_the_claim() -> None:
    plain = "RFT reduces forgetting in continual post-training"
    assert is_claim(plain, cited=False)
    for lead in (
        "According to passage 1, ",
        "Based on the provided passages, ",
        "- ",
        "1. ",
        "The passage states that ",
    ):
        assert bare(lead + plain) == plain
    assert bare(f"**{plain}** [1][2].") == f"{plain}."


@forall(st.text(max_size=200))
def test_no_text_breaks_the_filter(text: str) -> None:
    assert len(bare(text)) <= len(text)
    is_claim(text, cited=False)
    names(text)
    numbers(text)
    polarity(text, text)


# --- guards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("It gains 10\\%.", "a gain of 10%"),
        ("It gains 10 percent.", "a gain of 10 %"),
        ("It has 4,523,000 images.", "4523000 images"),
        ("It is twenty-five times faster.", "a 25x speed-up"),
        ("It is 25× faster.", "twenty-five times faster"),
        ("It has 7B parameters.", "7 billion parameters"),
        ("It needs three stages.", "3 stages"),
    ],
)
def test_one_number_in_two_spellings_agrees(said: str, given: str) -> None:
    claim = read_claim(said, [], np.zeros((0, 4), np.float32), lambda _: 1.0)
    source = read_source(f"{said.removesuffix('.')} with {given}.", NO_OWNERS, np.zeros((0, 4), np.float32))
    other = read_source(given, NO_OWNERS, np.zeros((0, 4), np.float32))
    assert judge(claim, [source], [0]).novel_numbers == judge(claim, [other], [0]).novel_numbers == ()


@pytest.mark.parametrize(
    ("said", "given"), [("87%", "85%"), ("3.5x", "3.4x"), ("4,523,001", "4523000"), ("7B", "70B"), ("ten", "12")]
)
def test_another_number_is_novel(said: str, given: str) -> None:
    nothing = np.zeros((0, 4), np.float32)
    claim = read_claim(f"The accuracy rises to {said} there.", [], nothing, lambda _: 1.0)
    source = read_source(f"The accuracy rises to {given} there.", NO_OWNERS, nothing)
    assert judge(claim, [source], [0]).novel_numbers == (said,)


def test_names_are_found_in_any_spelling() -> None:
    nothing = np.zeros((0, 4), np.float32)
    source = read_source("We train LLaVA 1.5 and GPT4 on ImageNet with low rank adaptation.", NO_OWNERS, nothing)
    for said, novel in (
        ("They train LLaVA-1.5 on ImageNet", ()),
        ("They train GPT-4 with LoRA on ImageNets", ("LoRA",)),
        ("They train Qwen2 on ImageNet", ("Qwen2",)),
    ):
        claim = read_claim(said, [], nothing, lambda _: 1.0)
        assert judge(claim, [source], [0]).novel_names == novel


def test_polarity_compares_only_opposites() -> None:
    assert polarity("RFT does not reduce forgetting", "RFT reduces forgetting")
    assert polarity("RFT reduces forgetting", "RFT does not reduce forgetting")
    assert polarity("The loss increases forgetting", "The loss reduces forgetting")
    assert polarity("RFT reduces forgetting", "RFT reduces forgetting of old tasks") is None
    assert polarity("RFT doesn't reduce forgetting", "RFT does not reduce forgetting") is None


# --- verdicts and repair ---------------------------------------------------------------------------


def test_a_paraphrase_of_the_cited_paper_is_supported(assistant: Assistant, papers: list[Paper]) -> None:
    answer = checked(assistant, papers, f"{PARAPHRASE} [1].")
    (sentence,) = answer.sentences
    assert sentence.verdict == "supported" and sentence.support is not None and sentence.support >= THRESHOLD
    assert sentence.citations == (1,) and sentence.repaired_from is None and sentence.reason == ""
    proof = sentence.evidence
    assert proof and papers[0].abstract[proof.start : proof.end] == proof.text and proof.paper_id == papers[0].paper_id
    assert answer.citations[0].evidence[0].text == proof.text
    assert answer.grounding and answer.grounding.groundedness == 1.0 and answer.grounding.citation_precision == 1.0


def test_a_wrong_citation_is_repaired_and_told(assistant: Assistant, papers: list[Paper]) -> None:
    answer = checked(assistant, papers, f"{PARAPHRASE} [2].")
    (sentence,) = answer.sentences
    assert sentence.verdict == "miscited" and sentence.repaired_from == (2,) and sentence.citations == (1,)
    assert papers[0].title in sentence.reason
    assert "[1]" in answer.text and "[2]" not in answer.text and [c.n for c in answer.citations] == [1]
    assert answer.grounding and answer.grounding.misattributed == 1
    assert any("got the citation" in note for note in answer.notes)


def test_without_repair_the_text_stays_as_it_was(assistant: Assistant, papers: list[Paper]) -> None:
    text = f"{PARAPHRASE} [2]. {NOWHERE}."
    answer = checked(assistant, papers, text, repair=False)
    assert answer.text == text and [s.verdict for s in answer.sentences] == ["miscited", "unsupported"]
    assert answer.sentences[0].citations == (2,)


def test_an_uncited_supported_sentence_gets_its_citation(assistant: Assistant, papers: list[Paper]) -> None:
    answer = checked(assistant, papers, f"{PARAPHRASE}.")
    (sentence,) = answer.sentences
    assert sentence.verdict == "supported" and sentence.citations == (1,) and sentence.repaired_from == ()
    assert [c.paper_id for c in answer.citations] == [papers[0].paper_id]


def test_an_unsupported_sentence_is_marked_or_removed(assistant: Assistant, papers: list[Paper]) -> None:
    text = f"{PARAPHRASE} [1]. {NOWHERE} [2]."
    marked = checked(assistant, papers, text)
    assert [s.verdict for s in marked.sentences] == ["supported", "unsupported"] and marked.text == text
    assert marked.grounding and marked.grounding.groundedness == 0.5 and len(marked.unsupported) == 1
    strict = checked(assistant, papers, text, strict=True)
    assert strict.text == f"{PARAPHRASE} [1]." and len(strict.sentences) == 1
    assert [c.n for c in strict.citations] == [1] and "1 sentence removed" in " ".join(strict.notes)


def test_a_strict_answer_that_loses_every_claim_abstains(assistant: Assistant, papers: list[Paper]) -> None:
    answer = checked(assistant, papers, f"{NOWHERE} [1].", strict=True)
    assert answer.abstained and answer.text == ABSTENTION and answer.citations == ()


def test_a_changed_number_makes_partial_with_both_numbers_named(assistant: Assistant, corpus: list[Paper]) -> None:
    paper, told = next((p, s) for p in corpus for s in _sentences(p) if "%" in s and len(numbers(s)) == 1)
    (number,) = numbers(told)
    changed = told.replace(number.shown, "3.21%")
    (sentence,) = checked(assistant, [paper], f"{changed} [1]").sentences
    assert sentence.verdict == "partial" and sentence.reason == f"says 3.21%, the abstract says {number.shown}"


def test_spans_point_at_the_sentences_of_the_text(assistant: Assistant, papers: list[Paper]) -> None:
    answer = checked(assistant, papers, f"- {PARAPHRASE} [2].\n- {PARAPHRASE}.\n\n{NOWHERE} [1].")
    for sentence in answer.sentences:
        start, end = sentence.span
        assert sentence.text.rstrip(".") in answer.text[start:end]
        for n in sentence.citations:
            assert f"[{n}]" in answer.text[start:end]


def test_quotations_are_their_own_proof(assistant: Assistant, corpus: list[Paper]) -> None:
    paper = corpus[0]
    for told in _sentences(paper):
        (sentence, *_) = checked(assistant, [paper], f"{told} [1]").sentences
        assert sentence.verdict == "supported"


def test_guards_are_silent_on_the_corpus_own_sentences(assistant: Assistant, corpus: list[Paper]) -> None:
    # Judged as claims, not recognised as quotations: a word in front keeps them from standing in the abstract.
    wrong = total = 0
    for paper in corpus[::12]:
        for told in _sentences(paper):
            claims = assistant.verifier._claims([told], [True])
            found = judge(claims[0], [assistant.verifier.source(paper.paper_id)], [0])
            total += 1
            wrong += found.verdict != "supported"
    assert total > 300 and wrong <= 0.002 * total


def test_the_same_text_gets_the_same_verdicts(assistant: Assistant, papers: list[Paper]) -> None:
    text = f"{PARAPHRASE} [2]. {NOWHERE}."
    assert checked(assistant, papers, text) == checked(assistant, papers, text)


# --- figures ---------------------------------------------------------------------------------------


def test_a_refusal_has_no_figures(assistant: Assistant, papers: list[Paper]) -> None:
    answer = checked(assistant, papers, "The passages do not mention this.")
    assert answer.grounding == measure([]) and answer.grounding.groundedness is None
    refused = replace(answer, text=ABSTENTION, abstained=True, sentences=(), grounding=None)
    assert assistant.verifier.verify(refused, papers) == refused


def test_no_citation_is_recall_zero_and_no_precision() -> None:
    figures = measure([Judgement("supported", 0.9), Judgement("unsupported", 0.1)])
    assert figures.citation_recall == 0.0 and figures.citation_precision is None and figures.citation_coverage == 0.0
    assert figures.groundedness == 0.5 and figures.min_support == 0.1


def test_figures_follow_their_definitions() -> None:
    figures = measure(
        [
            Judgement("supported", 0.8, entailed=True, needed=(True, False)),
            Judgement("partial", 0.7, entailed=True, needed=(True,), novel_numbers=("87%",)),
            Judgement("miscited", 0.3, better=1, needed=(False,)),
            Judgement("unsupported", 0.2, needed=(False,), novel_names=("GPT-9", "X1")),
            Judgement("not_a_claim"),
        ]
    )
    assert figures.groundedness == pytest.approx(2.5 / 4) and figures.citation_recall == 0.5
    assert figures.citation_precision == pytest.approx(2 / 5) and figures.citation_coverage == 1.0
    assert (figures.misattributed, figures.novel_numbers, figures.novel_names) == (1, 1, 2)
    assert figures.min_support == 0.2


def test_two_papers_support_together_what_neither_does_alone(assistant: Assistant, papers: list[Paper]) -> None:
    both = f"{PARAPHRASE}, and jina-clip-v2 is a contrastive vision-language model trained on text pairs [1][2]."
    (sentence,) = checked(assistant, papers, both).sentences
    assert sentence.verdict in ("supported", "partial") and sentence.citations == (1, 2)
    (alone,) = checked(assistant, papers[:1], both.replace("[2]", "")).sentences
    assert (alone.support or 0) < (sentence.support or 0)


def _sentences(paper: Paper) -> list[str]:
    from rag.text import sentence_spans

    return [paper.abstract[a:b] for a, b in sentence_spans(paper.abstract)]
