"""The verifier: a verdict and evidence for every sentence of a draft, and corrected citations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rag.encoders.protocols import TokenEncoder
from rag.index.store import Index
from rag.text.terms import terms
from rag.types import ABSTENTION, Answer, Citation, Draft, Evidence, Paper, Sentence, Span
from rag.verification.claims import Claim, encode_claims
from rag.verification.judges import Judge, apply_entailment, is_uncertain, quoted_sentence
from rag.verification.metrics import measure
from rag.verification.sources import IndexedSources, SourceReader
from rag.verification.support import Source, best_sentence
from rag.verification.verdicts import Verdict, assess, evidence_at


class Verifier:
    """Checks sentences against papers.

    `sources` prepares a paper for matching; by default from the token embeddings in `index`. `judges` are asked in
    turn about uncertain sentences, and each may change the verdict.
    """

    def __init__(
        self, index: Index, encoder: TokenEncoder, *, sources: SourceReader | None = None, judges: Sequence[Judge] = ()
    ) -> None:
        self._index, self._encoder, self._judges = index, encoder, judges
        self._sources = sources or IndexedSources(index)

    def verify(self, draft: Draft, *, repair: bool = True, strict: bool = False) -> Answer:
        """`draft` as an answer with verdicts, evidence, citations and metrics.

        With `repair`, a miscited sentence gets the number of the paper that supports it, and a supported sentence
        without a citation gets one. An unsupported sentence is marked, or removed if `strict`; an answer that loses
        its last claim this way becomes an abstention. A draft that abstained stays as it is. Raises what the judges
        raise.
        """
        answer = draft.as_answer()
        if draft.abstained:
            return answer
        claims, verdicts = self._assess(draft.search.question, draft.sentences, draft.context)
        marked = [_marked(s, v, draft.context, repair) for s, v in zip(draft.sentences, verdicts, strict=True)]
        remaining = [None if strict and s.verdict == "unsupported" else s for s in marked]
        text, sentences = replace_sentences(draft.text, draft.sentences, remaining)
        notes = (*draft.notes, *_notes(sentences, removed=remaining.count(None)))
        if None in remaining and all(s.verdict == "not_a_claim" for s in sentences):
            return replace(answer, text=ABSTENTION, abstained=True, sentences=(), citations=(), notes=notes)
        checked = [(s, c, v) for s, c, v in zip(remaining, claims, verdicts, strict=True) if s is not None]
        return replace(
            answer,
            text=text,
            sentences=sentences,
            citations=self._citations(checked, draft.context),
            grounding=measure(_after_repair(sentence, verdict) for sentence, _, verdict in checked),
            notes=notes,
        )

    def assess(self, question: str, sentences: Sequence[Sentence], context: Sequence[Paper]) -> list[Verdict]:
        """The verdict on each of `sentences`, whose [n] is `context[n - 1]`. Raises what the judges raise."""
        return self._assess(question, sentences, context)[1]

    def _assess(
        self, question: str, sentences: Sequence[Sentence], context: Sequence[Paper]
    ) -> tuple[list[Claim | None], list[Verdict]]:
        """The claim of each sentence (None if it is a quotation or not a claim), and the verdict on it."""
        quotations = [_quotation_verdict(s, context) for s in sentences]
        texts = ["" if quotation else s.text for s, quotation in zip(sentences, quotations, strict=True)]
        claims = encode_claims(texts, [bool(s.citations) for s in sentences], self._index, self._encoder)
        question_stems = frozenset(terms(question))
        sources = [self._sources(paper) for paper in context] if any(claims) else []
        verdicts = [
            quotation
            or self._judge(
                claim, sources, sentence.citations, assess(claim, sources, sentence.citations, question_stems)
            )
            for quotation, claim, sentence in zip(quotations, claims, sentences, strict=True)
        ]
        return claims, verdicts

    def _judge(
        self, claim: Claim | None, sources: Sequence[Source], citations: Sequence[int], verdict: Verdict
    ) -> Verdict:
        """`verdict` after the judges, if there are any and the verdict is uncertain."""
        if not self._judges or claim is None or not sources or not is_uncertain(claim.text, verdict):
            return verdict
        judged_papers = list(citations) or [verdict.evidence.n if verdict.evidence else 1]
        text = "\n".join(sources[n - 1].text for n in judged_papers)
        for judge in self._judges:
            entailment = judge(claim.text, text)
            verdict = apply_entailment(verdict, entailment, judge.name, len(citations))
            for n in judged_papers:
                source = sources[n - 1]
                sentences = [source.sentence(i).text for i in range(len(source.spans))]
                if (at := quoted_sentence(entailment.quote, sentences)) >= 0:
                    verdict = replace(verdict, evidence=evidence_at(source, n, at))
                    break
        return verdict

    def _citations(
        self, checked: Sequence[tuple[Sentence, Claim | None, Verdict]], context: Sequence[Paper]
    ) -> tuple[Citation, ...]:
        """The cited papers, each with the spans that support the sentences citing it."""
        spans: dict[int, list[Span]] = {}
        for sentence, claim, verdict in checked:
            for n in sentence.citations:
                of_paper = spans.setdefault(n, [])
                # An unsupported sentence has no evidence; its closest span stays with the sentence, for comparison.
                span = self._span(n, claim, verdict, context) if verdict.label != "unsupported" else None
                if span and span not in of_paper:
                    of_paper.append(span)
        return tuple(
            Citation(
                n=n,
                paper_id=context[n - 1].paper_id,
                title=context[n - 1].title,
                evidence=tuple(sorted(of_paper, key=lambda span: span.start)),
            )
            for n, of_paper in sorted(spans.items())
        )

    def _span(self, n: int, claim: Claim | None, verdict: Verdict, context: Sequence[Paper]) -> Span | None:
        """The span of the paper cited as [n] that supports the sentence most."""
        evidence = verdict.evidence
        if evidence and evidence.n == n:
            return Span(text=evidence.text, start=evidence.start, end=evidence.end)
        if claim is None:
            return None
        source = self._sources(context[n - 1])
        at, _ = best_sentence(claim, source)
        return source.sentence(at) if at >= 0 else None


def _marked(sentence: Sentence, verdict: Verdict, context: Sequence[Paper], repair: bool) -> Sentence:
    """`sentence` with its verdict and, with `repair`, the citation that it should have."""
    reason, citations, suggested = verdict.reason, sentence.citations, verdict.suggested_citation
    if suggested is not None:
        if verdict.label == "miscited":
            reason = f"“{context[suggested - 1].title}” says this, the cited paper does not"
        if repair:
            citations = (suggested,)
    return replace(
        sentence,
        citations=citations,
        verdict=verdict.label,
        support=verdict.support,
        reason=reason,
        evidence=verdict.evidence,
        repaired_from=sentence.citations if citations != sentence.citations else None,
    )


def _after_repair(sentence: Sentence, verdict: Verdict) -> Verdict:
    """`verdict` as it counts in the metrics: a corrected citation supports its sentence."""
    return verdict if sentence.repaired_from is None else replace(verdict, entailed=True, needed=(True,))


def _quotation_verdict(sentence: Sentence, context: Sequence[Paper]) -> Verdict | None:
    """The verdict on a sentence that is quoted word for word from an abstract it cites; None if it is not."""
    for n in sentence.citations:
        paper = context[n - 1]
        start = paper.abstract.find(sentence.text)
        if start >= 0 and (not start or paper.abstract[start - 1].isspace()):
            end = start + len(sentence.text)
            return Verdict(
                label="supported",
                support=1.0,
                evidence=Evidence(n=n, paper_id=paper.paper_id, text=sentence.text, start=start, end=end),
                entailed=True,
                needed=tuple(citation == n for citation in sentence.citations),
            )
    return None


def replace_sentences(
    text: str, before: Sequence[Sentence], after: Sequence[Sentence | None]
) -> tuple[str, tuple[Sentence, ...]]:
    """`text` and its sentences after each sentence of `before` is replaced by that of `after`; None removes it.

    If the citations changed, the new ones follow the sentence. Spans are those in the new text.
    """
    out, at = "", 0
    sentences: list[Sentence] = []
    for old, new in zip(before, after, strict=True):
        (start, end), gap = old.span, text[at : old.span[0]]
        at = end
        if new is None:
            out = out.rstrip(" ") + gap.rstrip(" ")
            continue
        out += gap
        markers = "".join(f"[{n}]" for n in new.citations)
        written = text[start:end] if new.citations == old.citations else f"{new.text} {markers}".strip()
        sentences.append(replace(new, span=(len(out), len(out) + len(written))))
        out += written
    return out + text[at:], tuple(sentences)


def _notes(sentences: Sequence[Sentence], removed: int) -> list[str]:
    """What was corrected and what is unsupported, one line each."""
    corrected = sum(s.repaired_from is not None for s in sentences)
    unsupported = sum(s.verdict == "unsupported" for s in sentences)
    return [
        f"{action} {count} sentence{'' if count == 1 else 's'}{which}."
        for count, action, which in (
            (corrected, "Corrected the citation of", ""),
            (unsupported, "Marked", " that no retrieved paper supports"),
            (removed, "Removed", " that no retrieved paper supports"),
        )
        if count
    ]
