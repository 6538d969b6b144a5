"""Claims, support, guards, verdicts, repair and metrics, on the real corpus with the real model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.encoders.numpy_bert import NumpyBertEncoder
from rag.index.store import Index
from rag.text.sentences import sentence_spans
from rag.types import ABSTENTION, Paper
from rag.verification.claims import Claim, encode_claims, is_claim, make_claim, strip_citations
from rag.verification.metrics import measure
from rag.verification.names import names
from rag.verification.numbers import numbers
from rag.verification.polarity import polarity_conflict
from rag.verification.sources import EncodedSources, IndexedSources
from rag.verification.support import Source, make_source, match
from rag.verification.verdicts import SUPPORT_THRESHOLD, Verdict, assess
from rag.verification.verifier import Verifier
from tests.helpers_verification import IN_NO_PAPER, PARAPHRASE, RFT, model_draft, paper_named, verified

NO_TOKENS = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def verifier(index: Index, queries: NumpyBertEncoder) -> Verifier:
    return Verifier(index, queries)


@pytest.fixture(scope="module")
def papers(corpus: list[Paper]) -> list[Paper]:
    """Three papers; [1] is about forgetting in fine-tuning, the others are about other things."""
    return [paper_named(corpus, start) for start in (RFT, "jina-clip-v2-", "tulu-3-")]


def claim_without_tokens(text: str) -> Claim:
    return make_claim(text, [], NO_TOKENS, lambda _: 1.0)


def source_without_tokens(text: str) -> Source:
    return make_source(text, np.zeros(0, np.int64), NO_TOKENS)


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
def test_a_sentence_that_states_nothing_is_a_claim_only_with_a_citation(sentence: str) -> None:
    assert not is_claim(sentence, cited=False)
    assert is_claim(sentence, cited=True)


def test_a_lead_in_is_not_part_of_the_claim() -> None:
    plain = "RFT reduces forgetting in continual post-training"
    assert is_claim(plain, cited=False)
    for lead_in in (
        "According to passage 1, ",
        "Based on the provided passages, ",
        "- ",
        "1. ",
        "The passage states that ",
    ):
        assert strip_citations(lead_in + plain) == plain
    assert strip_citations(f"**{plain}** [1][2].") == f"{plain}."


@given(st.text(max_size=200))
def test_no_text_breaks_the_claim_filter_or_the_guards(text: str) -> None:
    assert len(strip_citations(text)) <= len(text)
    is_claim(text, cited=False)
    names(text)
    numbers(text)
    polarity_conflict(text, text)


# --- guards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "source"),
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
def test_two_spellings_of_one_number_agree(sentence: str, source: str) -> None:
    claim = claim_without_tokens(sentence)
    for text in (f"{sentence.removesuffix('.')} with {source}.", source):
        assert assess(claim, [source_without_tokens(text)], [1]).novel_numbers == ()


@pytest.mark.parametrize(
    ("number", "in_source"), [("87%", "85%"), ("3.5x", "3.4x"), ("4,523,001", "4523000"), ("7B", "70B"), ("ten", "12")]
)
def test_a_different_number_is_novel(number: str, in_source: str) -> None:
    claim = claim_without_tokens(f"The accuracy rises to {number} there.")
    source = source_without_tokens(f"The accuracy rises to {in_source} there.")
    assert assess(claim, [source], [1]).novel_numbers == (number,)


def test_a_name_is_recognised_in_any_spelling() -> None:
    source = source_without_tokens("We train LLaVA 1.5 and GPT4 on ImageNet with low rank adaptation.")
    for sentence, novel in (
        ("They train LLaVA-1.5 on ImageNet", ()),
        ("They train GPT-4 with LoRA on ImageNets", ("LoRA",)),
        ("They train Qwen2 on ImageNet", ("Qwen2",)),
    ):
        assert assess(claim_without_tokens(sentence), [source], [1]).novel_names == novel


def test_only_opposites_are_a_polarity_conflict() -> None:
    assert polarity_conflict("RFT does not reduce forgetting", "RFT reduces forgetting")
    assert polarity_conflict("RFT reduces forgetting", "RFT does not reduce forgetting")
    assert polarity_conflict("The loss increases forgetting", "The loss reduces forgetting")
    assert polarity_conflict("RFT reduces forgetting", "RFT reduces forgetting of old tasks") is None
    assert polarity_conflict("RFT doesn't reduce forgetting", "RFT does not reduce forgetting") is None


# --- verdicts and repair ---------------------------------------------------------------------------


def test_a_paraphrase_of_the_cited_paper_is_supported(verifier: Verifier, papers: list[Paper]) -> None:
    answer = verified(verifier, papers, f"{PARAPHRASE} [1].")
    (sentence,) = answer.sentences
    assert sentence.verdict == "supported" and sentence.support is not None and sentence.support >= SUPPORT_THRESHOLD
    assert sentence.citations == (1,) and sentence.repaired_from is None and sentence.reason == ""
    evidence, paper = sentence.evidence, papers[0]
    assert evidence and paper.abstract[evidence.start : evidence.end] == evidence.text
    assert (evidence.n, evidence.paper_id) == (1, paper.paper_id) and answer.context == tuple(papers)
    assert answer.citations[0].evidence[0].text == evidence.text
    assert answer.grounding and answer.grounding.groundedness == 1.0 and answer.grounding.citation_precision == 1.0


def test_a_wrong_citation_is_corrected_and_noted(verifier: Verifier, papers: list[Paper]) -> None:
    answer = verified(verifier, papers, f"{PARAPHRASE} [2].")
    (sentence,) = answer.sentences
    assert sentence.verdict == "miscited" and sentence.repaired_from == (2,) and sentence.citations == (1,)
    assert papers[0].title in sentence.reason
    assert "[1]" in answer.text and "[2]" not in answer.text and [c.n for c in answer.citations] == [1]
    assert answer.grounding and answer.grounding.misattributed == 1
    assert answer.notes == ("Corrected the citation of 1 sentence.",)


def test_without_repair_the_text_stays_as_it_was(verifier: Verifier, papers: list[Paper]) -> None:
    text = f"{PARAPHRASE} [2]. {IN_NO_PAPER}."
    answer = verified(verifier, papers, text, repair=False)
    assert answer.text == text and [s.verdict for s in answer.sentences] == ["miscited", "unsupported"]
    assert answer.sentences[0].citations == (2,)


def test_a_supported_sentence_without_a_citation_gets_one(verifier: Verifier, papers: list[Paper]) -> None:
    answer = verified(verifier, papers, f"{PARAPHRASE}.")
    (sentence,) = answer.sentences
    assert sentence.verdict == "supported" and sentence.citations == (1,) and sentence.repaired_from == ()
    assert [c.paper_id for c in answer.citations] == [papers[0].paper_id]


def test_an_unsupported_sentence_is_marked_or_removed(verifier: Verifier, papers: list[Paper]) -> None:
    text = f"{PARAPHRASE} [1]. {IN_NO_PAPER} [2]."
    marked = verified(verifier, papers, text)
    assert [s.verdict for s in marked.sentences] == ["supported", "unsupported"] and marked.text == text
    assert marked.grounding and marked.grounding.groundedness == 0.5 and len(marked.unsupported) == 1
    strict = verified(verifier, papers, text, strict=True)
    assert strict.text == f"{PARAPHRASE} [1]." and len(strict.sentences) == 1
    assert [c.n for c in strict.citations] == [1] and "Removed 1 sentence" in " ".join(strict.notes)


def test_a_strict_answer_without_a_supported_claim_is_an_abstention(verifier: Verifier, papers: list[Paper]) -> None:
    answer = verified(verifier, papers, f"{IN_NO_PAPER} [1].", strict=True)
    assert answer.abstained and answer.text == ABSTENTION and answer.citations == answer.sentences == ()


def test_a_changed_number_is_partial_and_both_numbers_are_named(verifier: Verifier, corpus: list[Paper]) -> None:
    paper, quoted = next((p, s) for p in corpus for s in sentences_of(p) if "%" in s and len(numbers(s)) == 1)
    (number,) = numbers(quoted)
    changed = quoted.replace(number.text, "3.21%")
    (sentence,) = verified(verifier, [paper], f"{changed} [1]").sentences
    assert sentence.verdict == "partial" and sentence.reason == f"says 3.21%, the abstract says {number.text}"


def test_spans_locate_the_sentences_in_the_text(verifier: Verifier, papers: list[Paper]) -> None:
    answer = verified(verifier, papers, f"- {PARAPHRASE} [2].\n- {PARAPHRASE}.\n\n{IN_NO_PAPER} [1].")
    for sentence in answer.sentences:
        start, end = sentence.span
        assert sentence.text.rstrip(".") in answer.text[start:end]
        for n in sentence.citations:
            assert f"[{n}]" in answer.text[start:end]


def test_a_quotation_is_its_own_evidence(verifier: Verifier, corpus: list[Paper]) -> None:
    paper = corpus[0]
    for quoted in sentences_of(paper):
        (sentence, *_) = verified(verifier, [paper], f"{quoted} [1]").sentences
        assert sentence.verdict == "supported" and sentence.evidence and sentence.evidence.text == sentence.text


def test_guards_accept_the_sentences_of_the_corpus(
    index: Index, queries: NumpyBertEncoder, corpus: list[Paper]
) -> None:
    # As claims: `Verifier` would recognise them as quotations.
    sources = IndexedSources(index)
    wrong = total = 0
    for paper in corpus[::12]:
        for quoted in sentences_of(paper):
            (claim,) = encode_claims([quoted], [True], index, queries)
            total += 1
            wrong += assess(claim, [sources(paper)], [1]).label != "supported"
    assert total > 300 and wrong <= 0.002 * total


def test_the_same_text_gets_the_same_verdicts(verifier: Verifier, papers: list[Paper]) -> None:
    text = f"{PARAPHRASE} [2]. {IN_NO_PAPER}."
    assert verified(verifier, papers, text) == verified(verifier, papers, text)


def test_verdicts_of_single_sentences_are_those_of_the_answer(verifier: Verifier, papers: list[Paper]) -> None:
    draft = model_draft(f"{PARAPHRASE} [2]. {IN_NO_PAPER}.", papers)
    verdicts = verifier.assess(draft.search.question, draft.sentences, papers)
    answer = verifier.verify(draft)
    assert [(v.label, v.support) for v in verdicts] == [(s.verdict, s.support) for s in answer.sentences]
    assert verdicts[0].suggested_citation == 1


# --- papers outside the index ----------------------------------------------------------------------


def test_a_paper_outside_the_index_is_encoded_in_windows(index: Index, queries: NumpyBertEncoder) -> None:
    filler = "Gradient descent minimises the loss of a network on its training data. " * 80
    paper = Paper(paper_id="new", title="A title", abstract=f"{filler}{IN_NO_PAPER}.")
    source = EncodedSources(index, queries)(paper)
    assert len(source.vectors) == len(source.token_sentences) > queries.max_tokens
    assert source.token_sentences[0] == -1 and source.token_sentences[-1] == len(source.spans) - 1
    (claim,) = encode_claims([f"Penguins {IN_NO_PAPER.partition(' ')[2]}"], [True], index, queries)
    assert claim and match(claim, source).support > 0.8
    outside = Verifier(index, queries, sources=EncodedSources(index, queries))
    (sentence,) = verified(outside, [paper], f"Every winter {IN_NO_PAPER.removesuffix(' every winter')} [1].").sentences
    assert sentence.verdict == "supported" and sentence.evidence and sentence.evidence.text == f"{IN_NO_PAPER}."
    empty = EncodedSources(index, queries)(Paper(paper_id="empty", title="", abstract=""))
    assert len(empty.vectors) == 0 and empty.spans == ()


# --- metrics ---------------------------------------------------------------------------------------


def test_a_refusal_has_no_metrics(verifier: Verifier, papers: list[Paper]) -> None:
    answer = verified(verifier, papers, "The passages do not mention this.")
    assert answer.grounding == measure([]) and answer.grounding.groundedness is None
    abstained = replace(model_draft("", papers), text=ABSTENTION, abstained=True)
    answer = verifier.verify(abstained)
    assert answer.abstained and answer.text == ABSTENTION and answer.grounding is None
    assert answer.sentences == answer.citations == ()


def test_without_a_citation_recall_is_zero_and_precision_is_none() -> None:
    metrics = measure([Verdict(label="supported", support=0.9), Verdict(label="unsupported", support=0.1)])
    assert metrics.citation_recall == 0.0 and metrics.citation_precision is None and metrics.citation_coverage == 0.0
    assert metrics.groundedness == 0.5 and metrics.min_support == 0.1


def test_metrics_follow_their_definitions() -> None:
    metrics = measure(
        [
            Verdict(label="supported", support=0.8, entailed=True, needed=(True, False)),
            Verdict(label="partial", support=0.7, entailed=True, needed=(True,), novel_numbers=("87%",)),
            Verdict(label="miscited", support=0.3, suggested_citation=2, needed=(False,)),
            Verdict(label="unsupported", support=0.2, needed=(False,), novel_names=("GPT-9", "X1")),
            Verdict(label="not_a_claim"),
        ]
    )
    assert metrics.groundedness == pytest.approx(2.5 / 4) and metrics.citation_recall == 0.5
    assert metrics.citation_precision == pytest.approx(2 / 5) and metrics.citation_coverage == 1.0
    assert (metrics.misattributed, metrics.novel_numbers, metrics.novel_names) == (1, 1, 2)
    assert metrics.min_support == 0.2


def test_two_papers_together_support_what_neither_does_alone(verifier: Verifier, papers: list[Paper]) -> None:
    both = f"{PARAPHRASE}, and jina-clip-v2 is a contrastive vision-language model trained on text pairs [1][2]."
    (sentence,) = verified(verifier, papers, both).sentences
    assert sentence.verdict in ("supported", "partial") and sentence.citations == (1, 2)
    (alone,) = verified(verifier, papers[:1], both.replace("[2]", "")).sentences
    assert (alone.support or 0) < (sentence.support or 0)


def sentences_of(paper: Paper) -> list[str]:
    return [paper.abstract[start:end] for start, end in sentence_spans(paper.abstract)]
