"""Retrieval queries of follow-up questions."""

from __future__ import annotations

import pytest

from rag.assistant import Assistant
from rag.errors import UsageError
from rag.retrieval.followup import retrieval_query
from rag.retrieval.history import turns_from_json
from tests.helpers_llm import turn

LORA = turn("What is low-rank adaptation (LoRA)?", "It trains small matrices [1].")


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("What does it cost?", "low-rank adaptation LoRA"),
        ("Which datasets were used?", "low-rank adaptation LoRA"),
        ("Why?", "low-rank adaptation LoRA"),
        ("What are its limitations?", "low-rank adaptation LoRA"),
        ("What about quantization?", "low-rank adaptation LoRA"),
        ("And for vision transformers?", "low-rank adaptation LoRA"),
        ("How does that compare to full fine-tuning?", "low-rank adaptation LoRA"),
        ("Who uses that method?", "low-rank adaptation LoRA"),
        ("Is LoRA better than them?", "low-rank adaptation"),
        ("Can you elaborate?", "low-rank adaptation LoRA"),
        ("Tell me more about the first paper.", "low-rank adaptation LoRA"),
        ("Which ones need no labels?", "low-rank adaptation LoRA"),
    ],
)
def test_a_question_that_needs_history_gets_its_subject(question: str, subject: str) -> None:
    assert retrieval_query(question, [LORA]) == f"{question} {subject}"


@pytest.mark.parametrize(
    "question",
    [
        "What is diffusion?",
        "How do video models keep characters consistent?",
        "Which papers propose benchmarks that test long-context reasoning?",
        "What methods exist for reward hacking in reinforcement learning?",
        "Are there agents that use web search?",
        "How does distillation work, and what are its limits?",
        "Do agents fail when they plan too long?",
        "What was the first diffusion model?",
    ],
)
def test_a_question_with_its_own_subject_is_unchanged(question: str) -> None:
    assert retrieval_query(question, [LORA]) == question


def test_without_history_nothing_changes() -> None:
    assert retrieval_query("What does it cost?", []) == "What does it cost?"


def test_a_chain_of_follow_ups_leads_back_to_the_last_full_question() -> None:
    history = [turn("What is diffusion?", "A"), LORA, turn("What does it cost in memory?", "B")]
    assert retrieval_query("Why?", history) == "Why? low-rank adaptation LoRA memory"


MERGING = turn("Is there a cheap way to get a better starting checkpoint than the original one?", "Yes [1].")


@pytest.mark.parametrize(
    ("before", "question", "subject"),
    [
        (
            "Can an LLM agent learn from human hints so that it needs no ever longer prompts?",
            "Which stronger systems did it then beat?",
            "hints",
        ),
        (
            "Which objective works best if human feedback is used already in pretraining?",
            "How much less bad stuff comes out then?",
            "pretraining",
        ),
    ],
)
def test_retrieval_recognises_a_follow_up_without_a_pronoun(
    assistant: Assistant, before: str, question: str, subject: str
) -> None:
    assert subject in assistant.search(question, [turn(before, "This one [1].")]).query


@pytest.mark.parametrize(
    "question",
    [
        "How is Tulu 3 trained?",
        "Which benchmarks test the long-context abilities of language models?",
        "What mitigates catastrophic forgetting in continual learning?",
        "How can hallucination in large vision-language models be reduced?",
    ],
)
def test_a_question_about_a_new_subject_is_unchanged(assistant: Assistant, question: str) -> None:
    assert assistant.search(question, [MERGING]).query == question


def test_history_is_a_list_of_questions_and_answers() -> None:
    assert turns_from_json(None) == turns_from_json([]) == []
    assert turns_from_json([{"question": "q", "answer": "a"}]) == [turn("q", "a")]
    for value in ("none", [1], [{"question": "q"}], {"question": "q"}, 7):
        with pytest.raises(UsageError, match="history"):
            turns_from_json(value)
