"""Folding, terms and sentence spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.text.display import printable, strip_control
from rag.text.sentences import sentence_spans
from rag.text.terms import bigrams, content_words, fold, mask_latex, stem_all, terms, words
from rag.types import Paper

# Random text, and text rich in the characters that folding and sentence splitting treat specially.
texts = st.text() | st.text(alphabet="aB1 .!?…。\n\t\\\"'{}[]()$`*-|:éÜßİ\u0301\u200b\u202e＼", max_size=60)


@pytest.mark.parametrize(
    ("display", "search"),
    [
        ('T\\"ULU 3', "tulu 3"),
        ("TÜLU 3", "tulu 3"),
        ("Poincar\\'e", "poincare"),
        ('na\\"{i}ve', "naive"),
        ("Erd\\H{o}s", "erdos"),
        ("\\textbf{bold} claim", "bold claim"),
        ("10\\% \\& more", "10% & more"),
        ("$\\tau$-bench", "$tau$-bench"),
        ("Łukasz Müller-Straße", "lukasz muller-strasse"),
        ("ﬁne‑tuning", "fine‐tuning"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_fold_drops_accents_and_latex_residue(display: str, search: str) -> None:
    assert fold(display) == search


@given(texts)
def test_fold_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(texts)
def test_words_are_folded_letters_and_digits(text: str) -> None:
    assert all(word.isalnum() and word == word.lower() for word in words(text))


def test_terms_are_stems_without_stopwords_and_question_words() -> None:
    assert terms("What does the paper propose for mitigating FORGETTING?") == ["mitig", "forget"]
    assert terms("Which authors?") == []
    assert bigrams(["a", "b", "c"]) == ["a b", "b c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('introduces T\\"ULU 3', [("introduces", "introduc"), ('T\\"ULU', "tulu"), ("3", "3")]),
        ("na\u0131\u0308ve e\u0301lan", [("na\u0131\u0308ve", "naiv"), ("e\u0301lan", "elan")]),
        ("zero\u200bwidth and so\u00adft", [("zero\u200bwidth", "zerowidth"), ("so\u00adft", "soft")]),
        ("\\textit{agnostic} method", [("agnostic", "agnost"), ("method", "method")]),
    ],
)
def test_content_words_have_the_offsets_of_the_original_text(text: str, words: list[tuple[str, str]]) -> None:
    assert [(text[a:b], stem) for a, b, stem in content_words(text)] == words
    assert terms(text) == [stem for _, stem in words]


@given(st.text(alphabet="aB1 .!?\t\"'{}$-éÜßİ\u0301\u200b", max_size=60))
def test_terms_are_the_stems_of_content_words_within_the_text(text: str) -> None:
    spans = content_words(text, frozenset())
    assert [stem for _, _, stem in spans] == stem_all(words(text))
    assert all(0 <= a < b <= len(text) for a, b, _ in spans)


@given(st.text())
def test_a_cleaned_question_has_no_control_character(text: str) -> None:
    assert not set(strip_control(text)) & {"\x1b", "\x07", "\x00", "\x9b", "\u202e", "\u200b", "\n"}


@given(st.text())
def test_printable_keeps_the_length_and_drops_terminal_controls(text: str) -> None:
    cleaned = printable(text)
    assert len(cleaned) == len(text)
    assert not set(cleaned) & {"\x1b", "\x07", "\x00", "\x9b", "\u202e", "\r"}


@pytest.mark.parametrize(
    "sentences",
    [
        ["It works well.", "It scales, too!", "Does it?", "Yes."],
        ["See e.g. Smith et al. 2020 for details.", "Fig. 3 shows 0.5% vs. 1.5%."],
        ["J. Smith improves accuracy by 3.5 points.", "mPLUG is next."],
        ["It was shown before [3, 4].", "It holds. [5]", "The end."],
        ["Use $f(x. y)$ here.", "Code: `a. B`."],
        ["它有效。", "真的吗？", "是。"],
        ["Heading:", "- first point", "- second point"],
        ["A tail without a stop"],
    ],
)
def test_text_is_split_into_the_sentences_a_reader_sees(sentences: list[str]) -> None:
    joint = "\n" if sentences[0].endswith(":") else "" if "。" in sentences[0] else " "
    text = joint.join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


def assert_spans_cover(text: str) -> None:
    end = 0
    for a, b in (spans := sentence_spans(text)):
        assert end <= a < b <= len(text), spans
        assert text[a:b] == text[a:b].strip()
        assert not text[end:a].strip(), f"{text[end:a]!r} is in no sentence"
        end = b
    assert not text[end:].strip()


@given(texts)
def test_sentence_spans_are_ordered_disjoint_and_cover_all_text(text: str) -> None:
    assert_spans_cover(text)


def test_sentence_spans_cover_every_abstract(corpus: list[Paper]) -> None:
    for paper in corpus:
        assert_spans_cover(paper.abstract)


@given(st.text(alphabet="abÜ\\\"'{}%_ textit", max_size=60))
def test_masking_latex_keeps_every_offset(text: str) -> None:
    plain = mask_latex(text)
    assert len(plain) == len(text)
    assert all(a in (b, "\u200b", " ") for a, b in zip(plain, text, strict=True))


def test_masked_latex_reads_as_the_intended_word() -> None:
    for text, meant in (('T\\"ULU 3', "TULU 3"), ("Sabi\\'a-2", "Sabia-2"), ("\\textit{10\\%}", "10%")):
        assert mask_latex(text).replace("\u200b", "") == meant
