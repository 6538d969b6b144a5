"""The HTML that the browser shows: functions that prepare the data of a template in `ui/templates` and render it.

Titles, abstracts, questions and model output are data. The templates escape every value, `printable` replaces its
control characters and bidirectional overrides, and an element with `dir="auto"` isolates its reading direction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rag.answering.citations import find_citations
from rag.corpus.bibtex import bibtex
from rag.text.display import printable
from rag.types import Paper
from ui.entries import Entry, author, plain_text

Papers = Mapping[str, Paper]

_LABELS = {
    "supported": "Supported",
    "partial": "Partly supported",
    "unsupported": "Not supported",
    "miscited": "Source corrected",
}
_DEFAULT_REASONS = {  # of the verdicts that are marked in the answer
    "partial": "The cited papers support only a part of this.",
    "unsupported": "The retrieved papers do not say this.",
    "miscited": "The citation was wrong and has been corrected.",
}


class _Piece(NamedTuple):
    """A piece of text; of an answer: the citation [n] if `n` is not 0, and then `text` is the title of the paper.

    `offset`: where the evidence starts in the abstract, if the piece is evidence or cites it.
    """

    text: str
    n: int = 0
    offset: int | None = None


def render(name: str, **data: Any) -> str:
    """The template `name` with `data`."""
    return _TEMPLATES.get_template(f"{name}.html.jinja").render(**data).strip()


# --- one exchange ----------------------------------------------------------------------------------------


def conversation(entries: Sequence[Entry], papers: Papers, scores: bool = False) -> str:
    """All exchanges. A note is shown at the first exchange that has it."""
    seen: set[str] = set()
    turns = []
    for number, entry in enumerate(entries, start=1):
        id_, broken = f"t{number}", entry.get("broken")
        notes = [note for note in entry["notes"] if note not in seen and not (broken and note == broken["message"])]
        seen.update(entry["notes"])
        turn = {"id": id_, "entry": entry, "broken": broken, "notes": notes, "runs": _runs(entry)}
        turn |= {"facts": _facts(entry), "plain_text": plain_text(entry)}
        turns.append(turn | _cards(id_, entry, papers, scores))
    return render("conversation", turns=turns)


def live(question: str, stage: str, entry: Entry | None, papers: Papers) -> str:
    """The exchange under way: its stage in words, and in `entry` what has been written so far."""
    pieces = _pieces(entry, 0, len(entry["answer"])) if entry else []
    cards = _cards("live", entry, papers) if entry and entry["citations"] else {"cards": [], "others": []}
    return render("live", question=question, stage=stage, entry=entry, pieces=pieces, **cards)


def _runs(entry: Entry) -> list[tuple[list[_Piece], Entry | None]]:
    """The answer in pieces: each sentence with what verification found, and the text between them with None."""
    runs: list[tuple[list[_Piece], Entry | None]] = []
    position = 0
    for sentence in entry["sentences"]:
        start, end = sentence["span"]
        if position <= start < end:  # a sentence without a place is not marked
            runs.append((_pieces(entry, position, start), None))
            runs.append((_pieces(entry, start, end, sentence["evidence"]), sentence))
            position = end
    return [*runs, (_pieces(entry, position, len(entry["answer"])), None)]


def _pieces(entry: Entry, start: int, end: int, evidence: Entry | None = None) -> list[_Piece]:
    """`entry["answer"][start:end]`; every [n] that the exchange cites becomes a link, which `evidence` directs."""
    titles = {citation["n"]: citation["title"] for citation in entry["citations"]}
    pieces = []
    for first, last, n in find_citations(entry["answer"]):
        if n in titles and start <= first and last <= end:
            offset = evidence["start"] if evidence and evidence["n"] == n else None
            pieces.append(_Piece(text=entry["answer"][start:first].rstrip(" \t")))
            pieces.append(_Piece(text=titles[n], n=n, offset=offset))
            start = last
    return [*pieces, _Piece(text=entry["answer"][start:end])]


def _facts(entry: Entry) -> list[str]:
    """Who answered, how fast, and which share of the claims is supported."""
    timings = entry["timings_ms"]
    facts = ["stopped, so not checked"] if entry.get("stopped") else []
    facts.append(author(entry))
    if first := timings.get("first_token"):
        facts.append(f"first words after {(first + timings.get('search', 0)) / 1000:.1f} s")
    if speed := timings.get("tokens_per_second"):
        facts.append(f"{speed:.0f} tokens/s")
    if total := timings.get("total"):
        facts.append(f"{total / 1000:.2f} s" if total < 1000 else f"{total / 1000:.1f} s")
    share = (entry["grounding"] or {}).get("groundedness")
    if share is not None:
        facts.append(f"{share:.0%} of the claims supported")
    return facts


# --- evidence --------------------------------------------------------------------------------------------


def _cards(id_: str, entry: Entry, papers: Papers, with_scores: bool = False) -> dict[str, Any]:
    """The `cards` of the papers that an exchange cites, and of the `others` that were found."""
    hits = {hit["paper_id"]: hit for hit in entry["hits"]}
    scores = {paper_id: _scores(hit) if with_scores else "" for paper_id, hit in hits.items()}
    cards = []
    for citation in entry["citations"]:
        n = citation["n"]
        judged = [s for s in entry["sentences"] if n in s["citations"] and s["verdict"] in _LABELS]
        card = _card(f"{id_}c{n}", id_, citation, papers, scores, _spans(citation, entry["sentences"]))
        cards.append(card | {"n": n, "sentences": judged})
        hits.pop(citation["paper_id"], None)
    others = [_card(f"{id_}r{hit['rank']}", f"{id_}r", hit, papers, scores) for hit in hits.values()]
    return {"cards": cards, "others": others}


def _card(
    id_: str, group: str, cited: Entry, papers: Papers, scores: Mapping[str, str], spans: Sequence[tuple[int, int]] = ()
) -> dict[str, Any]:
    """One paper with `spans` highlighted; `paper` is None if the corpus no longer has it."""
    paper = papers.get(cited["paper_id"])
    abstract = _highlighted(paper.abstract, spans) if paper else []
    card = {"id": id_, "group": group, "title": cited["title"], "paper": paper, "abstract": abstract}
    return card | {"scores": scores.get(cited["paper_id"], ""), "n": 0, "sentences": ()}


def _scores(hit: Entry) -> str:
    bm25 = hit.get("bm25", hit.get("lexical"))  # a conversation that an earlier version saved has "lexical"
    return f" · score {hit['score']:.3f} (dense {hit['dense']:.3f}, BM25 {bm25:.1f})"


def _spans(citation: Entry, sentences: Sequence[Entry]) -> list[tuple[int, int]]:
    """The evidence in one abstract, without the spans that are only nearest to an unsupported sentence."""
    supporting: dict[tuple[int, int], bool] = {}
    for sentence in sentences:
        evidence = sentence["evidence"]
        if evidence and evidence["n"] == citation["n"]:
            span = evidence["start"], evidence["end"]
            supporting[span] = supporting.get(span, False) or sentence["verdict"] != "unsupported"
    spans = [(span["start"], span["end"]) for span in citation["evidence"]]
    return [span for span in spans if supporting.get(span, True)]


def _highlighted(text: str, spans: Sequence[tuple[int, int]]) -> list[_Piece]:
    """`text` with an offset at each of `spans`."""
    pieces, position = [], 0
    for start, end in sorted(spans):
        start = max(start, position)
        if start < end <= len(text):
            pieces += [_Piece(text=text[position:start]), _Piece(text=text[start:end], offset=start)]
            position = end
    return [*pieces, _Piece(text=text[position:])]


# --- papers ----------------------------------------------------------------------------------------------


def paper_list(papers: Sequence[Paper], chosen: str = "", ranked: bool = False, limit: int = 300) -> str:
    """Titles to choose from; `ranked`: the best come first."""
    return render("papers", papers=papers, chosen=chosen, ranked=ranked, limit=limit)


def paper_page(paper: Paper, similar: Sequence[tuple[Paper, float]]) -> str:
    """One paper in full, with the most similar papers."""
    authors = [f"{paper.author_count} author{'' if paper.author_count == 1 else 's'}"] if paper.author_count else []
    return render("paper", paper=paper, facts=[*_date_and_dumps(paper), *authors, paper.paper_id], similar=similar)


def dump_name(source: str) -> str:
    """A name for a file of the corpus: "dump N" if the file name is a number and a hash, else the file name."""
    match = re.fullmatch(r"(\d+)_[0-9a-f]{8,}(\.\w+)?", source)
    return f"dump {match[1]}" if match else source


def _date_and_dumps(paper: Paper) -> list[str]:
    return [*([paper.date] if paper.date else []), *map(dump_name, paper.sources)]


# --- the templates --------------------------------------------------------------------------------------


def _printable(value: Any) -> Any:
    """Text that is data without control characters; anything else as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals |= {"labels": _LABELS, "reasons": _DEFAULT_REASONS}
_TEMPLATES.filters |= {"bibtex": bibtex, "about": lambda paper: " · ".join(_date_and_dumps(paper))}
