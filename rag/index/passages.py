"""Passages: the runs of whole sentences of an abstract that are embedded as one unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rag.encoders.protocols import DocumentEncoder
from rag.types import Paper

Bounds = tuple[int, int]  # (start, end) in characters of the abstract
CHUNKING = "title + whole sentences"  # the name of this method in the manifest
_TITLE_LENGTH = 200  # characters; a longer title would fill the encoder's window


def passage_id(paper_id: str, ordinal: int) -> str:
    """Id of a paper's passage number `ordinal`, from 0."""
    return f"{paper_id}#{ordinal}"


def paper_id_of(passage_id: str) -> str:
    """Id of the paper that a passage belongs to."""
    return passage_id.rpartition("#")[0]


def passage_prefix(paper: Paper) -> str:
    """What precedes each passage of a paper when it is embedded: its title, or the beginning of a long one."""
    return f"{paper.title[:_TITLE_LENGTH]}\n" if paper.title else ""


def passage_text(paper: Paper, start: int, end: int) -> str:
    """What is embedded for a passage: the title, and the passage's part of the abstract."""
    return f"{passage_prefix(paper)}{paper.abstract[start:end]}".rstrip()


def passage_spans(paper: Paper, sentences: Sequence[Bounds], encoder: DocumentEncoder) -> list[Bounds]:
    """Runs of whole `sentences` that fit the encoder's window together with the title.

    A single sentence longer than the window is cut at white space, so that no text is invisible to the encoder.
    """
    room = encoder.max_tokens - 2  # [CLS] and [SEP]
    if not sentences or encoder.token_count(passage_text(paper, 0, len(paper.abstract))) <= room:
        return [(0, len(paper.abstract))]
    room -= encoder.token_count(passage_prefix(paper))
    spans: list[Bounds] = []
    (start, end), used = sentences[0], 0
    for a, b in (part for span in sentences for part in _split(paper.abstract, span, room, encoder)):
        count = encoder.token_count(paper.abstract[a:b])
        if used and used + count > room:
            spans.append((start, end))
            start, used = a, 0
        used, end = used + count, b
    spans.append((start, end))
    return spans


def _split(text: str, span: Bounds, room: int, encoder: DocumentEncoder) -> Iterator[Bounds]:
    """`span` itself if it fits into `room` tokens, else halves of it, cut at white space if there is any."""
    a, b = span
    if b - a <= 1 or encoder.token_count(text[a:b]) <= room:
        yield span
        return
    middle = (a + b) // 2
    space = text.rfind(" ", a + 1, middle)
    cut = space if space > a else middle
    yield from _split(text, (a, cut), room, encoder)
    yield from _split(text, (cut, b), room, encoder)
