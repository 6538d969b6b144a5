"""Answers without a language model."""

from __future__ import annotations

import re

import pytest

from rag.assistant import Assistant
from rag.types import ABSTENTION, Answer, Paper

BROAD = [
    "what mitigates forgetting?",
    "Which methods reduce the cost of fine-tuning large language models?",
    "How can labels be generated without human annotators?",
    "What benchmarks evaluate multimodal models?",
]
SPECIFIC = [
    "What is RedOne?",
    "What GenEval score does UniRL reach?",
    "What is TCIA?",
    "By what margin does RedOne lower the exposure rate of harmful content?",
]
OFF_TOPIC = [
    "Who won the 1998 football world cup?",
    "How do I bake sourdough bread at home?",
    "What is the capital of Mongolia?",
    "Which tyres suit a mountain bike in winter?",
]


def ask(assistant: Assistant, question: str) -> Answer:
    return assistant.configured(assistant.settings.replace(mode="extractive")).ask(question)


@pytest.mark.parametrize("question", BROAD + SPECIFIC)
def test_every_sentence_is_quoted_exactly_and_cited(assistant: Assistant, corpus: list[Paper], question: str) -> None:
    answer = ask(assistant, question)
    assert not answer.abstained and (answer.mode, answer.model) == ("extractive", None)
    papers = {p.paper_id: p for p in corpus}
    quoted = []
    for citation in answer.citations:
        paper = papers[citation.paper_id]
        assert citation.title == paper.title and citation.evidence
        for e in citation.evidence:
            assert e.text == paper.abstract[e.start : e.end]
            quoted.append((e.text, (citation.n,)))
    assert [(s.text, s.citations) for s in answer.sentences] == quoted
    assert answer.text == "\n".join(f"{text} [{n}]" for text, (n,) in quoted)


@pytest.mark.parametrize("question", BROAD + SPECIFIC)
def test_numbers_count_up_in_order_of_appearance(assistant: Assistant, question: str) -> None:
    answer = ask(assistant, question)
    numbers = [int(n) for n in re.findall(r"\[(\d+)\]$", answer.text, re.MULTILINE)]
    assert list(dict.fromkeys(numbers)) == [c.n for c in answer.citations] == list(range(1, len(answer.citations) + 1))


@pytest.mark.parametrize("question", BROAD)
def test_a_broad_question_is_answered_from_several_papers(assistant: Assistant, question: str) -> None:
    answer = ask(assistant, question)
    assert len(answer.citations) >= 3
    assert len(answer.sentences) <= assistant.settings.answering.max_sentences
    assert len({s.text for s in answer.sentences}) == len(answer.sentences)


@pytest.mark.parametrize("question", SPECIFIC)
def test_a_specific_question_is_answered_from_one_paper(assistant: Assistant, question: str) -> None:
    answer = ask(assistant, question)
    assert len(answer.citations) == 1 and len(answer.sentences) <= 3


@pytest.mark.parametrize(
    ("question", "paper", "quoted"),
    [
        ("By how much does RedOne reduce the exposure rate of harmful content?", "redone-", "11.23%"),
        ("What GenEval score does UniRL reach?", "unirl-", "0.77"),
    ],
)
def test_the_sentence_that_answers_is_the_one_quoted(
    assistant: Assistant, question: str, paper: str, quoted: str
) -> None:
    answer = ask(assistant, question)
    assert answer.citations[0].paper_id.startswith(paper) and quoted in answer.text


@pytest.mark.parametrize("question", OFF_TOPIC)
def test_an_off_topic_question_is_not_answered(assistant: Assistant, question: str) -> None:
    answer = ask(assistant, question)
    assert answer.abstained and answer.text == ABSTENTION == "The corpus does not answer this."
    assert answer.sentences == answer.citations == ()
