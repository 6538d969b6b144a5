"""The command line: what it prints where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rag.cli.plugins import GROUP
from rag.cli.render import ProgressLog
from rag.settings import Settings
from rag.types import Paper
from tests.conftest import Run
from tests.helpers_cli import InProcess

OK, USAGE, ABSTAINED, INDEX = 0, 2, 3, 6
QUESTION = "what mitigates forgetting?"
OFF_TOPIC = "Who won the 1998 football world cup?"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


@pytest.fixture
def inside(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    index_dir: Path,
) -> Callable[..., Run]:
    """`cli` without a process of its own."""
    return InProcess(monkeypatch, capsys, tmp_path_factory.mktemp("cwd"), RAG_INDEX_DIR=str(index_dir))


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


def promised(record: dict[str, Any], names: str) -> bool:
    """Whether `record` has the documented fields in the documented order; others may stand between them."""
    return [name for name in record if name in names.split()] == names.split()


# --- ask and search --------------------------------------------------------------------------------


def test_ask_prints_the_answer_and_the_cited_titles(cli: Callable[..., Run], corpus: list[Paper]) -> None:
    run = cli("ask", QUESTION)
    assert run.code == OK
    answer, _, sources = run.out.partition("\nSources\n")
    cited = dict(re.findall(r"^  \[(\d+)\] (.+)$", sources, re.MULTILINE))
    assert (
        list(cited)
        == [str(n) for n in range(1, len(cited) + 1)]
        == list(dict.fromkeys(re.findall(r"\[(\d+)\]", answer)))
    )
    assert set(cited.values()) <= {p.title for p in corpus}
    assert "\x1b" not in run.out


def test_ask_says_on_stderr_in_one_line_that_no_server_answered_and_what_to_do(inside: Callable[..., Run]) -> None:
    run = inside("ask", QUESTION)
    assert one_line(run.err) and "ollama" in run.err.lower() and "ollama" not in run.out.lower()


def test_ask_json_has_the_documented_shape(cli: Callable[..., Run], corpus: list[Paper]) -> None:
    run = cli("ask", QUESTION, "--json")
    assert run.code == OK and one_line(run.out)
    answer = run.json
    assert promised(answer, "schema id question answer abstained mode model sentences citations context timings_ms")
    assert (answer["id"], answer["question"], answer["abstained"]) == (None, QUESTION, False)
    assert (answer["mode"], answer["model"]) == ("extractive", None)
    numbers = {c["n"] for c in answer["citations"]}
    for sentence in answer["sentences"]:
        assert promised(sentence, "text citations") and set(sentence["citations"]) <= numbers
    abstracts = {p.paper_id: p.abstract for p in corpus}
    for citation in answer["citations"]:
        assert promised(citation, "n paper_id title evidence")
        for e in citation["evidence"]:
            assert promised(e, "text start end")
            assert e["text"] == abstracts[citation["paper_id"]][e["start"] : e["end"]]
    assert answer["timings_ms"] and all(value >= 0 for value in answer["timings_ms"].values())


def test_search_json_has_the_documented_shape(inside: Callable[..., Run]) -> None:
    run = inside("search", QUESTION, "--json", "-k", 3)
    assert run.code == OK and run.err == ""
    assert promised(run.json, "schema id question hits")
    assert [h["rank"] for h in run.json["hits"]] == [1, 2, 3]
    for hit in run.json["hits"]:
        assert promised(hit, "rank paper_id title score dense bm25 late_interaction passage")
        assert (hit["lexical"], hit["nearness"]) == (hit["bm25"], hit["late_interaction"])  # deprecated names


def test_search_lists_titles_with_ids(inside: Callable[..., Run]) -> None:
    run = inside("search", "catastrophik forgetting", "-k", 2)
    assert run.code == OK and len(run.out.splitlines()) == 4
    assert "catastrophic" in run.err and "catastrophik" not in run.out


def test_an_unanswered_question_exits_3_and_says_so_on_stdout(cli: Callable[..., Run]) -> None:
    run = cli("ask", OFF_TOPIC)
    assert run.code == ABSTAINED and run.out.startswith("The corpus does not answer this.\n")
    run = cli("ask", OFF_TOPIC, "--json")
    assert run.code == ABSTAINED
    assert run.json["abstained"] and run.json["sentences"] == run.json["citations"] == []


def test_words_without_quotes_and_stdin_ask_the_same(inside: Callable[..., Run]) -> None:
    runs = [inside("ask", "--json", *QUESTION.split()), inside("ask", "--json", "-", stdin=f"{QUESTION}\n")]
    assert [r.json["answer"] for r in runs] == [inside("ask", "--json", QUESTION).json["answer"]] * 2
    assert inside("search", "-", "--json", stdin=QUESTION).json["question"] == QUESTION


def test_batch_answers_in_order_and_a_bad_line_in_its_place(cli: Callable[..., Run], tmp_path: Path) -> None:
    requests = [
        json.dumps({"id": "a", "question": QUESTION}),
        "not json",
        "",
        json.dumps({"id": 3, "question": "  "}),
        json.dumps({"id": 4}),
        json.dumps({"id": 5, "question": QUESTION, "history": "none"}),
        json.dumps([1]),
        json.dumps({"id": "b", "question": OFF_TOPIC, "history": [{"question": "q", "answer": "a"}]}),
    ]
    run = cli("ask", "--batch", stdin="\n".join(requests))
    assert [line["id"] for line in run.lines] == ["a", None, 3, 4, 5, None, "b"]
    assert ["error" in line for line in run.lines] == [False, True, True, True, True, True, False]
    assert run.lines[0]["answer"] == cli("ask", "--json", QUESTION).json["answer"] and run.lines[-1]["abstained"]
    assert run.code == USAGE
    (tmp_path / "q.jsonl").write_text(requests[0])
    run = cli("search", "--batch", tmp_path / "q.jsonl", "-k", 2)
    assert run.code == OK and run.lines[0]["id"] == "a" and len(run.lines[0]["hits"]) == 2


# --- papers, show, status, help --------------------------------------------------------------------


def test_papers_finds_titles_by_folded_words(inside: Callable[..., Run]) -> None:
    run = inside("papers", 'T\\"ULU')
    assert run.code == OK and run.out.startswith("TÜLU 3: ")
    assert [p["title"][:6] for p in inside("papers", "tülu", "--json").json] == ["TÜLU 3"]
    assert len(inside("papers", "--json").json) == 539
    run = inside("papers", "xyzzy")
    assert run.code == USAGE and run.out == "" and one_line(run.err)


def test_show_prints_one_paper_and_where_it_came_from(inside: Callable[..., Run], corpus: list[Paper]) -> None:
    paper = next(p for p in corpus if p.title.startswith("UniRL"))
    run = inside("show", paper.paper_id, "--json")
    assert run.json["abstract"] == paper.abstract and run.json["sources"] == list(paper.sources)
    assert (run.json["author_count"], run.json["date"], run.json["votes"]) == (3, "2025-05-29", 2)
    text = inside("show", *paper.title.split()).out
    assert (
        paper.title in " ".join(text.split()) and "3 authors" in text and paper.abstract[-40:] in " ".join(text.split())
    )
    run = inside("show", "retrieval")
    assert run.code == USAGE and run.out == "" and "Give an id" in run.err


def test_status_shows_manifest_counts_sizes_and_the_server(cli: Callable[..., Run], index_dir: Path) -> None:
    run = cli("status", "--json")
    assert run.code == OK
    status = run.json
    assert status["index"]["path"] == str(index_dir) and status["index"]["state"] == "ready"
    assert status["index"]["bytes"] > 1_000_000
    manifest = status["manifest"]
    assert status["passport"] == manifest  # the deprecated name
    assert (manifest["papers"], manifest["dimension"], manifest["embedding_model"]) == (539, 384, "all-MiniLM-L6-v2")
    assert {"schema", "weights", "pooling", "prefix", "chunking", "corpus", "versions"} <= set(manifest)
    assert "539" in cli("status").out
    assert "ollama" in status, "reachable or not"


def test_status_without_an_index_says_so(inside: Callable[..., Run], tmp_path: Path) -> None:
    run = inside("status", "--json", "--index", tmp_path / "none")
    assert run.code == INDEX and run.json["index"]["state"] == "missing" and "rag index" in run.err


def test_help_names_every_command_and_completion(inside: Callable[..., Run]) -> None:
    run = inside("--help")
    assert run.code == OK
    assert all(f" {name} " in run.out for name in ("ask", "search", "index", "papers", "show", "status"))
    assert "--install-completion" in run.out
    for name in ("ask", "search", "index", "papers", "show", "status"):
        assert inside(name, "--help").code == OK


def test_every_command_a_hint_names_exists(inside: Callable[..., Run]) -> None:
    run = inside("ask", "--set", "nonsense=1", QUESTION)
    assert run.code == USAGE
    for command in re.findall(r"`rag (\w+)", run.err):
        assert inside(command, "--help").code == OK, f"rag {command} is named by: {run.err}"


def test_install_completion_works_for_bash(cli: Callable[..., Run], tmp_path: Path) -> None:
    # The shell is found among the parents of the process; the second command keeps bash from becoming python.
    run = cli("--install-completion", prefix=("bash", "-c", '"$@"; exit $?', "bash"), HOME=str(tmp_path))
    assert run.code == OK and "installed" in run.out
    assert any(f.is_file() for f in tmp_path.rglob("*"))


def test_colours_are_left_out_on_request(inside: Callable[..., Run]) -> None:
    assert COLOUR.search(inside("ask", QUESTION, FORCE_COLOR="1").out)
    assert not COLOUR.search(inside("ask", QUESTION, "--no-color", FORCE_COLOR="1").out)
    assert not COLOUR.search(inside("ask", QUESTION, FORCE_COLOR="1", NO_COLOR="1").out)


# --- what is imported ------------------------------------------------------------------------------

HEAVY = ["torch", "transformers", "sentence_transformers", "llama_index", "gradio", "chromadb", "bm25s", "onnxruntime"]


def imported(*arguments: str, index: Path) -> set[str]:
    """Top-level modules a `rag` process has imported when it ends."""
    code = (
        "import sys\nfrom rag.cli import main\nsys.argv = ['rag', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('\\nMODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, env=os.environ | {"RAG_INDEX_DIR": str(index)}, timeout=60, check=True,
    )  # fmt: skip
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_ask_on_a_built_index_imports_no_heavy_library(index_dir: Path) -> None:
    modules = imported("ask", QUESTION, index=index_dir)
    assert {"numpy", "chromadb_rust_bindings"} <= modules and not modules & set(HEAVY)


def test_help_imports_neither_numpy_nor_chroma(index_dir: Path) -> None:
    modules = imported("--help", index=index_dir)
    assert "typer" in modules and not modules & {"numpy", "chromadb_rust_bindings", *HEAVY}


# --- commands of other packages --------------------------------------------------------------------


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """`plugins(name="module:app", ...)`: these entry points are installed, and no others."""
    (tmp_path / "plugin_apps.py").write_text(
        "import typer\n"
        "one, two = typer.Typer(), typer.Typer(help='Two commands.')\n"
        "@one.command()\ndef greet(name: str = 'you') -> None:\n    'Greet.'\n    print('hello', name)\n"
        "@two.command()\ndef a() -> None:\n    print('a')\n"
        "@two.command()\ndef b() -> None:\n    raise SystemExit(7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def install(**commands: str) -> None:
        points = [metadata.EntryPoint(name, value, GROUP) for name, value in commands.items()]
        monkeypatch.setattr(metadata, "entry_points", lambda group: [p for p in points if p.group == group])

    return install


def test_an_app_with_one_command_is_that_command_and_another_is_a_group(
    inside: Callable[..., Run], plugins: Callable[..., None]
) -> None:
    plugins(one="plugin_apps:one", two="plugin_apps:two")
    assert inside("one", "--name", "there").out == "hello there\n"
    assert inside("two", "a").out == "a\n" and inside("two", "b").code == 7
    text = inside("--help").out
    assert "Greet." in text and "Two commands." in text
    for command in ("one", "two"):
        run = inside(command, "-h")
        assert run.code == OK and "--install-completion" not in run.out


def test_a_command_that_cannot_be_loaded_breaks_only_itself(
    inside: Callable[..., Run], plugins: Callable[..., None]
) -> None:
    plugins(broken="plugin_apps:nothing", one="plugin_apps:one")
    run = inside("broken")
    assert run.code == 1 and one_line(run.err) and "broken cannot be loaded" in run.err
    run = inside("--help")
    assert run.code == OK and "Greet." in run.out and one_line(run.err) and "broken" in run.err


def test_without_an_installed_rag_unknown_commands_say_what_to_install(
    inside: Callable[..., Run], plugins: Callable[..., None]
) -> None:
    plugins()
    run = inside("eval")
    text = " ".join(run.err.replace("│", " ").split())
    assert run.code == USAGE and "No such command 'eval'" in text and "`pip install .`" in text
    assert inside("--help").code == OK and inside("search", QUESTION).code == OK


def test_a_question_does_not_look_for_commands_of_other_packages(
    inside: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise AssertionError("entry points were looked up")

    monkeypatch.setattr(metadata, "entry_points", fail)
    assert inside("ask", QUESTION).code == OK


def test_the_browser_and_the_evaluation_are_such_commands(inside: Callable[..., Run]) -> None:
    assert "--port" in inside("ui", "--help").out
    assert all(f" {name} " in inside("eval", "--help").out for name in ("run", "diff", "gate"))


def test_the_package_runs_as_a_module_too() -> None:
    for module in ("rag", "rag.cli"):
        run = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
        assert run.stdout.startswith("rag ")


# --- progress --------------------------------------------------------------------------------------


def test_progress_in_a_log_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0, 10, 20, 41, 45, 71.5, 200])
    progress = ProgressLog("Embedding papers", "papers", interval=30, clock=lambda: next(times))
    for done in (0, 64, 320, 352, 960):
        progress(done, 1500)
    assert capsys.readouterr().err.splitlines() == [
        "Embedding papers: 320/1500, 10/s, 114 s left",
        "Embedding papers: 960/1500, 16/s, 35 s left",
    ]
    progress(1500, 1500)
    assert capsys.readouterr().err == "Embedding papers: 1500/1500, 7.9/s, 0 s left\n"


def test_progress_of_a_download_is_in_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0, 1, 32, 64])
    progress = ProgressLog("Pulling a", "bytes", interval=30, clock=lambda: next(times))
    for done, total in ((0, 4_000_000_000), (2_000_000_000, 4_000_000_000), (0, 0)):
        progress(done, total)
    assert capsys.readouterr().err == "Pulling a: 2000 MB/4000 MB, 65 MB/s, 31 s left\n"


# --- bad input: one clear line and the right exit code ---------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["ask"], b"", "empty"),
        (["ask", ""], b"", "empty"),
        (["ask", " \t "], b"", "empty"),
        (["ask", "🔥🔥"], b"", "empty"),
        (["search", "-"], b"", "empty"),
        (["ask", "-"], b"a" * 1_000_000, "1,000,000 characters"),
        (["ask", "-"], bytes(range(256)) * 40, "not UTF-8"),
        (["ask", "-"], b"\x00\x1b\x07", "empty"),
        (["ask", "-k", "0", QUESTION], b"", "between 1 and"),
        (["ask", "--set", "k=many", QUESTION], b"", "whole number"),
        (["ask", "--set", "k", QUESTION], b"", "NAME=VALUE"),
        (["ask", "--config", "/none/rag.toml", QUESTION], b"", "/none/rag.toml"),
        (["ask", "--batch", "/none/q.jsonl"], b"", "/none/q.jsonl"),
        (["index", "/none/papers"], b"", "/none/papers"),
        (["show", ""], b"", "No paper matches"),
    ],
)
def test_bad_input_is_a_usage_error_in_one_line(
    inside: Callable[..., Run], arguments: list[str], stdin: bytes, message: str
) -> None:
    run = inside(*arguments, stdin=stdin)
    assert (run.code, run.out) == (USAGE, "")
    assert one_line(run.err) and run.err.startswith("rag: ") and message in run.err


@pytest.mark.parametrize("arguments", [["frobnicate"], ["ask", "--frobnicate"], ["show"]])
def test_bad_usage_exits_2(inside: Callable[..., Run], arguments: list[str]) -> None:
    run = inside(*arguments)
    assert (run.code, run.out) == (USAGE, "") and "Usage" in run.err


@pytest.mark.parametrize(
    "question",
    [
        "🔥 what mitigates forgetting? 🔥",
        "what\x07 mitigates\x00 forgetting?\r\n",
        "what \x1b[31mmitigates\x1b[0m forgetting?",
        "\u202ewhat mitigates\u200b forgetting\u2069?",
    ],
)
def test_decorated_questions_are_answered(inside: Callable[..., Run], question: str) -> None:
    run = inside("ask", "-", "--json", stdin=question)
    assert run.code == OK and not set(run.json["question"]) & set("\x00\x07\x1b\r\u202e")


@pytest.mark.parametrize("question", ["ما الذي يخفف من النسيان؟", "מה מפחית שכחה?", "什么可以减轻遗忘？"])
def test_questions_in_any_script_get_an_answer_or_an_abstention(inside: Callable[..., Run], question: str) -> None:
    run = inside("ask", question, "--json")
    assert run.code in (OK, ABSTAINED) and run.json["question"] == question


def test_a_corpus_file_that_is_not_utf8_is_named_with_its_line(inside: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"new\n\nTitle\ncaf\xe9\n")
    run = inside("index", tmp_path, "--index", tmp_path / "index")
    assert run.code == USAGE and one_line(run.err) and f"{tmp_path / 'latin.txt'}:4: not UTF-8" in run.err
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("command", [["ask", QUESTION], ["search", QUESTION], ["papers"], ["index"], ["status"]])
def test_a_folder_full_of_something_else_is_no_index(
    inside: Callable[..., Run], tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    run = inside(*command, "--index", tmp_path)
    assert run.code == INDEX and one_line(run.err) and "other files" in run.err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("command", [["ask", QUESTION], ["index"]])
def test_a_file_is_no_index(inside: Callable[..., Run], tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").write_text("x")
    run = inside(*command, "--index", tmp_path / "file")
    assert run.code == INDEX and one_line(run.err) and str(tmp_path / "file") in run.err


def test_an_index_of_other_settings_exits_6_and_names_field_and_command(inside: Callable[..., Run]) -> None:
    run = inside("ask", QUESTION, "--set", "max_tokens=128")
    assert (run.code, run.out) == (INDEX, "") and one_line(run.err)
    assert "max_tokens" in run.err and "rag index" in run.err


def test_a_corrupt_index_exits_6_and_names_the_command(cli: Callable[..., Run], small: Settings) -> None:
    (database,) = small.index_path.glob("versions/*/chroma/chroma.sqlite3")
    database.write_bytes(b"no database " * 1000)
    run = cli("ask", QUESTION, "--index", small.index_path)
    assert (run.code, run.out) == (INDEX, "") and one_line(run.err) and "rag index --rebuild" in run.err
    status = cli("status", "--json", "--index", small.index_path)
    assert status.code == INDEX and status.json["index"]["state"] == "corrupt"


def test_index_reports_what_it_did_and_skips_what_it_cannot_read(cli: Callable[..., Run], tmp_path: Path) -> None:
    lines = ['{"_id": "w", "title": "Walrus tusks", "text": "Tusks grow slowly in the Arctic."}', "{broken"]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    run = cli("index", tmp_path / "own.jsonl", "--index", tmp_path / "index", "--json")
    assert run.code == OK and (run.json["added"], run.json["passages"]) == (1, 1)
    assert "own.jsonl:2: " in run.err and run.json["problems"][0].startswith("own.jsonl:2: ")
    again = cli("index", "--index", tmp_path / "index")
    assert again.code == OK and "0 added, 0 changed, 0 removed, 1 unchanged" in again.out
    answer = cli("ask", "How do walrus tusks grow?", "--index", tmp_path / "index", "--json").json
    assert answer["citations"][0]["paper_id"] == "w"


def test_the_first_question_builds_an_index_of_the_packaged_corpus_and_says_so(
    inside: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = {"_id": "w", "title": "Walrus tusks", "text": "Tusks grow slowly in the Arctic."}
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "own.jsonl").write_text(json.dumps(line))
    monkeypatch.setattr("rag.corpus.reading.packaged_corpus", lambda: tmp_path / "corpus")
    run = inside("search", "walrus tusks", "--index", tmp_path / "index", "--json")
    assert run.code == OK and [hit["paper_id"] for hit in run.json["hits"]] == ["w"]
    assert one_line(run.err) and "no index yet" in run.err and str(tmp_path / "index") in run.err
    assert inside("search", "walrus tusks", "--index", tmp_path / "index").err == ""


# --- an index of another user -------------------------------------------------------------------


@pytest.fixture
def others(small: Settings) -> Iterator[Path]:
    """An index folder that other users may read but not write, in a folder of the same kind."""
    top = Path(tempfile.mkdtemp(prefix="rag-others-"))  # pytest's own temporary folders are closed to others
    shutil.copytree(small.index_path, top / "index")
    for path in (top, *top.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield top / "index"
    shutil.rmtree(top)


@pytest.fixture
def nobody(cli: Callable[..., Run], others: Path) -> Callable[..., Run]:
    """`cli` as another user, beside the others index."""
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become another user")
    probe = subprocess.run([*prefix, sys.executable, "-c", "import rag.cli"], cwd=others, capture_output=True)
    if probe.returncode:
        pytest.skip("another user cannot run this Python")
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(others.parent))
    return partial(cli, prefix=prefix, **({"cwd": others.parent, "RAG_INDEX_DIR": str(others)} | home))


def test_a_read_only_index_still_answers(nobody: Callable[..., Run], others: Path) -> None:
    before = sorted(p.name for p in others.rglob("*"))
    run = nobody("ask", QUESTION)
    assert run.code == OK and "[1]" in run.out
    assert sorted(p.name for p in others.rglob("*")) == before


def test_writing_a_read_only_index_fails_in_one_line(nobody: Callable[..., Run]) -> None:
    run = nobody("index", "--rebuild")
    assert (run.code, run.out) == (INDEX, "") and one_line(run.err) and "ermission" in run.err


def test_an_unreadable_index_fails_in_one_line(nobody: Callable[..., Run], others: Path) -> None:
    others.chmod(0o700)
    run = nobody("ask", QUESTION)
    assert (run.code, run.out) == (INDEX, "") and one_line(run.err) and "ermission" in run.err


def test_an_unreadable_corpus_file_is_named(nobody: Callable[..., Run], others: Path) -> None:
    secret = others.parent / "secret.txt"
    secret.write_text("x")
    secret.chmod(0o600)
    run = nobody("index", secret)
    assert run.code == USAGE and one_line(run.err) and str(secret) in run.err


def test_a_working_folder_that_cannot_be_searched_does_not_matter(
    nobody: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = nobody("ask", QUESTION, cwd=tmp_path_factory.mktemp("closed"))
    assert run.code == OK and "[1]" in run.out
