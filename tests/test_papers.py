"""The corpus and its reader."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.dump import read_dump
from rag.corpus.jsonl import read_jsonl
from rag.corpus.reading import find_papers, merge, packaged_corpus, read_papers
from rag.corpus.records import Problem, make_paper_id
from rag.errors import CorpusError
from rag.types import Paper

DUMPS = {
    "000_91e5ab7b7e7fb4ab.txt": (98, "b8bb81f3c0d28378bf3292e658ab2e05b7379360ebf8ad0154cc8f700d539ff7"),
    "001_81376f0a0da69e2c.txt": (88, "642e4bc1c553854203587a19a7b10b70ab7b5dd46c5c0635d7855904a570abdd"),
    "002_181092292925f1c3.txt": (69, "a3fee9077a9bb001d414a57232cffedafc5c304847e9a688cff3feb705e883d7"),
    "003_f398639f93e6417c.txt": (80, "3f3758a6cee8a0061ad0e97abafa66fe13882c418bf39d3308c61adc67e42f69"),
    "004_80e88f83bfb7e703.txt": (286, "30d9e9ee80d277e133c4cbe5792c0f487c1e4f32e6fe23a3616f9310d555d0a0"),
}


def by_title(papers: list[Paper], title: str) -> Paper:
    (paper,) = [p for p in papers if p.title == title]
    return paper


# --- the packaged corpus ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_is_byte_for_byte_the_published_one(name: str) -> None:
    assert sha256((packaged_corpus() / name).read_bytes()).hexdigest() == DUMPS[name][1]


@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_holds_the_expected_number_of_records(name: str) -> None:
    problems: list[Problem] = []
    records = list(read_dump((packaged_corpus() / name).read_text(encoding="utf-8"), name, problems))
    assert (len(records), problems) == (DUMPS[name][0], [])


def test_621_records_merge_into_539_papers_that_keep_every_source(corpus: list[Paper]) -> None:
    records = [
        paper for name in DUMPS for paper in read_dump((packaged_corpus() / name).read_text(encoding="utf-8"), name, [])
    ]
    assert len(records) == 621
    assert len(corpus) == len({p.paper_id for p in corpus}) == 539
    expected = {(make_paper_id(r.title), r.sources[0]) for r in records}
    assert {(p.paper_id, source) for p in corpus for source in p.sources} == expected
    assert Counter(len(p.sources) for p in corpus) == {1: 476, 2: 47, 3: 13, 4: 3}


def test_77_papers_have_author_count_and_date(corpus: list[Paper]) -> None:
    assert sum(p.author_count is not None and p.date is not None for p in corpus) == 77


def test_papers_with_similar_titles_stay_apart(corpus: list[Paper]) -> None:
    suffix = "re-training with Representative Words Prediction for Ad-hoc Retrieval"
    prop, b_prop = by_title(corpus, f"PROP: P{suffix}"), by_title(corpus, f"B-PROP: Bootstrapped P{suffix}")
    assert (prop.date, b_prop.date) == ("2020-10-20", "2021-04-20")
    jina = by_title(corpus, "Jina CLIP: Your CLIP Model Is Also Your Text Retriever")
    jina_v2 = by_title(corpus, "jina-clip-v2: Multilingual Multimodal Embeddings for Text and Images")
    assert jina.paper_id != jina_v2.paper_id and jina.abstract != jina_v2.abstract


def test_a_block_belongs_to_the_paper_before_it_and_its_last_number_is_votes(corpus: list[Paper]) -> None:
    unirl = by_title(
        corpus, "UniRL: Self-Improving Unified Multimodal Models via Supervised and Reinforcement Learning"
    )
    assert (unirl.author_count, unirl.date, unirl.votes) == (3, "2025-05-29", 2)  # "May 29 2": no year, 2 votes
    gpt3 = by_title(corpus, "Language Models are Few-Shot Learners")
    assert (gpt3.author_count, gpt3.date, gpt3.votes) == (31, "2020-05-28", 1)


@pytest.mark.parametrize("title", ["4M-21: An Any-to-Any Vision Model for Tens of Tasks and Modalities",
                                   "reStructured Pre-training", "360Zhinao Technical Report"])  # fmt: skip
def test_titles_may_start_with_a_digit_or_a_small_letter(corpus: list[Paper], title: str) -> None:
    assert len(by_title(corpus, title).abstract) >= 406


def test_the_first_title_glued_to_subscribe_is_read(corpus: list[Paper]) -> None:
    by_title(corpus, "A deep Natural Language Inference predictor without language-specific training data")


def test_titles_are_short_and_abstracts_are_long(corpus: list[Paper]) -> None:
    assert max(len(p.title) for p in corpus) <= 174 and min(len(p.abstract) for p in corpus) >= 406


def test_latex_and_accents_are_kept_for_display_and_folded_for_search(corpus: list[Paper]) -> None:
    for pattern in ('T\\"ULU', "TÜLU", "tulu 3"):
        (paper,) = find_papers(corpus, pattern)
        assert paper.title.startswith("TÜLU 3") and 'T\\"ULU 3' in paper.abstract


def test_an_exact_id_or_title_takes_precedence_over_titles_that_contain_it(corpus: list[Paper]) -> None:
    prop = next(p for p in corpus if p.title.startswith("PROP:"))
    assert find_papers(corpus, prop.paper_id) == [prop] == find_papers(corpus, prop.title.lower())


# --- malformed records -----------------------------------------------------------------------------

LONG = "An abstract goes on and on. " * 20


def test_malformed_dump_records_are_reported_with_file_and_line_and_the_rest_is_read() -> None:
    lines = ["new", "", "• 3 authors", "Lost title", "", "Good title", "", LONG, "", LONG, "", "Last", "", LONG, "Cut"]
    problems: list[Problem] = []
    papers = list(read_dump("\n".join(lines), "a.txt", problems))
    assert [p.title for p in papers] == ["Good title", "Last"]
    assert sorted((p.file, p.line) for p in problems) == [("a.txt", 3), ("a.txt", 4), ("a.txt", 10), ("a.txt", 15)]
    assert str(problems[0]).startswith("a.txt:3: ")


def test_malformed_json_lines_are_reported_with_file_and_line_and_the_rest_is_read() -> None:
    lines = ['{"title": "One", "abstract": "x"}', "{", "", "[1]", '{"year": 2020}', '{"_id": 7, "title": "Two"}']
    problems: list[Problem] = []
    papers = list(read_jsonl("\n".join(lines), "a.jsonl", problems))
    assert [p.title for p in papers] == ["One", "Two"] and papers[1].paper_id == "7"
    assert [(p.file, p.line) for p in problems] == [("a.jsonl", 2), ("a.jsonl", 4), ("a.jsonl", 5)]


def test_folders_and_gzip_are_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    line = json.dumps({"_id": "a", "title": "T", "text": "x", "year": 2020})
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(line)
    (tmp_path / ".hidden.jsonl").write_text(json.dumps({"title": "hidden"}))
    (tmp_path / "notes.md").write_text("no corpus")
    assert read_papers([tmp_path])[0] == [
        Paper(paper_id="a", title="T", abstract="x", sources=("b.jsonl.gz",), date="2020")
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.txt", b"new\n\nTitle\ncaf\xe9", "latin.txt:4: not UTF-8"),
        ("cut.jsonl.gz", gzip.compress(b'{"title": "x"}' * 99, mtime=0)[:20], "gzip"),
        ("fake.jsonl.gz", b"not gzip", "gzip"),
        ("empty.txt", b"", "No paper found"),
        ("short.txt", b"one\ntwo\n", "short.txt:1"),
    ],
)
def test_an_unreadable_file_is_named_in_one_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        read_papers([tmp_path / name])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere"):
        read_papers([tmp_path / "nowhere"])


def test_a_folder_without_papers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No paper found"):
        read_papers([tmp_path])


# --- properties ------------------------------------------------------------------------------------

_line = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]) | st.just(" "), min_size=1, max_size=80)
_title = _line.map(str.strip).filter(lambda t: t and not t.startswith(("•", "·", "\ufeff", "Subscribe", "new")))
_abstract = st.builds(lambda line, n: f"{line} {'and so on. ' * n}".strip(), _title, st.integers(40, 60))
_year, _votes = st.none() | st.integers(1990, 2030), st.none() | st.integers(0, 999)
_block = st.none() | st.tuples(st.integers(1, 99), st.integers(1, 12), st.integers(1, 28), _year, _votes)
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


@given(st.lists(st.tuples(_title, _abstract, _block), min_size=1, max_size=6))
def test_a_blank_separated_dump_round_trips(records: list[tuple]) -> None:
    lines = ["new", "Get trending papers in your email inbox!", "Subscribe", "Daily Papers"]
    lines += ["byAK and the research community", "Aug 20"]
    expected = []
    for title, abstract, block in records:
        lines += [title, abstract]
        paper = Paper(paper_id=make_paper_id(title), title=title, abstract=abstract, sources=("a.txt",))
        if block:
            authors, month, day, year, votes = block
            lines.append(f"  • {authors} author{'s' if authors > 1 else ''}\n·")
            date = f"{_MONTHS[month - 1]} {day}" + (f", {year}" if year else "") + (f" {votes}" if votes else "")
            lines.append(date)
            iso = f"{year or 2025:04}-{month:02}-{day:02}"
            paper = replace(paper, author_count=authors, date=iso, votes=votes or None)
        expected.append(paper)
    problems: list[Problem] = []
    assert list(read_dump("\n\n".join(lines), "a.txt", problems)) == expected
    assert problems == []


@given(st.lists(st.tuples(_title, _abstract), min_size=1, max_size=6))
def test_an_alternating_dump_round_trips(records: list[tuple[str, str]]) -> None:
    header = "Get trending papers in your email inbox once a day!\nGet trending papers in your email inbox!\nSubscribe"
    text = header + "\n".join(line for record in records for line in record)
    problems: list[Problem] = []
    assert [(p.title, p.abstract) for p in read_dump(text, "a.txt", problems)] == records
    assert problems == []


_json = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4)
_records = st.dictionaries(st.sampled_from(["_id", "id", "title", "abstract", "text", "year", "date"]), _json)


@given(st.text() | st.lists(st.sampled_from(["new", "• 2 authors", "·", "May 29 2", "T", LONG, ""])).map("\n".join))
def test_no_text_makes_the_dump_reader_raise_or_lose_a_line(text: str) -> None:
    problems: list[Problem] = []
    papers = merge(read_dump(text, "x", problems))
    assert all(p.title and p.abstract for p in papers)
    assert all(1 <= p.line <= text.count("\n") + 1 for p in problems)


@pytest.mark.parametrize(
    "line", [pytest.param("[" * 100_000, id="deep"), pytest.param('{"title": "\\ud800", "text": "x"}', id="surrogate")]
)
def test_a_hostile_json_line_is_a_problem_and_the_rest_is_read(line: str) -> None:
    problems: list[Problem] = []
    papers = list(read_jsonl(f'{line}\n{{"title": "T", "text": "x"}}', "x", problems))
    assert [p.title for p in papers] == ["T"] and [p.line for p in problems] == [1]


@given(st.text() | _records.map(json.dumps))
def test_no_text_makes_the_json_reader_raise(text: str) -> None:
    problems: list[Problem] = []
    for paper in merge(read_jsonl(text, "x", problems)):
        assert paper.title and paper.digest


@given(_title)
def test_ids_are_stable_readable_and_the_same_for_every_spelling_of_a_title(title: str) -> None:
    paper_id = make_paper_id(title)
    assert paper_id == make_paper_id(f" {title}  ") and " " not in paper_id and len(paper_id) <= 60
