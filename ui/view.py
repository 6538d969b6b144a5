"""What the browser shows: pure functions from answers and papers to HTML.

Titles, abstracts, questions and model output are data. Each goes through `shown`, which leaves no mark-up and
no control of the reading direction, and stands in an element with `dir="auto"` of its own. An *entry* is one
exchange of a conversation as plain JSON: what `rag ask --json` documents, and what `entry` adds to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rag.answering import Answer
from rag.answering.markers import split_sentences
from rag.answering.ollama import Model
from rag.bibtex import bibtex
from rag.papers import Paper
from rag.retrieval import Search
from rag.text import printable
from ui.export import plain

Entry = dict[str, Any]
Papers = Mapping[str, Paper]

_MARK = re.compile(r"[^\S\n]*\[(\d{1,3})\]")
_LABELS = {
    "supported": "Supported",
    "partial": "Partly supported",
    "unsupported": "Not supported",
    "miscited": "Source corrected",
}
_REASONS = {
    "partial": "The cited papers say only a part of this.",
    "unsupported": "The retrieved papers do not say this.",
    "miscited": "The citation was wrong and has been corrected.",
}


def shown(value: object) -> str:
    """`value` as text in HTML: no tags, no entities, no control of the reading direction."""
    return escape(printable(str(value)), quote=True)


# --- one exchange ----------------------------------------------------------------------------------------


def entry(answer: Answer, **more: Any) -> Entry:
    """The exchange that ended in `answer`; `more` is what the page adds (how it broke or was stopped)."""
    return answer.as_json() | {"hits": answer.search.as_json()["hits"], **_searched(answer.search), **more}


def unfinished(search: Search, text: str, model: str, given: int, **more: Any) -> Entry:
    """The exchange of a model that got no further than `text`: nothing in it has been verified."""
    sentences = split_sentences(text, given)
    cited = sorted({n for sentence in sentences for n in sentence.citations})
    answer = Answer(search.question, text, False, "ollama", model, sentences, (), search)
    found = entry(answer, **more)
    found["citations"] = [
        {"n": n, "paper_id": hit.paper.paper_id, "title": hit.paper.title, "evidence": []}
        for n in cited
        for hit in [search.hits[n - 1]]
    ]
    return found


def conversation(entries: Sequence[Entry], papers: Papers, scores: bool = False) -> str:
    """All exchanges, the last one with its evidence unfolded. A note is shown where it first appears."""
    told: set[str] = set()
    turns = []
    for number, item in enumerate(entries, start=1):
        notes = [note for note in item["notes"] if note not in told]
        told.update(notes)
        turns.append(_turn(f"t{number}", item, papers, notes, scores))
    return "".join(turns)


def live(question: str, stage: str, item: Entry | None, papers: Papers) -> str:
    """The exchange under way: its stage in words, and as `item` what has been written so far."""
    body = f'<p class="stage" role="status"><span class="pulse" aria-hidden="true"></span>{shown(stage)}</p>'
    aside = ""
    if item is not None:
        body = _asked(item) + f'<div class="text" dir="auto">{_linked(item["answer"], "live", item)}</div>' + body
        aside = _evidence("live", item, papers, False) if item["citations"] else ""
    return _article("live", question, f'<div class="answer" aria-busy="true">{body}</div>{aside}', "live")


def failure(question: str, message: str) -> str:
    """A question that could not be answered, and why."""
    body = f'<div class="answer"><p class="error" role="alert">{shown(message)}</p></div>'
    return _article("live", question, body, "live")


def _searched(search: Search) -> Entry:
    return {"corrections": [list(pair) for pair in search.corrections]}


def _article(turn: str, question: str, body: str, kind: str = "") -> str:
    heading = f'<h2 class="question" id="{turn}" dir="auto">{shown(question)}</h2>'
    return f'<article class="turn {kind}" aria-labelledby="{turn}">{heading}<div class="both">{body}</div></article>'


def _turn(turn: str, item: Entry, papers: Papers, notes: Sequence[str], scores: bool) -> str:
    body = _asked(item)
    if broken := item.get("broken"):
        body += (
            f'<details class="broken"><summary>{shown(broken["message"])}</summary>'
            f'<div class="text" dir="auto">{shown(broken["partial"])}</div></details>'
        )
        notes = [note for note in notes if note != broken["message"]]
    body += f'<div class="text" dir="auto">{_text(turn, item)}</div>'
    body += "".join(f'<p class="note" dir="auto">{shown(note)}</p>' for note in notes)
    body += f'<div class="meta"><p>{_meta(item)}</p>{_copy("Copy answer", plain(item))}</div>'
    return _article(turn, item["question"], f'<div class="answer">{body}</div>{_evidence(turn, item, papers, scores)}')


def _asked(item: Entry) -> str:
    """What was searched for, where that is not the question itself."""
    if item["corrections"]:
        swaps = ", ".join(f"<q>{shown(new)}</q> for <q>{shown(old)}</q>" for old, new in item["corrections"])
        return f'<p class="asked">Searched with {swaps}.</p>'
    if item["query"] != item["question"]:
        return f'<p class="asked">Searched for <q dir="auto">{shown(item["query"])}</q></p>'
    return ""


def _text(turn: str, item: Entry) -> str:
    """The answer with its sentences marked by their verdicts."""
    text, at, out = item["answer"], 0, []
    for i, sentence in enumerate(item["sentences"]):
        start, end = sentence["span"]
        if at <= start < end:  # a sentence without a place is not marked
            out += [
                _linked(text[at:start], turn, item),
                _sentence(f"{turn}s{i}", sentence, text[start:end], turn, item),
            ]
            at = end
    return "".join(out) + _linked(text[at:], turn, item)


def _sentence(id_: str, sentence: Mapping[str, Any], text: str, turn: str, item: Entry) -> str:
    verdict, linked = sentence["verdict"], _linked(text, turn, item, sentence["evidence"])
    if verdict not in _REASONS:
        return f"<span>{linked}</span>"
    reason = sentence["reason"] or _REASONS[verdict]
    return (
        f'<span class="sentence {verdict}">{linked} '
        f'<span class="flagged"><button type="button" class="flag" aria-describedby="{id_}">{_LABELS[verdict]}</button>'
        f'<span role="tooltip" id="{id_}" dir="auto">{shown(reason)}</span></span></span>'
    )


def _linked(text: str, turn: str, item: Entry, proof: Mapping[str, Any] | None = None) -> str:
    """`text` with every [n] that the exchange cites as a link to its card, and to what there proves the sentence."""
    titles = {int(c["n"]): c["title"] for c in item["citations"]}

    def link(match: re.Match[str]) -> str:
        n = int(match[1])
        if n not in titles:
            return shown(match[0])
        title = shown(titles[n])
        at = f' data-at="{int(proof["start"])}"' if proof and proof["n"] == n else ""
        return f'<a class="cite" href="#{turn}c{n}"{at} aria-label="Source {n}: {title}" title="{title}">{n}</a>'

    out, at = [], 0
    for match in _MARK.finditer(text):
        out += [shown(text[at : match.start()]), link(match)]
        at = match.end()
    return "".join(out) + shown(text[at:])


def _meta(item: Entry) -> str:
    """Who answered, how fast, and how well the answer is grounded."""
    times = item["timings_ms"]
    parts = [f"by {item['model']}" if item["model"] else "quoted from the papers"]
    if first := times.get("first_token"):
        parts.append(f"first words after {(first + times.get('search', 0)) / 1000:.1f} s")
    if speed := times.get("tokens_per_second"):
        parts.append(f"{speed:.0f} tokens/s")
    if total := times.get("total"):
        parts.append(f"{total / 1000:.2f} s" if total < 1000 else f"{total / 1000:.1f} s")
    share = (item["grounding"] or {}).get("groundedness")
    if share is not None:
        parts.append(f"{share:.0%} of the claims supported")
    if item.get("stopped"):
        parts.insert(0, "stopped, so not checked")
    return "".join(f"<span>{shown(part)}</span>" for part in parts)


def _copy(label: str, text: str) -> str:
    return f'<button type="button" class="copy" data-copy="{shown(text)}">{label}</button>'


# --- evidence --------------------------------------------------------------------------------------------


def _evidence(turn: str, item: Entry, papers: Papers, scores: bool) -> str:
    hits = {hit["paper_id"]: hit for hit in item["hits"]}
    cited = {c["paper_id"] for c in item["citations"]}
    cards = "".join(
        _card(
            f"{turn}c{int(c['n'])}",
            c,
            papers,
            _spans(c, item),
            [s for s in item["sentences"] if c["n"] in s["citations"] and s["verdict"] in _LABELS],
            hits.get(c["paper_id"]) if scores else None,
            group=turn,
            open_=position == 0,
        )
        for position, c in enumerate(item["citations"])
    )
    rest = [hit for hit in item["hits"] if hit["paper_id"] not in cited]
    others = "".join(
        _card(f"{turn}r{hit['rank']}", hit, papers, [], [], hit if scores else None, group=f"{turn}r") for hit in rest
    )
    if others:
        title = "Related, but they don't answer this" if item["abstained"] else f"Also found ({len(rest)})"
        unfolded = " open" if item["abstained"] else ""
        others = f'<details class="also"{unfolded}><summary>{title}</summary>{others}</details>'
    if not cards and not others:
        return ""
    return f'<aside class="evidence" aria-labelledby="{turn}e"><h3 id="{turn}e">Evidence</h3>{cards}{others}</aside>'


def _spans(citation: Mapping[str, Any], item: Entry) -> list[tuple[int, int]]:
    """What supports the answer in one abstract; what merely comes nearest to an unsupported sentence does not."""
    near: set[tuple[int, int]] = set()
    good: set[tuple[int, int]] = set()
    for sentence in item["sentences"]:
        proof = sentence["evidence"]
        if proof and proof["n"] == citation["n"]:
            (near if sentence["verdict"] == "unsupported" else good).add((proof["start"], proof["end"]))
    return [span for e in citation["evidence"] if (span := (e["start"], e["end"])) not in near - good]


def _card(
    id_: str,
    named: Mapping[str, Any],
    papers: Papers,
    spans: Sequence[tuple[int, int]],
    sentences: Sequence[Mapping[str, Any]],
    hit: Mapping[str, Any] | None,
    group: str,
    open_: bool = False,
) -> str:
    """One paper: its title, where it is from, its abstract with the evidence marked, and what cites it."""
    paper = papers.get(named["paper_id"])
    n = f'<span class="n">{int(named["n"])}</span>' if "n" in named else ""
    about = _about(paper) if paper else "no longer in the corpus"
    if hit:
        about += f" · score {hit['score']:.3f} (dense {hit['dense']:.3f}, lexical {hit['lexical']:.1f})"
    head = (
        f'{n}<span class="head"><bdi class="title">{shown(named["title"])}</bdi>'
        f'<span class="about"{_sources(paper)}>{shown(about)}</span></span>'
    )
    body = _verdicts(sentences)
    if paper:
        label = f"Abstract of {shown(paper.title)}"
        body = (
            f'<div class="abstract" tabindex="0" role="region" aria-label="{label}" dir="auto">'
            f"{_highlighted(paper.abstract, spans)}</div>{body}"
            f'<p class="actions">{_copy("Copy title", paper.title)}{_copy("Copy BibTeX", bibtex(paper))}</p>'
        )
    state = " open" if open_ else ""
    return f'<details class="card" id="{id_}" name="{group}"{state}><summary>{head}</summary>{body}</details>'


def _about(paper: Paper) -> str:
    """The date and the dumps of a paper."""
    return " · ".join([*([paper.date] if paper.date else []), *map(dump, paper.sources)])


def dump(name: str) -> str:
    """A file of the corpus as a person would call it: its number where it is a number and a hash."""
    match = re.fullmatch(r"(\d+)_[0-9a-f]{8,}(\.\w+)?", name)
    return f"dump {match[1]}" if match else name


def _sources(paper: Paper | None) -> str:
    return f' title="{shown(", ".join(paper.sources))}"' if paper else ""


def _verdicts(sentences: Sequence[Mapping[str, Any]]) -> str:
    def line(s: Mapping[str, Any]) -> str:
        support = "" if s["support"] is None else f' <span class="support">{s["support"]:.2f}</span>'
        why = f' <span class="why" dir="auto">{shown(s["reason"])}</span>' if s["reason"] else ""
        return (
            f'<li class="{s["verdict"]}"><strong>{_LABELS[s["verdict"]]}</strong>{support} '
            f'<q dir="auto">{shown(s["text"])}</q>{why}</li>'
        )

    return f'<ul class="verdicts">{"".join(map(line, sentences))}</ul>' if sentences else ""


def _highlighted(text: str, spans: Sequence[tuple[int, int]]) -> str:
    out, at = [], 0
    for start, end in sorted(spans):
        start = max(start, at)
        if start < end <= len(text):
            out.append(f'{shown(text[at:start])}<mark data-at="{int(start)}">{shown(text[start:end])}</mark>')
            at = end
    return "".join(out) + shown(text[at:])


# --- the other tabs, and the frame -------------------------------------------------------------------------


def listing(papers: Sequence[Paper], chosen: str = "", ranked: bool = False, most: int = 300) -> str:
    """Titles to choose from; `ranked` where the best come first."""
    rows = "".join(
        f'<li><button type="button" data-paper="{shown(p.paper_id)}"{_current(p.paper_id == chosen)}>'
        f'<bdi class="title">{shown(p.title)}</bdi><span class="about">{shown(_about(p))}</span></button></li>'
        for p in papers[:most]
    )
    more = (
        f'<p class="note">The first {most} are listed; narrow the search to see others.</p>'
        if len(papers) > most
        else ""
    )
    count = f"{len(papers)} paper{'' if len(papers) == 1 else 's'}{', best first' if ranked else ''}"
    return f'<p class="count" role="status">{count}</p><ul class="papers">{rows}</ul>{more}'


def _current(chosen: bool) -> str:
    return ' aria-current="true"' if chosen else ""


def detail(paper: Paper, near: Sequence[tuple[Paper, float]]) -> str:
    """One paper in full, with its nearest neighbours."""
    rows = "".join(
        f'<li><button type="button" data-paper="{shown(p.paper_id)}"><bdi class="title">{shown(p.title)}</bdi>'
        f'<span class="about">{cosine:.2f}</span></button></li>'
        for p, cosine in near
    )
    authors = [f"{paper.author_count} author{'' if paper.author_count == 1 else 's'}"] if paper.author_count else []
    about = " · ".join([*([paper.date] if paper.date else []), *map(dump, paper.sources), *authors, paper.paper_id])
    return (
        f'<article class="paper" aria-labelledby="paper" data-shown="{shown(paper.paper_id)}">'
        f'<h2 id="paper" dir="auto" tabindex="-1">{shown(paper.title)}</h2>'
        f'<p class="about"{_sources(paper)}>{shown(about)}</p>'
        f'<p class="abstract" dir="auto">{shown(paper.abstract)}</p>'
        f'<p class="actions"><button type="button" class="primary" data-ask="{shown(paper.paper_id)}">'
        f"Ask about this paper</button>{_copy('Copy title', paper.title)}{_copy('Copy BibTeX', bibtex(paper))}</p>"
        f'<h3>Nearest papers</h3><ul class="papers near">{rows}</ul></article>'
    )


def welcome(papers: int) -> str:
    """What the page says before the first question."""
    return (
        '<h2 class="welcome">What would you like to know?</h2>'
        f'<p class="note">{papers:,} papers to ask. Every sentence of an answer shows the abstract it comes from.</p>'
    )


def banner(where: object) -> str:
    """What to do where no Ollama server answers."""
    return (
        f'<div class="banner" role="status"><p>No Ollama server answers at <code>{shown(where)}</code>, '
        "so answers quote the papers. For written answers start one: <code>ollama serve</code></p></div>"
    )


def report(text: str, written: str) -> str:
    """An HTML report in a frame that can run nothing and reach nothing."""
    frame = f'<iframe class="report" sandbox title="Evaluation report" srcdoc="{escape(text, quote=True)}"></iframe>'
    return f'<p class="note">Written {shown(written)}</p>{frame}'


def problem(message: str) -> str:
    """What keeps a tab empty."""
    return f'<p class="note" role="status">{shown(message)}</p>'


def label(model: Model) -> str:
    """A model as the settings list it."""
    about = " ".join(part for part in (model.parameters, model.quantization, "(cloud)" if model.remote else "") if part)
    return printable(f"{model.name} · {about}" if about else model.name)
