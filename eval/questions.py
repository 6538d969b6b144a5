"""Reads the questions, splits them into dev and test, and checks them.

One JSON object per line in `eval/data/*.jsonl`: `id`, `question`, `history` (earlier turns), `type`, `answerable`,
`gold` (titles of the papers that a right answer draws on), `acceptable` (titles of papers that may be cited as well)
and `key_facts` (short phrases of a gold abstract that a right answer contains).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rag.corpus.reading import read_text
from rag.errors import RagError, UsageError
from rag.retrieval.history import turns_from_json
from rag.text.terms import terms, words
from rag.types import Paper, Turn

FOLDER = Path(__file__).parent / "data"
ANSWERABLE_TYPES = (
    "fact", "method", "number", "compare", "synthesis", "yesno", "followup", "typo", "keyword", "multilingual",
)  # fmt: skip
UNANSWERABLE_TYPES = ("unanswerable_absent", "unanswerable_detail", "unanswerable_offtopic")
TYPES = ANSWERABLE_TYPES + UNANSWERABLE_TYPES
MIN_QUESTIONS, MIN_UNANSWERABLE, MIN_PER_TYPE = 200, 50, 10
MAX_TITLE_SHARE = 0.30  # share of a question's content stems that its gold titles may hold
DUPLICATE_RATIO = 88.0  # rapidfuzz token_sort_ratio at which two questions count as the same
_FIELDS = {"id", "question", "history", "type", "answerable", "gold", "acceptable", "key_facts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question and what a right answer to it contains. `gold` and `acceptable` are titles."""

    id: str
    question: str
    type: str
    answerable: bool
    gold: tuple[str, ...] = ()
    acceptable: tuple[str, ...] = ()
    key_facts: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()

    @property
    def split(self) -> str:
        """ "dev" or "test", by the first byte of the id's SHA-256; fitting and tuning see dev only."""
        return "dev" if hashlib.sha256(self.id.encode()).digest()[0] % 2 == 0 else "test"


def read(folder: Path = FOLDER) -> list[Question]:
    """All questions of `folder`, by file name and line. Raises UsageError for a line that is not a question."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise UsageError(f"There are no questions in {folder}.", "Give a folder of .jsonl files with --questions.")
    return [
        _question(line, f"{file.name}:{number}")
        for file in files
        for number, line in enumerate(read_text(file).splitlines(), start=1)
        if line.strip()
    ]


def _question(line: str, where: str) -> Question:
    try:
        record: dict[str, Any] = json.loads(line)
        if missing := _FIELDS - record.keys():
            raise ValueError(f"no {', '.join(sorted(missing))}")
        if unknown := record.keys() - _FIELDS:
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
        return Question(
            id=str(record["id"]),
            question=str(record["question"]),
            type=str(record["type"]),
            answerable=bool(record["answerable"]),
            gold=tuple(map(str, record["gold"])),
            acceptable=tuple(map(str, record["acceptable"])),
            key_facts=tuple(map(str, record["key_facts"])),
            history=tuple(turns_from_json(record["history"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RagError) as error:
        raise UsageError(f"{where}: not a question: {error}.", "eval/questions.py lists the fields.") from None


def choose(questions: Iterable[Question], split: str = "", types: Sequence[str] = (), limit: int = 0) -> list[Question]:
    """The questions of a split and of types (all by default); `limit` takes that many, evenly spread."""
    chosen = [q for q in questions if split in ("", q.split) and (not types or q.type in types)]
    if 0 < limit < len(chosen):
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    if not chosen:
        raise UsageError(
            "No question matches --split and --type.", f"Splits are dev and test; types are {', '.join(TYPES)}."
        )
    return chosen


def lint(questions: Sequence[Question], papers: Sequence[Paper]) -> list[str]:
    """The problems of the set as a whole and of each question, one line each."""
    abstracts = {paper.title: paper.abstract for paper in papers}
    problems = [f"{i}: {n} questions have this id" for i, n in Counter(q.id for q in questions).items() if n > 1]
    for q in questions:
        problems += [f"{q.id}: {problem}" for problem in _problems(q, abstracts)]
    return problems + _repeats(questions) + _counts(questions)


def title_share(question: Question) -> float:
    """The share of the question's distinct content stems that a gold title holds, for the worst title."""
    stems = set(terms(question.question))
    return max((len(stems & set(terms(t))) / len(stems) for t in question.gold), default=0.0) if stems else 0.0


def _problems(q: Question, abstracts: dict[str, str]) -> list[str]:
    problems = [f"no paper is called {t!r}" for t in (*q.gold, *q.acceptable) if t not in abstracts]
    if q.type not in TYPES:
        return [*problems, f"unknown type {q.type!r}"]
    if not words(q.question):
        problems.append("the question is empty")
    if q.answerable != (q.type in ANSWERABLE_TYPES):
        problems.append(f"answerable is {q.answerable}, but the type is {q.type}")
    if q.answerable and not (q.gold and q.key_facts):
        problems.append("an answerable question needs gold papers and key facts")
    if not q.answerable and (q.gold or q.key_facts):
        problems.append("an unanswerable question has neither gold papers nor key facts")
    if both := set(q.gold) & set(q.acceptable):
        problems.append(f"gold and acceptable at once: {', '.join(sorted(both))}")
    if len(set(q.gold)) < len(q.gold):
        problems.append("a gold paper is named twice")
    gold_counts = {"compare": range(2, 3), "synthesis": range(3, 9)}.get(q.type)
    if gold_counts and len(q.gold) not in gold_counts:
        problems.append(f"{len(q.gold)} gold papers for a {q.type} question")
    if (q.type == "followup") != bool(q.history):
        problems.append("a follow-up, and only a follow-up, has a history")
    texts = [abstracts.get(title, "") for title in q.gold]
    for fact in q.key_facts:
        if not words(fact) or len(words(fact)) > 12:
            problems.append(f"key fact {fact!r} is not a short phrase")
        if not any(fact in text for text in texts):
            problems.append(f"key fact {fact!r} is in no gold abstract")
    unused = [t for t, text in zip(q.gold, texts, strict=True) if not any(fact in text for fact in q.key_facts)]
    if q.type == "synthesis" and unused:
        problems.append(f"no key fact is from {unused[0]!r}")
    if (share := title_share(q)) >= MAX_TITLE_SHARE:
        problems.append(f"{share:.0%} of its content stems are in a gold title")
    return problems


def _repeats(questions: Sequence[Question]) -> list[str]:
    from rapidfuzz.fuzz import token_sort_ratio

    keys = [(q.id, " ".join(words(" ".join([*(t.question for t in q.history), q.question])))) for q in questions]
    return [
        f"{a}: nearly the same question as {b}"
        for (a, one), (b, other) in combinations(keys, 2)
        if token_sort_ratio(one, other) >= DUPLICATE_RATIO
    ]


def _counts(questions: Sequence[Question]) -> list[str]:
    problems = []
    unanswerable = sum(not q.answerable for q in questions)
    if len(questions) < MIN_QUESTIONS:
        problems.append(f"{len(questions)} questions; at least {MIN_QUESTIONS} are needed")
    if unanswerable < MIN_UNANSWERABLE:
        problems.append(f"{unanswerable} unanswerable questions; at least {MIN_UNANSWERABLE} are needed")
    for kind in TYPES:
        splits = Counter(q.split for q in questions if q.type == kind)
        if splits.total() < MIN_PER_TYPE:
            problems.append(f"{splits.total()} questions of type {kind}; at least {MIN_PER_TYPE} are needed")
        elif min(splits["dev"], splits["test"]) == 0:
            problems.append(f"all questions of type {kind} are in one split; rename one")
    return problems
