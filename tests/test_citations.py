"""Citations and reasoning tags, in whole texts and in streams of any chunks."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag.answering.citations import CitationNormalizer, find_citations, remove_citations, split_sentences
from rag.llm.reasoning import ReasoningSplitter, without_reasoning
from rag.types import Sentence


def normalise(chunks: list[str], count: int = 3) -> tuple[str, int]:
    normalizer = CitationNormalizer(count)
    text = "".join([*map(normalizer.feed, chunks), normalizer.feed("", last=True)])
    return text, normalizer.dropped


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("It works [1].", "It works [1]."),
        ("It works [1, 2].", "It works [1][2]."),
        ("It works [1][2].", "It works [1][2]."),
        ("It works [1] [2].", "It works [1] [2]."),
        ("It works [1-3].", "It works [1][2][3]."),
        ("It works [1–3].", "It works [1][2][3]."),
        ("It works [1, 2 and 3].", "It works [1][2][3]."),
        ("It works [2, 2].", "It works [2]."),
        ("It works (1).", "It works [1]."),
        ("It works (1, 2).", "It works [1][2]."),
        ("It works (1)(2).", "It works [1][2]."),
        ("It works【1】.", "It works [1]."),
        ("It works【2†L3-L5】.", "It works [2]."),
        ("It works ［1］.", "It works [1]."),
        ("It works [[2]].", "It works [2]."),
        ("It works [^1].", "It works [1]."),
        ("It works [#2].", "It works [2]."),
        ("It works[1].", "It works [1]."),
        ("It works.[1] Next.", "It works. [1] Next."),
        ("It works [Passage 1].", "It works [1]."),
        ("It works [Passage 1, Passage 2].", "It works [1][2]."),
        ("It works (Passage 2).", "It works [2]."),
        ("It works (see passage 2).", "It works (see [2])."),
        ("It works (refs. 1, 2).", "It works [1][2]."),
        ("Passage 1 says so.", "[1] says so."),
        ("As Passages 1 and 2 say,", "As [1][2] say,"),
        ("In Passage 1, 2 models win.", "In [1], 2 models win."),
        ("It works¹.", "It works [1]."),
        ("It works.² Next.", "It works. [2] Next."),
        ("It works ¹²", "It works [1][2]"),
        ("- First [1]\n- Second [2]", "- First [1]\n- Second [2]"),
    ],
)
def test_every_form_of_citation_is_normalised(written: str, normalised: str) -> None:
    assert normalise([written]) == (normalised, 0)


@pytest.mark.parametrize(
    "text",
    [
        "(1) First, (2) second.",
        "Two steps: (1) collect, (2) train.",
        "It reaches [0.85] and [MASK] and [CLS].",
        "In [0, 1] and [-1, 1] and (0, 1).",
        "Layers of sizes [64, 128].",
        "It appeared in 2023 (2023).",
        "It appeared in [2023].",
        "See x[1] and `a[2] + b[9]` and my_list[1].",
        "```\nrow[1] [9]\n```",
        "An area of 10² km² and R² of x².",
        "10⁻³ is small",
        "Equation (1). Table (2), Step (3).",
        "f(1).",
        "(42).",
        "Papers, please. Passages from it. A passage a day.",
        "Passage 1.5 and Passage 1% and Paper 2b.",
        "Smith et al. (2020) and [Smith 2020].",
        "An [unclosed 1",
        "A list [1, two].",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert normalise([text]) == (text, 0)


@pytest.mark.parametrize(
    ("written", "normalised", "dropped"),
    [
        ("It works [9].", "It works.", 1),
        ("It works [9] well.", "It works well.", 1),
        ("It works [1, 9].", "It works [1].", 1),
        ("It works [9][8] [1].", "It works [1].", 2),
        ("It works [9]\n\nNext.", "It works\n\nNext.", 1),
        ("[9] It works.", "It works.", 1),
        ("It works [3-5].", "It works [3].", 2),
        ("It works 【7】", "It works", 1),
        ("Passage 9 says so.", "Passage 9 says so.", 1),
    ],
)
def test_numbers_without_a_paper_are_removed_and_counted(written: str, normalised: str, dropped: int) -> None:
    assert normalise([written]) == (normalised, dropped)


def test_text_is_output_as_soon_as_possible() -> None:
    normalizer = CitationNormalizer(3)
    assert normalizer.feed("It works") == "It works"
    assert normalizer.feed(" [") == ""
    assert normalizer.feed("1") == ""
    assert normalizer.feed("] and more") == " [1] and more"
    assert normalizer.feed(" (see the") == " (see the"


_FRAGMENTS = st.sampled_from(
    [
        *"[](),.;- \n`1234590#^¹²³⁻【】［］†",
        "Passage ",
        "passages ",
        "Papers",
        " and ",
        "word",
        "x",
        "2023",
        "to",
        "```",
        "A",
    ]
)


@settings(max_examples=400)
@given(st.lists(_FRAGMENTS, max_size=30).map("".join), st.data())
@example("It works [9]\n\nNext", None)
@example("[1†][[[[]", None)
def test_any_chunking_gives_the_same_text(text: str, data: st.DataObject | None) -> None:
    whole = normalise([text])
    assert normalise(list(text)) == whole
    if data is not None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        assert normalise([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]) == whole


# --- sentences -----------------------------------------------------------------------------------------


def test_sentences_and_their_numbers() -> None:
    text = "A method wins [1]. It is fast. [2][1]\n\nNo one cites this.\n\n[3]"
    assert split_sentences(text, 3) == (
        Sentence(text="A method wins.", citations=(1,), span=(0, 18)),
        Sentence(text="It is fast.", citations=(2, 1), span=(19, 37)),
        Sentence(text="No one cites this.", citations=(3,), span=(39, 62)),
    )


def test_brackets_that_are_not_citations_stay_in_the_sentence() -> None:
    text = "Use `a [1]` and x[1] here."
    assert split_sentences(text, 3) == (Sentence(text=text, span=(0, 26)),)
    assert split_sentences("", 3) == ()


def test_citations_are_found_and_removed() -> None:
    text = "It works [1][12]. `a [2]`, x[3] and [1234]."
    assert [(text[a:b], n) for a, b, n in find_citations(text)] == [("[1]", 1), ("[12]", 12)]
    assert find_citations("Nothing here.") == []
    assert remove_citations("It works [1][2]. `a [1]`") == "It works. `a [1]`"


def test_a_long_superscript_is_left_alone() -> None:
    assert normalise(["It works " + "¹" * 5000]) == ("It works " + "¹" * 5000, 0)


# --- reasoning -----------------------------------------------------------------------------------------


def read(chunks: list[str]) -> tuple[str, str]:
    reasoning, thought, answer = ReasoningSplitter(), "", ""
    for kind, text in [p for c in chunks for p in reasoning.feed(c)] + list(reasoning.feed("", last=True)):
        if kind == "discard":
            thought, answer = thought + answer, ""
        elif kind == "thinking":
            thought += text
        else:
            answer += text
    return thought.strip(), answer.strip()


@pytest.mark.parametrize(
    ("content", "thought", "answer"),
    [
        ("Plain.", "", "Plain."),
        ("<think>hm</think>\n\nPlain.", "hm", "Plain."),
        (" \n<thinking>hm</thinking>Plain.", "hm", "Plain."),
        ("<think></think>Plain.", "", "Plain."),
        ("<think>a</think><think>b</think>Plain.", "ab", "Plain."),
        ("<think>it never ends", "it never ends", ""),
        ("okay so\n</think>\n\nPlain.", "okay so", "Plain."),
        ("</think>\n\nPlain.", "", "Plain."),
        ("It writes <think> and </think> tags.", "", "It writes <think> and </think> tags."),
        ("<thin ice", "", "<thin ice"),
        ("a\n</thin air", "", "a\n</thin air"),
    ],
)
def test_reasoning_in_content(content: str, thought: str, answer: str) -> None:
    assert read([content]) == read(list(content)) == (thought, answer)
    assert without_reasoning(content).strip() == answer


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "</thinking>", "<", "\n", " ", "a", "b c"]), max_size=12).map(
        "".join
    )
)
def test_any_chunking_gives_the_same_reasoning(content: str) -> None:
    assert read([content]) == read(list(content))
