"""Retrieval queries of follow-up questions."""

from __future__ import annotations

import pytest

from rag.answering import Turn
from rag.answering.followup import retrieval_query

LORA = Turn("What is low-rank adaptation (LoRA)?", "It trains small matrices [1].")


@pytest.mark.parametrize(
    ("question", "carried"),
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
def test_a_leaning_question_carries_its_subject(question: str, carried: str) -> None:
    assert retrieval_query(question, [LORA]) == f"{question} {carried}"


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
def test_a_question_with_its_own_subject_stays(question: str) -> None:
    assert retrieval_query(question, [LORA]) == question


def test_without_history_nothing_changes() -> None:
    assert retrieval_query("What does it cost?", []) == "What does it cost?"


def test_a_chain_leads_back_to_the_question_that_stood_alone() -> None:
    history = [Turn("What is diffusion?", "A"), LORA, Turn("What does it cost in memory?", "B")]
    assert retrieval_query("Why?", history) == "Why? low-rank adaptation LoRA memory"
