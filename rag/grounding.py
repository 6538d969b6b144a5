r"""Whether the papers a sentence cites say what it says: support, guards, verdicts, metrics of an answer.

The score is untrained and deterministic. A sentence becomes a `Claim` and a paper a `Source` once; their
`Match` is two arrays, so the support by several papers together is the element-wise maximum of their
matches. `judge` turns the matches with all retrieved papers into a `Judgement`, `measure` the judgements
of an answer into figures after ALCE (Gao et al. 2023, "Enabling Large Language Models to Generate Text
with Citations"). Nothing here reads files or loads a model: token states come from the encoder.

Known blind spots: contradiction without a negation, an antonym or a number, and free paraphrase, which
scores low. Guards therefore never make a sentence `unsupported`, only `partial`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Literal

import numpy as np

from rag.interaction import Idf, Offsets, Pieces, content, content_pieces, nearest, unit
from rag.text import STOPWORDS, fold, sentence_spans, stem_all, terms, words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

THRESHOLD = 0.56  # support from which a sentence counts as said by the text
MARGIN = 0.10  # by which another paper must support a sentence better than the cited ones
FEWEST_WORDS = 4  # content words that make a claim
SAME_MATTER = 0.6  # support by one sentence alone from which its polarity is compared

VerdictName = Literal["supported", "partial", "unsupported", "miscited", "not_a_claim"]

# --- what is a claim -----------------------------------------------------------------------------------

_SOURCE = r"(?:passage|text|document|source|paper|abstract|context|excerpt|article|corpus|stud(?:y|ies)|information)s?"
_MARKS = re.compile(
    rf"\s*(?:\[\d[\d,;\s\u2013-]{{0,40}}\]|\u3010[^\u3011]{{1,20}}\u3011|[\u00b9\u00b2\u00b3\u2070-\u2079]+"
    rf"|\(\s*(?:(?:as|according to|mentioned|stated|see|from|in|the) )*{_SOURCE}(?:\d|,|and|or|&|\s|{_SOURCE})*\))",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*(?:#{1,6}\s+|>\s+)?(?:[-*+\u2022\u2013]\s+|\(?(?:\d{1,3}|[a-zA-Z])[.)]\s+)?")
_OPENER = r"(?:(?:so|therefore|thus|hence|however|overall|in (?:summary|conclusion)|answer|note|finally)\b[,:]?\s*)?"
_LEAD_IN = re.compile(
    _OPENER
    + r"(?:(?:based|relying) (?:solely |only |primarily )?(?:up)?on|according to|as \w+ (?:in|by)|from|per|given|in)"
    r"\s+(?:(?:the|these|this|those|all|both|of|in|from|first|second|third|two|three|provided|given|retrieved|above"
    rf"|following|supplied|available|cited|passage|information|text|details|evidence)\s+)*{_SOURCE}"
    rf"(?:\s+(?:and|or|,|\d+|{_SOURCE}))*(?:\s+(?:provided|given|above|retrieved))?\s*[,:]\s*"
    r"(?:(?:it|we|you|i|one) (?:\w+ ){1,3}that\s+)?",
    re.IGNORECASE,
)
_SAYS = re.compile(
    rf"{_OPENER}(?:the |these |this )?(?:first |second |third |provided |given |same )?{_SOURCE}(?:\s+\d+)?"
    rf"(?:\s*(?:,|and)\s*(?:{_SOURCE}\s+)?\d+)*(?:\s+(?:provided|given|above))?"
    r"\s+(?:also |further |only |additionally |specifically )?"
    r"(?:states?|mentions?|says?|suggests?|explains?|notes?|indicates?|adds?|reports?|advises?)\s+(?:that\s+)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:unable to|(?:can\s?not|can't|could not|couldn't) be"
    r"|(?:i|we) (?:can\s?not|can't|do not|don't|could not|couldn't))"
    r" (?:\w+ )?(?:answer|provid|determin|find|found|confirm|give|know|say|tell|have|verif|help)"
    rf"|\b(?:{_SOURCE}|it|they|which|question)(?: \d+)?(?: (?:provided|given|above|retrieved|here))?"
    r" (?:(?:do|does|did)(?: not|n't)|fails? to|lacks?) (?:\w+ )?(?:mention|provid|specif|contain|includ|state|say"
    r"|discuss|address|give|cover|answer|offer|explain|describe|indicat|have|list|report|clarif|elaborat|detail|informat)"
    r"|\b(?:no|not enough|insufficient|lack of|without (?:more|further|additional)) (?:\w+ )?"
    rf"(?:information|mention|details?)\b|\bnone of the (?:\w+ )?{_SOURCE}\b"
    r"|\b(?:not|never|isn't|aren't) (?:\w+ )?(?:mentioned|provided|specified|stated|given|discussed|covered|addressed)"
    r" (?:\w+ )?(?:in|by)\b|\bsorry\b|\bi apologi[sz]e\b",
    re.IGNORECASE,
)
# Talk with the reader and about the answer itself, which no paper could support.
_TALK = re.compile(
    r"\b(?:let me know|feel free to|(?:not|n't) hesitate to|(?:happy|glad) to (?:help|assist)|i hope (?:this|that|it)"
    r"|(?:further|other|more|any) questions|i can (?:also )?(?:help|answer)|anything else)\b"
    r"|\b(?:these|this|the|above|my) (?:\w+ )?(?:steps|instructions|information|answers?|interpretations?|suggestions"
    r"|recommendations?|values|summary|response) (?:is|are|was|were) (?:\w+ )?(?:based|limited|general|for)\b"
    r"|\b(?:consult|contact|see|seek|speak|talk)\b.{0,50}\b(?:professionals?|doctors?|physicians?|experts?|specialists?|advice)\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\([^()]*\)")
_MARKUP = re.compile(r"\*{2,3}|`+|(?<!\w)[*_]{1,2}(?=\w)|(?<=[\w.,:!?])[*_]{1,2}(?!\w)")


def bare(sentence: str) -> str:
    """`sentence` without citation marks, bullet, markup and lead-in: what is encoded and scored."""
    text = _MARKUP.sub("", _BULLET.sub("", _MARKS.sub("", sentence), count=1)).strip()
    for lead in (_LEAD_IN, _SAYS):
        if (match := lead.match(text)) and match.end() < len(text):
            text = text[match.end() :]
    return text


def refuses(text: str) -> bool:
    """Whether `text` says that the sources do not say something (an aside in brackets does not count)."""
    return _REFUSAL.search(_ASIDE.sub("", text)) is not None


def is_claim(sentence: str, cited: bool) -> bool:
    """Whether `sentence` states something to check. One that carries a citation always does.

    Headings, sentences that only announce (ending in a colon), questions, refusals and sentences with
    fewer than FEWEST_WORDS content words do not.
    """
    if cited:
        return True
    if sentence.lstrip().startswith("#") or refuses(sentence) or _TALK.search(sentence):
        return False
    text = bare(sentence)
    return not text.endswith((":", "?")) and len(content(text)) >= FEWEST_WORDS


# --- the score -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence made ready for matching: k distinct content stems with `weights` (k,), IDF that sums to 1."""

    text: str
    stems: tuple[str, ...]
    weights: Floats
    pieces: Pieces


@dataclass(frozen=True, slots=True)
class Source:
    """A paper made ready for matching: n word pieces of `text`, whose part from `start` on is the abstract.

    `states` (n, d) has unit rows; piece i belongs to sentence `sentence_of[i]` of the abstract, -1 before it.
    `spans` are the sentences as characters of the abstract, `sentence_stems` the stems of each.
    """

    text: str
    start: int
    stems: frozenset[str]
    states: Floats
    spans: tuple[tuple[int, int], ...]
    sentence_stems: tuple[frozenset[str], ...]
    sentence_of: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """How far a text holds a claim: `found` (k,) in {0, 1} and `nearest` (m,) cosines; `|` joins texts."""

    claim: Claim
    found: Floats
    nearest: Floats

    def __or__(self, other: Match) -> Match:
        return Match(self.claim, np.maximum(self.found, other.found), np.maximum(self.nearest, other.nearest))

    @property
    def support(self) -> float:
        """Mean of the two IDF-weighted means, in [0, 1]; one alone where the other has nothing to weigh."""
        parts = [
            float(v @ w)
            for v, w in ((self.found, self.claim.weights), (self.nearest, self.claim.pieces.weights))
            if len(w)
        ]
        return min(1.0, max(0.0, sum(parts) / len(parts))) if parts else 0.0


def read_claim(text: str, offsets: Offsets, states: Floats, idf: Idf) -> Claim:
    """The claim in `text` (a sentence after `bare`), whose word pieces have `offsets` and `states` (n, d)."""
    words = content(text)
    stems = tuple(dict.fromkeys(s for _, _, s in words))
    return Claim(text, stems, unit([idf(s) for s in stems]), content_pieces(words, offsets, states, idf))


def read_source(text: str, sentence_of: NDArray[np.int64], states: Floats, start: int = 0) -> Source:
    """The source with `text`, whose word pieces have `states` (n, d) and belong to the sentences `sentence_of` (n,).

    `start` is where the abstract begins after a title: the title counts, but is no evidence to show.
    """
    spans = tuple(sentence_spans(text[start:]))
    stems = tuple(frozenset(terms(text[start + a : start + b])) for a, b in spans)
    everything = frozenset(terms(text[:start])).union(*stems)
    return Source(text, start, everything, states, spans, stems, sentence_of)


def match(claim: Claim, source: Source, question_stems: frozenset[str] = frozenset()) -> Match:
    """How far `source` (or, for the stems, the question) holds `claim`."""
    found = np.array([s in source.stems or s in question_stems for s in claim.stems], dtype=np.float32)
    return Match(claim, found, nearest(claim.pieces, source.states))


def best_sentence(claim: Claim, source: Source) -> tuple[int, float]:
    """Which sentence of the abstract supports `claim` most, and how far by itself; (-1, 0.0) without any."""
    best, score = -1, 0.0
    for i, stems in enumerate(source.sentence_stems):
        found = np.array([s in stems for s in claim.stems], dtype=np.float32)
        alone = Match(claim, found, nearest(claim.pieces, source.states[source.sentence_of == i])).support
        if alone > score:
            best, score = i, alone
    return best, score


# --- guards --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text: value, slack (what rounding explains), unit ("" where none is known), as written."""

    value: float
    slack: float
    unit: str
    shown: str


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SPELLED = {w: i for i, w in enumerate(_ONES)} | {w: 10 * i for i, w in enumerate(_TENS, 2)}
_SCALES = {"thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "b": 1e9, "trillion": 1e12, "t": 1e12}
# Units, first the one that stands for all of its row. Any other word after a number is no unit.
_UNITS = {
    name: row.split()[0]
    for row in (
        "% percent percents percentage point points pp;x × times fold;ms millisecond milliseconds;s sec secs second "
        "seconds;min mins minute minutes;h hr hrs hour hours;day days;week weeks;month months;year years;kb;mb;gb;tb;"
        "hz;khz;mhz;ghz;fps;bit bits;kg;mg;g;km;cm;mm;nm;w;kw;mw;kwh;°c;°f"
    ).split(";")
    for name in row.split()
}
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,/])(?<![A-Za-z][-\u2010\u2011])"
    r"(?:(?P<digits>\d{1,3}(?:[,\u202f\u2009]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\.?\d|st\b|nd\b|rd\b|th\b)"
    rf"|(?P<word>(?:{'|'.join(_TENS)})(?:[-\s](?:{'|'.join(_ONES[1:10])}))?|{'|'.join(_ONES[2:])})\b)"
    r"(?:[\s-]?(?P<scale>thousand|million|billion|trillion)\b|(?P<letter>[kmbt])\b)?"
    r"(?:[\s-]{0,2}(?P<unit>%|×|°[cf]|[a-z]+))?",
    re.IGNORECASE,
)
_PER_CENT = re.compile(r"\bper\s+cent\b", re.IGNORECASE)
_ACCENT = re.compile(r"\\[\"'`^]\{?(?=[A-Za-z])")
_AT_LEAST = re.compile(
    r"\b(?:over|more than|at least|above|exceed\w*|beyond|nearly|almost|up to)\s+\S?$", re.IGNORECASE
)
_LATEX = {r"\%": "%", r"\times": " × ", "{,}": ",", r"\,": "", r"\sim": " ", "$": "", "~": " ", "\u00a0": " "}


def _plain(text: str) -> str:
    for latex, plain in _LATEX.items():
        text = text.replace(latex, plain)
    return _PER_CENT.sub("percent", _ACCENT.sub("", text))


@lru_cache(maxsize=512)
def numbers(text: str) -> tuple[Number, ...]:
    """Every number of `text` that is not part of a name: 10\\%, 4,523,000, 4.5M, twenty-five times."""
    found, text = [], _plain(text)
    for m in _NUMBER.finditer(text):
        unit = _UNITS.get((m["unit"] or "").lower(), "")
        scale = _SCALES[(m["scale"] or m["letter"]).lower()] if m["scale"] or m["letter"] else 1.0
        end = max(m.end(group) for group in ("digits", "word", "scale", "letter"))
        if m["word"]:
            value, slack = float(sum(_SPELLED[w] for w in re.split(r"[-\s]", m["word"].lower()))), 0.0
        elif text[end : end + 1].isalpha() and not unit:
            continue  # "3D", "8xH100": part of a name
        else:
            digits = re.sub(r"[^\d.]", "", m["digits"])
            value, slack = float(digits), 0.5 * 10.0 ** -len(digits.partition(".")[2])
            if _AT_LEAST.search(text, max(0, m.start() - 12), m.start()):
                slack *= 2
        found.append(Number(value * scale, slack * scale, unit, text[m.start() : m.end() if unit else end].strip()))
    return tuple(found)


def _agree(said: Number, given: Number) -> bool:
    """Whether `given` in a source bears out `said`: equal, or rounded to the places `said` has."""
    slack = (said.slack if given.slack < said.slack else 0.0) + 1e-9 * said.value
    if {said.unit, given.unit} == {"%", ""} and abs(said.value - given.value) > slack:
        fraction, percent = sorted((said.value, given.value))
        return fraction <= 1.0 and abs(100 * fraction - percent) <= 1e-6
    return abs(said.value - given.value) <= slack and (said.unit == given.unit or not (said.unit and given.unit))


_TOKEN = re.compile(r"(?<![^\W_])[^\W_]+(?:\.\d+)*(?:[-+\u2010\u2011][^\W_]+(?:\.\d+)*)*")
_PART = re.compile(r"[^\W_]+?(?:\.\d+)+(?![^\W_])|[^\W_]+")
_OPENING = frozenset(".!?:;\"'\u201c\u2018([*\u2022-")
_COMMON_NAMES = frozenset("ai ml nlp gpu gpus cpu api us uk eu sota i".split())
_EXPANDED = {"llm": "languagemodel", "lm": "languagemodel", "vlm": "visionlanguage", "mllm": "multimodal"}


def names(text: str) -> tuple[str, ...]:
    """Names in `text` as written: words with inner capitals or with letters and digits, or capitalised inside it."""
    found, text = [], _plain(text)
    for m in _TOKEN.finditer(text):
        parts = re.split(r"[-+\u2010\u2011]", m.group())
        while parts and (parts[-1].islower() and parts[-1].isalpha()):
            parts.pop()  # "CLIP-based"
        while parts and (parts[0].islower() or parts[0][0].isdigit()) and not re.fullmatch(r"\d+D", parts[0]):
            parts.pop(0)  # "non-BERT", "7B-Instruct"; numbers are the other guard's
        name = "-".join(parts)
        if len(name) < 2:
            continue
        before = text[: m.start()].rstrip()[-1:]
        inside = bool(before) and before not in _OPENING and text[m.start() - 1] != "-"
        marked = any(c.isupper() for c in name[1:].replace("-", "")) and not all(
            p.istitle() and p.isalpha() for p in parts
        )
        if marked or any(c.isdigit() for c in name) or (inside and name[0].isupper()):
            found.append(name)
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=512)
def _runs(text: str) -> tuple[frozenset[str], str]:
    """All runs of up to five words of `text` written together, and the initials of its words."""
    parts = _PART.findall(fold(_plain(text)))
    runs = {"".join(parts[i : i + n]) for n in range(1, 6) for i in range(len(parts))}
    return frozenset(runs), "".join(p[0] for p in parts)


def _names_it(text: str, name: str) -> bool:
    """Whether `text` has `name` in some spelling: hyphens, spaces, plural and acronyms aside."""
    runs, initials = _runs(text)
    key = "".join(_PART.findall(fold(name)))
    single = key.removesuffix("s")
    expanded = _EXPANDED.get(single, single)
    if {key, single, key + "s", expanded, expanded + "s"} & runs or key in _COMMON_NAMES:
        return True
    if name.isalpha() and name.istitle():
        return set(terms(name)) <= set(terms(text))  # an ordinary word that happens to be capitalised
    parts = fold(name).split("-")
    if len(parts) > 1 and all(len(p) > 2 and p.isalpha() for p in parts):
        return runs.issuperset(parts)
    acronym = name.removesuffix("s")
    return acronym.isupper() and acronym.isalpha() and acronym.lower() in initials


_NEGATIONS = frozenset("not no never without cannot neither nor hardly fail fails failed lack lacks unable".split())
_OPPOSITES: list[tuple[frozenset[str], frozenset[str]]] = [
    (frozenset(stem_all(a.split())), frozenset(stem_all(b.split())))
    for a, b in (
        (
            "increase higher rise grow raise more elevate upregulate",
            "decrease reduce lower fall decline drop less downregulate",
        ),
        ("improve enhance better benefit", "degrade worsen worse hurt harm impair deteriorate"),
        ("outperform surpass exceed", "underperform"),
        ("faster", "slower"),
        ("larger", "smaller"),
        ("positive", "negative"),
        ("activate promote induce", "inhibit suppress block prevent"),
        ("robust", "vulnerable brittle"),
        ("effective", "ineffective"),
        ("open", "closed proprietary"),
    )
]


def _negated(text: str, reach: int) -> list[set[str]]:
    """For each negation in `text`, the stems of the `reach` content words after it."""
    tokens = words(re.sub(r"n['\u2019]t\b", " not", text))
    cues = [i for i, token in enumerate(tokens) if token in _NEGATIONS]
    return [set(stem_all([t for t in tokens[i + 1 : i + 12] if t not in STOPWORDS][:reach])) for i in cues]


def polarity(sentence: str, evidence: str) -> str | None:
    """Why `sentence` seems to say the opposite of `evidence`, a sentence about the same; None where it doesn't."""
    said, given = set(stem_all(words(sentence))), set(stem_all(words(evidence)))
    denied, denied_there = _negated(sentence, 3), _negated(evidence, 2)
    if not denied_there and any(scope & given for scope in denied):
        return "denies what the abstract affirms"
    if not denied and any(scope and scope <= said for scope in denied_there):
        return "affirms what the abstract denies"
    for one, other in _OPPOSITES:
        for a, b in ((one, other), (other, one)):
            if said & a and not said & b and given & b and not given & a:
                return "says the opposite of the abstract"
    return None


def _number_reason(said: Number, sentence: str, abstract: str) -> str:
    """What to tell about a number that the cited abstract doesn't have: the nearest of its kind, if any."""
    for text in (sentence, abstract):
        alike = [
            n
            for n in numbers(text)
            if n.unit == said.unit and (said.unit or 0.1 < (n.value or 1) / (said.value or 1) < 10)
        ]
        if alike:
            return f"says {said.shown}, the abstract says {min(alike, key=lambda n: abs(n.value - said.value)).shown}"
    return f"{said.shown} is not in the cited abstract"


# --- verdicts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """The sentence that supports a claim most: characters `start` to `end` of the abstract of paper `paper`."""

    paper: int
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one sentence. `support` is None for what is not a claim.

    `better` is the retrieved paper to cite instead (miscited) or at all (uncited but supported).
    `entailed`: the cited papers together support it. `needed`: for each citation, ALCE's relevance.
    """

    verdict: VerdictName
    support: float | None = None
    reason: str = ""
    evidence: Evidence | None = None
    better: int | None = None
    entailed: bool = False
    needed: tuple[bool, ...] = ()
    novel_numbers: tuple[str, ...] = ()
    novel_names: tuple[str, ...] = ()


def judge(
    claim: Claim | None,
    papers: Sequence[Source],
    cited: Sequence[int] = (),
    question_stems: frozenset[str] = frozenset(),
    threshold: float = THRESHOLD,
) -> Judgement:
    """The verdict on a sentence (`claim` None: not one) that cites `papers[i]` for i in `cited`.

    Several citations count together; another paper must beat them alone. Without a citation the best of
    `papers` counts as cited, but nothing is `entailed`.
    """
    if claim is None:
        return Judgement("not_a_claim", needed=(False,) * len(cited))
    matches = [match(claim, paper, question_stems) for paper in papers]
    scores = [m.support for m in matches]
    best = max(range(len(papers)), key=lambda i: scores[i], default=None)
    if best is None:
        return Judgement("unsupported", 0.0, "no paper was retrieved")
    counted = list(dict.fromkeys(cited)) or [best]
    support = reduce(or_, (matches[i] for i in counted)).support
    others = [i for i in range(len(papers)) if i not in counted]
    better = max(others, key=lambda i: scores[i], default=None)
    if better is not None and scores[better] >= max(threshold, support + MARGIN):
        reason = f"another retrieved paper says this (support {scores[better]:.2f}, cited {support:.2f})"
        evidence = _evidence(claim, papers, [better])[0]
        return Judgement("miscited", support, reason, evidence, better, needed=(False,) * len(cited))
    evidence, alone = _evidence(claim, papers, counted)
    texts = [papers[i].text for i in counted]
    given = [n for text in texts for n in numbers(text)]
    novel = [n for n in numbers(claim.text) if not any(_agree(n, other) for other in given)]
    strange = tuple(name for name in names(claim.text) if not any(_names_it(text, name) for text in texts))
    shown = tuple(n.shown for n in novel)
    if support < threshold:
        where = "the cited text does not say this" if cited else "no retrieved paper says this"
        return Judgement(
            "unsupported",
            support,
            f"{where} (support {support:.2f})",
            evidence,
            None,
            False,
            (False,) * len(cited),
            shown,
            strange,
        )
    reasons = [_number_reason(n, evidence.text if evidence else "", " ".join(texts)) for n in novel]
    reasons += [f"{name} is not in the cited abstract" for name in strange]
    if evidence and alone >= SAME_MATTER and (contrary := polarity(claim.text, evidence.text)):
        reasons.append(contrary)
    needed = tuple(_is_needed(i, counted, matches, threshold) for i in cited)
    return Judgement(
        "partial" if reasons else "supported",
        support,
        "; ".join(reasons),
        evidence,
        None if cited else best,
        bool(cited),
        needed,
        shown,
        strange,
    )


def _evidence(claim: Claim, papers: Sequence[Source], among: Iterable[int]) -> tuple[Evidence | None, float]:
    found: tuple[Evidence | None, float] = (None, 0.0)
    for i in among:
        at, score = best_sentence(claim, papers[i])
        if score > found[1]:
            (a, b), begin = papers[i].spans[at], papers[i].start
            found = Evidence(i, papers[i].text[begin + a : begin + b], a, b), score
    return found


def _is_needed(one: int, cited: Sequence[int], matches: Sequence[Match], threshold: float) -> bool:
    """ALCE: a citation is irrelevant if it does not support the sentence and the others do without it."""
    rest = [matches[i] for i in cited if i != one]
    return matches[one].support >= threshold or not rest or reduce(or_, rest).support < threshold


# --- metrics -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grounding:
    """Figures of an answer, shares in [0, 1] over its claims; None where there is nothing to count.

    groundedness: claims that the retrieved papers support (verdict supported or miscited; a partial one
    counts half). citation_recall: claims that their cited papers together support, none without a
    citation. citation_precision: citations of claims that are needed for that. citation_coverage: claims
    with a citation. misattributed, novel_numbers, novel_names: counts. min_support: of the worst claim.
    """

    groundedness: float | None = None
    citation_precision: float | None = None
    citation_recall: float | None = None
    citation_coverage: float | None = None
    misattributed: int | None = None
    novel_numbers: int | None = None
    novel_names: int | None = None
    min_support: float | None = None


_WORTH: dict[VerdictName, float] = {"supported": 1.0, "miscited": 1.0, "partial": 0.5}


def measure(judgements: Iterable[Judgement]) -> Grounding:
    """The figures of an answer from its sentences' judgements; all None where none is a claim (a refusal)."""
    claims = [j for j in judgements if j.support is not None]
    if not claims:
        return Grounding()
    needed = [n for j in claims for n in j.needed]
    return Grounding(
        groundedness=sum(_WORTH.get(j.verdict, 0.0) for j in claims) / len(claims),
        citation_precision=sum(needed) / len(needed) if needed else None,
        citation_recall=sum(j.entailed for j in claims) / len(claims),
        citation_coverage=sum(bool(j.needed) for j in claims) / len(claims),
        misattributed=sum(j.verdict == "miscited" for j in claims),
        novel_numbers=sum(len(j.novel_numbers) for j in claims),
        novel_names=sum(len(j.novel_names) for j in claims),
        min_support=min(j.support for j in claims if j.support is not None),
    )


# --- abstention ----------------------------------------------------------------------------------------

# Details of an experiment that abstracts rarely give; asked for by name, hardly ever paraphrased.
_DETAILS = tuple(
    tuple(stem_all(detail.split()))
    for detail in (
        "gpu,gpus,tpu,tpus,epochs,batch size,learning rate,optimizer,random seed,temperature,layers,parameters,"
        "hyperparameters,author,authors,affiliation,funding,license,licence,price,annotators,kappa,deviation,"
        "perplexity,bleu,rouge,comet,f1,auc,auroc,memory,venue,conference,dropout,weight decay,warmup,vocabulary,"
        "context length,backbone,hours"
    ).split(",")
)
_ASKED = re.compile(r"\b(?:how (?:many|much|long)|what|which|who|whose)\b((?:\W+\w+){1,5})", re.IGNORECASE)


def missing_detail(question: str, abstracts: Iterable[str]) -> str | None:
    """The detail of an experiment that `question` asks for and none of `abstracts` mentions, if any."""
    asked = _ASKED.search(question)
    if asked is None:
        return None
    wanted = f" {' '.join(stem_all(words(asked[1])))} "
    for detail in _DETAILS:
        if f" {' '.join(detail)} " in wanted:
            held = any(set(detail) <= set(stem_all(words(abstract))) for abstract in abstracts)
            return None if held else " ".join(w for w in words(asked[1]) if stem_all([w])[0] in detail)
    return None
