"""Marks in a model's output, read while it streams: reasoning tags and citation markers.

Both readers take chunks of any size and give the same result however the text was cut: what could still
become a mark is held back, and a mark is decided only when the characters that could change it have come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag.answering import Sentence
from rag.text import sentence_spans

# --- reasoning -----------------------------------------------------------------------------------------

_OPENING = ("<think>", "<thinking>")
_CLOSING = ("</think>", "</thinking>")
_CLOSE = re.compile(r"</think(?:ing)?>")
_STRAY_CLOSE = re.compile(r"\n[^\S\n]*</think(?:ing)?>")


class Reasoning:
    """Splits content into reasoning and answer.

    Reasoning opens only where the content begins, so that an answer may speak of `<think>` tags. A closing
    tag alone on its line, with no opening one before it, means that all before it was reasoning: some chat
    templates write the opening tag into the prompt.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"
        self._thought = False

    def feed(self, chunk: str, last: bool = False) -> Iterator[tuple[str, str]]:
        """("thinking" | "answer", text) and ("discard", "") when the answer so far was reasoning."""
        self._held += chunk
        while True:
            before = (self._state, self._held)
            yield from self._step(last)
            if (self._state, self._held) == before or not self._held:
                return

    def _step(self, last: bool) -> Iterator[tuple[str, str]]:
        if self._state == "start":
            text = self._held.lstrip()
            if tag := next((tag for tag in _OPENING + _CLOSING if text.startswith(tag)), None):
                self._state = "thinking" if tag in _OPENING else "start"
                self._held, self._thought = text[len(tag) :], True
            elif last or not any(tag.startswith(text) for tag in _OPENING + _CLOSING):
                self._state, self._held = "answer", text
        elif self._state == "thinking":
            match = _CLOSE.search(self._held)
            end = match.start() if match else len(self._held) if last else _safe(self._held, "<", _CLOSING)
            if end:
                yield "thinking", self._held[:end]
            self._held = self._held[match.end() if match else end :]
            self._state = "start" if match else "thinking"
        else:
            match = None if self._thought else _STRAY_CLOSE.search(self._held)
            if match:
                rest, self._held = self._held[: match.start()], self._held[match.end() :]
                self._state, self._thought = "start", True
                yield "discard", ""
                if rest:
                    yield "thinking", rest
                return
            end = len(self._held) if last or self._thought else _safe(self._held, "\n", _CLOSING)
            if end:
                yield "answer", self._held[:end]
            self._held = self._held[end:]


def _safe(text: str, opener: str, tags: tuple[str, ...]) -> int:
    """Characters of `text` before the last `opener` that could still grow into one of `tags`."""
    at = text.rfind(opener)
    rest = text[at:].strip()
    return at if at >= 0 and any(tag.startswith(rest) for tag in tags) else len(text)


# --- citations -----------------------------------------------------------------------------------------

_NAMES = "passages?|papers?|sources?|documents?|abstracts?|references?|refs?"
_LIST = (
    r"\d{1,3}(?:\s{0,2}(?:,|;|&|–|—|-|\band\b|\bto\b)\s{0,2}(?:and\s{1,2})?"
    rf"(?:(?:{_NAMES})\s{{1,2}})?#?\d{{1,3}}){{0,20}}"
)
_BRACKETS = re.compile(
    rf"(?P<open>[\[［]{{1,2}}|【|\()\s{{0,2}}(?P<named>(?:{_NAMES})\.?\s{{0,2}})?[#^]?"
    rf"(?P<list>{_LIST})(?:†[^】\]］)\n]{{0,24}})?\s{{0,2}}(?:[\]］]{{1,2}}|】|\))",
    re.IGNORECASE,
)
_WORDS = re.compile(  # only a plural takes a list: "In Passage 1, 2 models are compared"
    r"(?:(?:[Pp]assages|Papers|Sources|Documents|Abstracts)\s{1,2}"
    r"(?P<many>#?\d{1,3}(?:\s{0,2}(?:,|&|–|-|\band\b)\s{0,2}(?:and\s{1,2})?#?\d{1,3}){0,20})"
    r"|(?:[Pp]assage|Paper|Source|Document|Abstract)\s{1,2}#?(?P<one>\d{1,3}))"
)
# What a marker looks like before it is whole; at the end of the text so far it has to wait.
_UNFINISHED = re.compile(
    r"(?:[\[［]{1,2}|【|\()\s{0,2}(?:[A-Za-z]{1,10}\.?\s{0,2})?[#^]?"
    r"(?:\d[\w\s,;&–—#-]{0,500}(?:†[^】\]］)\n]{0,24})?)?[\]］]?\Z"
)
_UNFINISHED_WORDS = re.compile(r"[A-Za-z]{1,9}(?:\s{1,2}#?(?:\d[\d\s,&–#and-]*)?)?\Z")
_COUNTED = ("passages", "papers", "sources", "documents", "abstracts")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_START = re.compile(r"[\[［【(`⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]|(?<![^\W_])[PpSDA](?=[a-z]|\Z)")
_NUMBERED = re.compile(  # "Equation (1)" is no citation
    r"(?:eqs?|equations?|figs?|figures?|tables?|sections?|steps?|stages?|phases?|cases?|items?|parts?|options?|"
    r"algorithms?|theorems?|lemmas?|types?|conditions?|definitions?|levels?|properties|property)\.?\s*\Z",
    re.IGNORECASE,
)
_ENDS_CLAUSE = re.compile(r"\s{0,2}(?:[.,;:!?]|\Z)|\s{0,2}\n|\(\d|\[\d")
_AHEAD = 4  # characters after a marker that can change what it means
_AROUND = 200  # characters beside a marker that are looked at, so that a long answer costs no more per marker
_TIGHT = re.compile(r"\s|[.,;:!?)\]]")


class Markers:
    """Turns every way of citing passages 1 to `given` into [n], and drops numbers that were not given.

    Left as they are: code in backticks, `x[1]`, intervals such as [0, 1], [0.85], [MASK], years, "(1) first",
    "Equation (1)", powers such as 10². A parenthesis counts as a citation only where a clause ends.
    """

    def __init__(self, given: int) -> None:
        self.given = given
        self.dropped = 0  # numbers cited that were never given
        self._raw = ""
        self._done = 0  # characters of _raw that are decided
        self._fence = ""  # the backticks that opened the code we are in
        self._space = ""  # white space not written yet: a dropped marker takes it along
        self._last = ""  # last character written
        self._gap = False  # a marker was dropped just now

    def feed(self, chunk: str, last: bool = False) -> str:
        """The normalised text that `chunk` settles; call with `last` once, at the end."""
        self._raw += chunk
        out: list[str] = []
        while self._done < len(self._raw):
            piece, end = self._next(last)
            if end == self._done:
                break
            self._done = end
            out.append(piece)
        return "".join(out)

    def _next(self, last: bool) -> tuple[str, int]:
        """The next settled piece and where it ends in the raw text; the same place if nothing is settled."""
        raw, at = self._raw, self._done
        if self._fence:
            return self._code(last)
        start = _START.search(raw, at)
        if start is None:
            return self._put(raw[at:]), len(raw)
        if start.start() > at:
            return self._put(raw[at : start.start()]), start.start()
        if raw[at] == "`":
            run = len(raw) - at - len(raw[at:].lstrip("`"))
            if at + run == len(raw) and not last:
                return "", at
            self._fence = "`" * run
            return self._put(self._fence), at + run
        match, unfinished = self._match(at, last)
        if not last:
            if match and match.end() + _AHEAD > len(raw):
                return "", at
            if not match and unfinished:
                return "", at
        if match:
            numbers = self._numbers(match)
            if numbers is not None:
                return self._cite(match, numbers), match.end()
        end = match.end() if match and match.re is _RAISED else at + 1
        return self._put(raw[at:end]), end

    def _code(self, last: bool) -> tuple[str, int]:
        """Code up to its closing backticks; inline code ends with its line."""
        raw, at = self._raw, self._done
        inline = len(self._fence) < 3
        for match in re.finditer(r"`+|\n" if inline else r"`+", raw[at:]):
            if at + match.end() == len(raw) and not last and match.group() != "\n":
                return self._put(raw[at : at + match.start()]), at + match.start()
            if match.group() in ("\n", self._fence):
                self._fence = ""
                return self._put(raw[at : at + match.end()]), at + match.end()
        return self._put(raw[at:]), len(raw)

    def _match(self, at: int, last: bool) -> tuple[re.Match[str] | None, bool]:
        """The marker that begins at `at`, else None and whether one still may."""
        raw = self._raw
        if _RAISED.match(raw, at):
            return _RAISED.match(raw, at), True
        if raw[at].isascii() and raw[at].isalpha():
            unfinished = _UNFINISHED_WORDS.match(raw, at)
            word = re.match(r"[a-z]*", raw[at : at + _AROUND].lower())
            name = word.group() if word else ""
            whole = name in _COUNTED or f"{name}s" in _COUNTED
            may = unfinished and (whole or (unfinished.group().isalpha() and any(n.startswith(name) for n in _COUNTED)))
            # A list may still grow ("Passages 1 and 2"), so a match at the end of the text waits too.
            return (None, True) if may and not last else (_WORDS.match(raw, at), False)
        return _BRACKETS.match(raw, at), bool(_UNFINISHED.match(raw, at))

    def _numbers(self, match: re.Match[str]) -> list[int] | None:
        """The numbers `match` cites, given or not; None if it is ordinary text."""
        before = self._raw[max(0, match.start() - _AROUND) : match.start()]
        after = self._raw[match.end() : match.end() + _AROUND]
        attached = bool(before) and (before[-1].isalnum() or before[-1] == "_")
        if match.re is _RAISED:
            word = re.search(r"[^\W\d_]*\Z", before)
            power = attached and (word is None or len(word.group()) < 3)
            digits = match.group().translate(_SUPERSCRIPTS)
            if power or not digits.isdecimal():
                return None
            whole = int(digits)
            apart = [int(d) for d in digits]
            return apart if not 1 <= whole <= self.given and all(1 <= n <= self.given for n in apart) else [whole]
        if match.re is _WORDS:
            if re.match(r"\w|%|[.,]\d", after):
                return None
            return _expand(match["many"] or match["one"])
        numbers = _expand(match["list"])
        if match["open"] == "(":
            if match["named"]:
                return numbers
            line = before.rpartition("\n")[2].rstrip()
            cited = _ENDS_CLAUSE.match(after) and line and not attached and not _NUMBERED.search(line)
            return numbers if cited and numbers and all(1 <= n <= self.given for n in numbers) else None
        if not numbers or 0 in numbers or max(numbers) > max(99, self.given):
            return None  # an interval, an index, a size
        name = re.search(r"\w*\Z", before)
        if match["open"] == "[" and attached and name and (len(name.group()) == 1 or "_" in name.group()):
            return None  # x[1], in code without backticks
        return numbers

    def _cite(self, match: re.Match[str], numbers: list[int]) -> str:
        kept = list(dict.fromkeys(n for n in numbers if 1 <= n <= self.given))
        self.dropped += len({n for n in numbers if not 1 <= n <= self.given})
        if kept:
            glue = "" if self._space or self._last in ("", "]", "(", "[", "\n", "“", '"') else " "
            return self._put(glue + "".join(f"[{n}]" for n in kept))
        if match.re is _WORDS:
            return self._put(match.group())  # prose that needs its words
        self._gap = True
        return ""

    def _put(self, text: str) -> str:
        """`text` with the white space before it, but without the space at its own end."""
        if self._gap:
            self._gap = False
            if _TIGHT.match(text):
                self._space = ""
        body = text.rstrip()
        if not body:
            self._space += text
            return ""
        lead, self._space = self._space, text[len(body) :]
        written = lead + body if self._last else body.lstrip()
        self._last = body[-1]
        return written


def _expand(listed: str) -> list[int]:
    """The numbers of "1, 3-5 and 7"; a range of more than 20 counts as its two ends."""
    numbers: list[int] = []
    for low, high in re.findall(r"(\d+)(?:\s*(?:–|—|-|to)\s*#?(\d+))?", listed):
        a, b = int(low), int(high or low)
        numbers.extend(range(a, b + 1) if a <= b <= a + 20 else (a, b))
    return numbers


# --- sentences -----------------------------------------------------------------------------------------

_MARK = re.compile(r"(?P<code>(?P<ticks>`+).*?(?P=ticks))|\s*(?<!\w)\[(?P<n>\d{1,3})\]", re.DOTALL)


def split_sentences(text: str, given: int) -> tuple[Sentence, ...]:
    """The sentences of normalised `text`, without their markers, and the numbers each cites.

    A marker that stands alone belongs to the sentence before it.
    """
    sentences: list[Sentence] = []
    for start, end in sentence_spans(text):
        marks = [m for m in _MARK.finditer(text, start, end) if m["n"] and 1 <= int(m["n"]) <= given]
        edges = [start, *(edge for m in marks for edge in m.span()), end]
        bare = "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).strip()
        cited = tuple(dict.fromkeys(int(m["n"]) for m in marks))
        if sentences and not re.search(r"\w", bare):
            last = sentences[-1]
            sentences[-1] = Sentence(last.text, tuple(dict.fromkeys((*last.citations, *cited))), (last.span[0], end))
        elif bare:
            sentences.append(Sentence(bare, cited, (start, end)))
    return tuple(sentences)


def strip_markers(text: str) -> str:
    """`text` without [n] markers: they mean nothing under another question's numbering."""
    return _MARK.sub(lambda m: m.group() if m["code"] else "", text)
