"""Citations [n]: the one place that parses them, in a model's stream and in finished text.

`CitationNormalizer` reads a stream and turns every way of citing into [n]. The functions read normalised text.
"""

from __future__ import annotations

import re

from rag.text.sentences import sentence_spans
from rag.types import Sentence

# --- the normaliser of a stream ----------------------------------------------------------------------------

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
# The beginning of a marker; at the end of the text so far it waits for more.
_UNFINISHED = re.compile(
    r"(?:[\[［]{1,2}|【|\()\s{0,2}(?:[A-Za-z]{1,10}\.?\s{0,2})?[#^]?"
    r"(?:\d[\w\s,;&–—#-]{0,500}(?:†[^】\]］)\n]{0,24})?)?[\]］]?\Z"
)
_UNFINISHED_WORDS = re.compile(r"[A-Za-z]{1,9}(?:\s{1,2}#?(?:\d[\d\s,&–#and-]*)?)?\Z")
_SOURCE_NOUNS = ("passages", "papers", "sources", "documents", "abstracts")
_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_MARKER_START = re.compile(r"[\[［【(`⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]|(?<![^\W_])[PpSDA](?=[a-z]|\Z)")
_NUMBERED_NOUN = re.compile(  # "Equation (1)" is not a citation
    r"(?:eqs?|equations?|figs?|figures?|tables?|sections?|steps?|stages?|phases?|cases?|items?|parts?|options?|"
    r"algorithms?|theorems?|lemmas?|types?|conditions?|definitions?|levels?|properties|property)\.?\s*\Z",
    re.IGNORECASE,
)
_ENDS_CLAUSE = re.compile(r"\s{0,2}(?:[.,;:!?]|\Z)|\s{0,2}\n|\(\d|\[\d")
_LOOKAHEAD = 4  # characters after a marker that can change its meaning
_SURROUNDINGS = 200  # characters on each side of a marker that are examined; bounds the cost for a long answer
_MAX_SUPERSCRIPT = 20  # digits; a longer run is not a list of citations
_TAKES_NO_SPACE = re.compile(r"\s|[.,;:!?)\]]")


class CitationNormalizer:
    """Turns every way of citing the papers 1 to `context_size` into [n], and removes citations of other numbers.

    It does not change code in backticks, `x[1]`, intervals such as [0, 1], [0.85], [MASK], years, "(1) first",
    "Equation (1)", powers such as 10². A parenthesis counts as a citation only at the end of a clause. The result does
    not depend on how the text is chunked: text that may still become a marker is held back.
    """

    def __init__(self, context_size: int) -> None:
        self.context_size = context_size
        self.dropped = 0  # citations removed because no paper has their number
        self._raw = ""
        self._decided = 0  # characters of _raw whose output is decided
        self._fence = ""  # the backticks that opened the code at this position
        self._space = ""  # white space not written yet: removed together with a marker
        self._last = ""  # last character written
        self._removed = False  # whether a marker was removed at this position

    def feed(self, chunk: str, last: bool = False) -> str:
        """The normalised text that `chunk` decides; call with `last` once, at the end."""
        self._raw += chunk
        out: list[str] = []
        while self._decided < len(self._raw):
            text, end = self._next(last)
            if end == self._decided:
                break
            self._decided = end
            out.append(text)
        return "".join(out)

    def _next(self, last: bool) -> tuple[str, int]:
        """The next decided output and where it ends in the raw text; the same position if nothing is decided."""
        raw, position = self._raw, self._decided
        if self._fence:
            return self._code(last)
        start = _MARKER_START.search(raw, position)
        if start is None:
            return self._write(raw[position:]), len(raw)
        if start.start() > position:
            return self._write(raw[position : start.start()]), start.start()
        if raw[position] == "`":
            length = len(raw) - position - len(raw[position:].lstrip("`"))
            if position + length == len(raw) and not last:
                return "", position
            self._fence = "`" * length
            return self._write(self._fence), position + length
        match, unfinished = self._match(position, last)
        if not last and (match.end() + _LOOKAHEAD > len(raw) if match else unfinished):
            return "", position
        if match and (numbers := self._numbers(match)) is not None:
            return self._cite(match, numbers), match.end()
        end = match.end() if match and match.re is _SUPERSCRIPT else position + 1
        return self._write(raw[position:end]), end

    def _code(self, last: bool) -> tuple[str, int]:
        """Code up to its closing backticks; inline code ends with its line."""
        raw, position = self._raw, self._decided
        inline = len(self._fence) < 3
        for match in re.finditer(r"`+|\n" if inline else r"`+", raw[position:]):
            start, end = position + match.start(), position + match.end()
            if end == len(raw) and not last and match.group() != "\n":
                return self._write(raw[position:start]), start
            if match.group() in ("\n", self._fence):
                self._fence = ""
                return self._write(raw[position:end]), end
        return self._write(raw[position:]), len(raw)

    def _match(self, position: int, last: bool) -> tuple[re.Match[str] | None, bool]:
        """The marker at `position`, and whether the text there may still become one."""
        raw = self._raw
        if match := _SUPERSCRIPT.match(raw, position):
            return match, True
        if not (raw[position].isascii() and raw[position].isalpha()):
            return _BRACKETS.match(raw, position), bool(_UNFINISHED.match(raw, position))
        unfinished = _UNFINISHED_WORDS.match(raw, position)
        word = re.match(r"[a-z]*", raw[position : position + _SURROUNDINGS].lower())
        noun = word.group() if word else ""
        complete = noun in _SOURCE_NOUNS or f"{noun}s" in _SOURCE_NOUNS
        growing = unfinished and unfinished.group().isalpha() and any(n.startswith(noun) for n in _SOURCE_NOUNS)
        # A list may still grow ("Passages 1 and 2"), so a match at the end of the text waits too.
        if not last and unfinished and (complete or growing):
            return None, True
        return _WORDS.match(raw, position), False

    def _numbers(self, match: re.Match[str]) -> list[int] | None:
        """The numbers that `match` cites, whether or not a paper has them; None if it is ordinary text."""
        before = self._raw[max(0, match.start() - _SURROUNDINGS) : match.start()]
        after = self._raw[match.end() : match.end() + _SURROUNDINGS]
        attached = bool(before) and (before[-1].isalnum() or before[-1] == "_")
        if match.re is _SUPERSCRIPT:
            return self._superscript_numbers(match.group().translate(_DIGITS), before, attached)
        if match.re is _WORDS:
            return None if re.match(r"\w|%|[.,]\d", after) else _expand(match["many"] or match["one"])
        numbers = _expand(match["list"])
        if match["open"] == "(":
            if match["named"]:
                return numbers
            line = before.rpartition("\n")[2].rstrip()
            ends_clause = _ENDS_CLAUSE.match(after) and line and not attached and not _NUMBERED_NOUN.search(line)
            return numbers if ends_clause and numbers and self._all_known(numbers) else None
        if not numbers or 0 in numbers or max(numbers) > max(99, self.context_size):
            return None  # an interval, an index, a size
        name = re.search(r"\w*\Z", before)
        if match["open"] == "[" and attached and name and (len(name.group()) == 1 or "_" in name.group()):
            return None  # x[1], in code without backticks
        return numbers

    def _superscript_numbers(self, digits: str, before: str, attached: bool) -> list[int] | None:
        """The numbers of a superscript: one, or one for each digit; None for a power."""
        word = re.search(r"[^\W\d_]*\Z", before)
        power = attached and (word is None or len(word.group()) < 3)
        if power or not digits.isdecimal() or len(digits) > _MAX_SUPERSCRIPT:
            return None
        number, single = int(digits), [int(digit) for digit in digits]
        return single if not self._all_known([number]) and self._all_known(single) else [number]

    def _all_known(self, numbers: list[int]) -> bool:
        return all(1 <= n <= self.context_size for n in numbers)

    def _cite(self, match: re.Match[str], numbers: list[int]) -> str:
        known = [n for n in dict.fromkeys(numbers) if self._all_known([n])]
        self.dropped += len(set(numbers)) - len(known)
        if known:
            space = "" if self._space or self._last in ("", "]", "(", "[", "\n", "“", '"') else " "
            return self._write(space + "".join(f"[{n}]" for n in known))
        if match.re is _WORDS:
            return self._write(match.group())  # the sentence needs its words
        self._removed = True
        return ""

    def _write(self, text: str) -> str:
        """`text` with the white space before it, but without the space at its own end."""
        if self._removed:
            self._removed = False
            if _TAKES_NO_SPACE.match(text):
                self._space = ""
        body = text.rstrip()
        if not body:
            self._space += text
            return ""
        written = self._space + body if self._last else body.lstrip()
        self._space, self._last = text[len(body) :], body[-1]
        return written


def _expand(listed: str) -> list[int]:
    """The numbers of "1, 3-5 and 7"; a range of more than 20 counts as its two ends."""
    numbers: list[int] = []
    for low, high in re.findall(r"(\d+)(?:\s*(?:–|—|-|to)\s*#?(\d+))?", listed):
        a, b = int(low), int(high or low)
        numbers.extend(range(a, b + 1) if a <= b <= a + 20 else (a, b))
    return numbers


# --- finished text -----------------------------------------------------------------------------------------

_CITATION = re.compile(r"(?P<code>(?P<ticks>`+).*?(?P=ticks))|\s*(?<!\w)(?P<marker>\[(?P<n>\d{1,3})\])", re.DOTALL)


def find_citations(text: str) -> list[tuple[int, int, int]]:
    """(start, end, n) of every [n] in `text`, brackets included; code in backticks and `x[1]` have none."""
    return [(*m.span("marker"), int(m["n"])) for m in _CITATION.finditer(text) if m["marker"]]


def remove_citations(text: str) -> str:
    """`text` without its [n], and without the white space before each."""
    return _CITATION.sub(lambda m: m["code"] or "", text)


def split_sentences(text: str, context_size: int) -> tuple[Sentence, ...]:
    """The sentences of `text`, without their citations, and the numbers from 1 to `context_size` that each cites.

    A citation that stands alone belongs to the sentence before it.
    """
    sentences: list[Sentence] = []
    for start, end in sentence_spans(text):
        markers = [m for m in _CITATION.finditer(text, start, end) if m["n"] and 1 <= int(m["n"]) <= context_size]
        edges = [start, *(edge for m in markers for edge in m.span()), end]
        content = "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).strip()
        cited = tuple(dict.fromkeys(int(m["n"]) for m in markers))
        if sentences and not re.search(r"\w", content):
            previous = sentences[-1]
            citations = tuple(dict.fromkeys((*previous.citations, *cited)))
            sentences[-1] = Sentence(text=previous.text, citations=citations, span=(previous.span[0], end))
        elif content:
            sentences.append(Sentence(text=content, citations=cited, span=(start, end)))
    return tuple(sentences)
