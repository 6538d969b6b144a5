"""Sentences meet papers: judge every sentence of an answer, repair its citations, collect the evidence.

The score and the verdicts are `rag.grounding`'s; this room brings them the word-piece states they need
(papers from the index, sentences from one pass of the query encoder) and applies what they find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from rag.answering import ABSTENTION, Answer, Citation, Evidence, Proof, Sentence
from rag.answering.opinion import Judge, in_doubt, quoted_sentence, settle
from rag.grounding import (
    Claim,
    Judgement,
    Source,
    bare,
    best_sentence,
    is_claim,
    judge,
    measure,
    missing_detail,
    read_claim,
    read_source,
)
from rag.grounding import Evidence as Found
from rag.index.chroma import passage_prefix
from rag.index.store import Index
from rag.papers import Paper
from rag.retrieval import Retriever, Search
from rag.text import terms

_AS_NEAR = 0.9  # share of the best score from which a hit is as likely to be the paper that is meant
_PASS = 1200  # characters of sentences encoded together, well inside the encoder's window


class Verifier:
    """Judges sentences against the papers of one index."""

    def __init__(self, index: Index, retriever: Retriever, judges: Sequence[Judge] = ()) -> None:
        """`judges` are asked in turn about sentences in doubt; each may change the verdict."""
        self.index, self.retriever, self.judges = index, retriever, judges
        self.source = lru_cache(maxsize=64)(self._source)

    def verify(self, answer: Answer, given: Sequence[Paper], repair: bool = True, strict: bool = False) -> Answer:
        """`answer`, whose [n] stands for `given[n - 1]`, with verdicts, evidence and repaired citations.

        A miscited sentence gets the number of the paper that says it, an uncited but supported one gets
        its citation (neither without `repair`); an unsupported one is marked, or removed if `strict`. An
        answer that loses its last claim this way abstains. An abstention is returned as it is.
        """
        if answer.abstained:
            return answer
        before = answer.sentences
        claims, judged = self.judge(answer.question, before, given)
        kept: list[Sentence | None] = []
        delivered: list[Judgement] = []
        proofs: dict[int, list[Evidence]] = {}
        for sentence, claim, found in zip(before, claims, judged, strict=True):
            if found.verdict == "unsupported" and strict:
                kept.append(None)
                continue
            after = _marked(sentence, found, given, repair)
            if after.repaired_from is not None:
                found = replace(found, entailed=True, needed=(True,))
            delivered.append(found)
            kept.append(after)
            # What supports nothing is no evidence; the nearest sentence stays with the sentence itself, to compare.
            for n in after.citations if found.verdict != "unsupported" else ():
                evidence = self._evidence(claim, found, given[n - 1], n - 1)
                if evidence and evidence not in proofs.setdefault(n, []):
                    proofs[n].append(evidence)
        text, sentences = _rewrite(answer.text, before, kept)
        notes = (*answer.notes, *_told(sentences, kept.count(None)))
        if None in kept and all(s.verdict == "not_a_claim" for s in sentences):
            return replace(answer, text=ABSTENTION, abstained=True, sentences=(), citations=(), notes=notes)
        numbers = sorted({n for s in sentences for n in s.citations})
        citations = tuple(
            Citation(
                n, given[n - 1].paper_id, given[n - 1].title, tuple(sorted(proofs.get(n, []), key=lambda e: e.start))
            )
            for n in numbers
        )
        grounding = measure(delivered)
        return replace(answer, text=text, sentences=sentences, citations=citations, notes=notes, grounding=grounding)

    def doubt(self, search: Search, threshold: float) -> str:
        """Why the hits seem not to answer the question, in one line; empty if they may."""
        if not search.hits:
            return "Nothing was found."
        near = [hit.paper for hit in search.hits if hit.score >= _AS_NEAR * search.hits[0].score]
        if detail := missing_detail(search.question, [f"{p.title} {p.abstract}" for p in near]):
            return f"The nearest abstracts do not mention {detail}."
        score = search.answerability
        return "" if score >= threshold else f"No paper is near enough ({score:.2f}, at least {threshold:g} is needed)."

    def judge(
        self, question: str, sentences: Sequence[Sentence], given: Sequence[Paper]
    ) -> tuple[list[Claim | None], list[Judgement]]:
        """The claim in each sentence (None where it is a quotation or no claim), and the judgement on it."""
        cited = [[n - 1 for n in s.citations] for s in sentences]
        quoted = [_quoted(s.text, given, chosen) for s, chosen in zip(sentences, cited, strict=True)]
        claims = self._claims(
            ["" if proof else s.text for s, proof in zip(sentences, quoted, strict=True)], [bool(c) for c in cited]
        )
        asked = frozenset(terms(question))
        sources = [self.source(paper.paper_id) for paper in given] if any(claims) else []
        judged = [
            proof or self._settled(claim, sources, chosen, judge(claim, sources, chosen, asked))
            for proof, claim, chosen in zip(quoted, claims, cited, strict=True)
        ]
        return claims, judged

    def _settled(
        self, claim: Claim | None, sources: Sequence[Source], cited: Sequence[int], found: Judgement
    ) -> Judgement:
        """`found` after the second opinions, where they are asked for and called for."""
        if not self.judges or claim is None or not sources or not in_doubt(claim.text, found):
            return found
        read = list(cited) or [found.evidence.paper if found.evidence else 0]
        for ask in self.judges:
            opinion = ask(claim.text, "\n".join(sources[i].text for i in read))
            found = settle(found, opinion, ask.name, len(cited))
            for i in read:
                source = sources[i]
                texts = [source.text[source.start + a : source.start + b] for a, b in source.spans]
                if (at := quoted_sentence(opinion.quote, texts)) >= 0:
                    found = replace(found, evidence=Found(i, texts[at], *source.spans[at]))
                    break
        return found

    def _claims(self, sentences: Sequence[str], cited: Sequence[bool]) -> list[Claim | None]:
        """The claim in each sentence, None where it is not one.

        All are encoded together, in passes of about _PASS characters: in context, states are no worse
        and cost less.
        """
        texts = [bare(s) if s and is_claim(s, c) else "" for s, c in zip(sentences, cited, strict=True)]
        claims: list[Claim | None] = [None] * len(texts)
        batch: list[int] = []
        for i, text in enumerate(texts):
            if batch and sum(len(texts[j]) for j in batch) + len(text) > _PASS:
                self._encode(texts, batch, claims)
                batch = []
            if text:
                batch.append(i)
        if batch:
            self._encode(texts, batch, claims)
        return claims

    def _encode(self, texts: Sequence[str], batch: Sequence[int], claims: list[Claim | None]) -> None:
        joined = "\n".join(texts[i] for i in batch)
        pieces = self.retriever.encoder.token_states(joined)
        states = self.index.project(pieces.states)
        start = 0
        for i in batch:
            end = start + len(texts[i])
            rows = [row for row, (a, b) in enumerate(pieces.offsets) if a >= start and b <= end]
            offsets = [(pieces.offsets[row][0] - start, pieces.offsets[row][1] - start) for row in rows]
            claims[i] = read_claim(texts[i], offsets, states[rows], self.index.lexical.idf)
            start = end + 1

    def _source(self, paper_id: str) -> Source:
        """The paper made ready: title and abstract, with the states kept in the index."""
        (record,) = self.index.find([paper_id])
        prefix = passage_prefix(record.paper)
        sentence_of, states = self.index.token_sentences(record), self.index.token_states(record)
        return read_source(f"{prefix}{record.paper.abstract}", sentence_of, states, len(prefix))

    def _evidence(self, claim: Claim | None, found: Judgement, paper: Paper, place: int) -> Evidence | None:
        """The span of `paper`, the one judged at `place`, that supports the sentence most."""
        if found.evidence and found.evidence.paper == place:
            return Evidence(found.evidence.text, found.evidence.start, found.evidence.end)
        source = self.source(paper.paper_id)
        at = best_sentence(claim, source)[0] if claim else -1
        if at < 0:
            return None
        start, end = source.spans[at]
        return Evidence(paper.abstract[start:end], start, end)


def _marked(sentence: Sentence, found: Judgement, given: Sequence[Paper], repair: bool) -> Sentence:
    """`sentence` with its judgement, and with the citation it should have had if `repair`."""
    reason, citations = found.reason, sentence.citations
    if found.better is not None:
        if found.verdict == "miscited":
            reason = f"“{given[found.better].title}” says this, the cited paper does not"
        if repair:
            citations = (found.better + 1,)
    return replace(
        sentence,
        citations=citations,
        verdict=found.verdict,
        support=found.support,
        reason=reason,
        evidence=_proof(found.evidence, given),
        repaired_from=sentence.citations if citations != sentence.citations else None,
    )


def _quoted(text: str, given: Sequence[Paper], cited: Sequence[int]) -> Judgement | None:
    """A sentence that stands word for word in a cited abstract is its own proof."""
    for i in cited:
        at = given[i].abstract.find(text)
        if at >= 0 and (not at or given[i].abstract[at - 1].isspace()):
            needed = tuple(j == i for j in cited)
            return Judgement("supported", 1.0, "", Found(i, text, at, at + len(text)), entailed=True, needed=needed)
    return None


def _proof(found: Found | None, given: Sequence[Paper]) -> Proof | None:
    if found is None:
        return None
    return Proof(found.paper + 1, given[found.paper].paper_id, found.text, found.start, found.end)


def _rewrite(
    text: str, before: Sequence[Sentence], after: Sequence[Sentence | None]
) -> tuple[str, tuple[Sentence, ...]]:
    """`text` with the markers of repaired sentences and without removed ones; the sentences with their new spans."""
    out, at = "", 0
    kept: list[Sentence] = []
    for old, new in zip(before, after, strict=True):
        (start, end), gap = old.span, text[at : old.span[0]]
        at = end
        if new is None:
            out = out.rstrip(" ") + gap.rstrip(" ")
            continue
        out += gap
        marks = "".join(f"[{n}]" for n in new.citations)
        piece = text[start:end] if new.citations == old.citations else f"{new.text} {marks}".strip()
        kept.append(replace(new, span=(len(out), len(out) + len(piece))))
        out += piece
    return out + text[at:], tuple(kept)


def _told(sentences: Sequence[Sentence], removed: int) -> list[str]:
    """What was repaired and what was not, a line each."""
    repaired = sum(s.repaired_from is not None for s in sentences)
    unsupported = sum(s.verdict == "unsupported" for s in sentences)
    return [
        f"{n} sentence{'s' if n > 1 else ''} {what}."
        for n, what in (
            (repaired, "got the citation of the paper that says so"),
            (unsupported, "marked: the retrieved papers do not say so"),
            (removed, "removed: the retrieved papers do not say so"),
        )
        if n
    ]
