"""The command line with an Ollama server, in pipes and on pseudo-terminals."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.helpers_cli import InProcess
from tests.ollama_server import FakeModel, OllamaServer

OK, ABSTAINED, UNSUPPORTED, UNAVAILABLE, INTERRUPTED = 0, 3, 4, 5, 130
QUESTION = "what mitigates forgetting?"
TITLE = "Reinforcement Fine-Tuning Naturally Mitigates Forgetting in Continual Post-Training"
SECOND = "Contrastive Supervised Distillation for Continual Representation Learning"
CLAIM = "Reinforcement fine-tuning mitigates forgetting"
CSD = "Contrastive supervised distillation performs favorably in mitigating catastrophic forgetting"
INVENTED = "LoRA cures all diseases of elephants"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DONE = "\nSources\n"

Cli = Callable[..., Run]


@pytest.fixture
def fake() -> Iterator[OllamaServer]:
    with OllamaServer({"nomic-embed-text": FakeModel(["embedding"], 2048, "nomic-bert")}) as server:
        server.models |= {"llama3.2:latest": FakeModel(), "qwen3:4b": FakeModel(["completion", "thinking"])}
        server.reply = ["Reinforcement fine-", "tuning mitigates forgetting", " [1", "]."]
        yield server


@pytest.fixture
def rag(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    index_dir: Path,
    fake: OllamaServer,
) -> Cli:
    """The command line without a process of its own, pointed at the fake server."""
    folder = tmp_path_factory.mktemp("cwd")
    return InProcess(monkeypatch, capsys, folder, RAG_INDEX_DIR=str(index_dir), OLLAMA_HOST=fake.host)


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


class Live:
    """A `rag` process that can be watched and typed to while it runs, on a pseudo-terminal or behind pipes."""

    def __init__(self, index: Path, *arguments: str, terminal: bool, **environment: str) -> None:
        code = "import sys; sys.argv[0] = 'rag'; from rag.cli import main; main()"
        if terminal:
            import pty

            # The terminal controls the process, so that a typed Ctrl-C is a signal.
            code = f"import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); {code}"
            self._fd, side = pty.openpty()
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), side)
        else:
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        extra = {"RAG_INDEX_DIR": str(index), "PYTHONUTF8": "1", "COLUMNS": "200", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | extra | environment,
            **streams,  # type: ignore[call-overload]
        )
        if terminal:
            os.close(side)
        else:
            self._fd = os.dup(self.process.stdout.fileno())
        self._terminal = terminal
        self._raw = b""
        self._found = 0

    @property
    def seen(self) -> str:
        """All output so far, without colours and line ends of terminals."""
        return CONTROL.sub("", self._raw.decode("utf-8", "replace")).replace("\r", "")

    def until(self, text: str) -> None:
        """Wait for `text` in the output that no earlier wait has found."""
        while (at := self.seen.find(text, self._found)) < 0:
            assert self._read(), f"{text!r} did not come: {self.seen!r}"
        self._found = at + len(text)

    def type(self, line: str) -> None:
        os.write(self._fd, f"{line}\n".encode())

    def end(self) -> int:
        """Read to the end of the output; the exit code."""
        while self._read():
            pass
        return self.process.wait(60)

    def stop_reading(self) -> None:
        """Close this end of the pipe."""
        self.process.stdout.close()
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def _read(self) -> bool:
        assert select.select([self._fd], [], [], 60)[0], f"nothing came: {self.seen!r}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # how Linux says that the other side of a pseudo-terminal is closed
            return False
        self._raw += data
        return bool(data)


@pytest.fixture
def live(fake: OllamaServer, index_dir: Path) -> Iterator[Callable[..., Live]]:
    """Starts `Live` processes pointed at the fake server."""
    started: list[Live] = []

    def start(*arguments: str, terminal: bool = True, **environment: str) -> Live:
        environment = {"OLLAMA_HOST": fake.host, **environment}
        started.append(Live(index_dir, *arguments, terminal=terminal, **environment))
        return started[-1]

    yield start
    for process in started:
        process.close()


# --- an answer -------------------------------------------------------------------------------------


def test_a_model_answers_if_a_server_does(cli: Cli, fake: OllamaServer) -> None:
    run = cli("ask", QUESTION, OLLAMA_HOST=fake.host)
    assert (run.code, run.err) == (OK, "")
    assert run.out == f"{CLAIM} [1].\n\nSources\n  [1] {TITLE}\n"
    (chat,) = fake.chats()
    assert chat["model"] == "llama3.2:latest"  # the first that does more than embed
    assert chat["messages"][-1]["content"].endswith(f"Question: {QUESTION}")
    assert f"Title: {TITLE}" in chat["messages"][1]["content"]
    assert (chat["truncate"], chat["shift"], chat["options"]["num_ctx"]) == (False, False, 4096)


def test_json_names_mode_model_and_times(rag: Cli, fake: OllamaServer) -> None:
    run = rag("ask", QUESTION, "--json", "--timing")
    assert run.code == OK
    answer = run.json
    assert (answer["mode"], answer["model"], answer["abstained"]) == ("generative", "llama3.2:latest", False)
    assert [(c["n"], c["title"]) for c in answer["citations"]] == [(1, TITLE)]
    (evidence,) = answer["citations"][0]["evidence"]
    assert evidence["text"] in fake.chats()[0]["messages"][1]["content"]
    (sentence,) = answer["sentences"]
    assert (sentence["text"], sentence["citations"], sentence["verdict"]) == (f"{CLAIM}.", [1], "supported")
    times = answer["timings_ms"]
    assert 0 < times["first_token"] <= times["generate"] <= times["total"] and times["tokens_per_second"] == 80.0
    assert one_line(run.err) and "first token " in run.err and "80.0 tokens/s" in run.err


@pytest.mark.parametrize("terminal", [True, False])
def test_text_appears_while_it_is_written(live: Callable[..., Live], fake: OllamaServer, terminal: bool) -> None:
    fake.fault = "pause"
    process = live("ask", QUESTION, terminal=terminal)
    process.until("Reinforcement fine-")
    assert "tuning" not in process.seen
    fake.resume.set()
    process.until(f"tuning mitigates forgetting [1].\n{DONE}  [1] {TITLE}")
    assert process.end() == OK and process.seen.count(CLAIM) == 1


def test_every_way_of_citing_becomes_a_number(rag: Cli, fake: OllamaServer) -> None:
    forms = ["[1]", "[1, 9]", "[1][7]", "[1-1]", "(1)", "【1】", "【1†source】", "(Passage 1)", "[^1]", "¹"]
    fake.replies = [[f"{CLAIM} {form}."] for form in forms] + [[f"Passage 1 says that {CLAIM}."]]
    run = rag("ask", "--batch", stdin="\n".join(json.dumps({"question": QUESTION}) for _ in fake.replies))
    assert run.code == OK
    assert [line["answer"] for line in run.lines[:-1]] == [f"{CLAIM} [1]."] * len(forms)
    assert all(s["citations"] == [1] for line in run.lines for s in line["sentences"])
    fake.reply = [f"{CLAIM} [1-2].", f" {CSD} [1, 2]."]
    assert [s["citations"] for s in rag("ask", QUESTION, "--json").json["sentences"]] == [[1, 2], [1, 2]]


def test_a_citation_that_refers_to_no_paper_is_dropped_with_a_note(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = [f"{CLAIM} [1", ", 9][77]."]
    run = rag("ask", QUESTION)
    assert run.code == OK and run.out == f"{CLAIM} [1].\n\nSources\n  [1] {TITLE}\n"
    assert one_line(run.err) and run.err.startswith("2 citations were dropped")


def test_a_supported_sentence_without_a_citation_gets_one(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = [f"{CLAIM}.", f" {CSD}."]
    run = rag("ask", QUESTION)
    written, _, checked = run.out.partition("\nChecked against the papers:\n")
    assert written == f"{CLAIM}. {CSD}.\n"
    text, _, sources = checked.partition(DONE)
    assert text == f"{CLAIM}. [1] {CSD}. [2]\n" and sources == f"  [1] {TITLE}\n  [2] {SECOND}\n"
    assert run.code == OK and one_line(run.err) and run.err.startswith("Corrected the citation of 2 sentences")


def test_an_unsupported_sentence_is_marked_and_exits_4(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = [f"{CLAIM} [1].", f" {INVENTED} [2]."]
    run = rag("ask", QUESTION)
    assert run.code == UNSUPPORTED
    assert f"{INVENTED} [2]. ✗\n" in run.out and f"✗ “{INVENTED}.” " in run.out
    answer = rag("ask", QUESTION, "--json")
    assert answer.code == UNSUPPORTED
    assert [s["verdict"] for s in answer.json["sentences"]] == ["supported", "unsupported"]


def test_strict_removes_it_before_it_is_printed(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = [f"{CLAIM} [1].", f" {INVENTED} [2]."]
    for run in (rag("ask", "--strict", QUESTION), rag("ask", QUESTION, RAG_STRICT="1")):
        assert run.code == OK and run.out == f"{CLAIM} [1].\n\nSources\n  [1] {TITLE}\n"
        assert one_line(run.err) and "Removed" in run.err


def test_a_guess_is_withheld(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = [f"{INVENTED}."]
    run = rag("ask", QUESTION)
    assert run.code == ABSTAINED and "\nThe corpus does not answer this.\n" in run.out and "withheld" in run.err
    assert "Sources" not in run.out


def test_a_refusal_abstains(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = ["The corpus does not ", "answer this."]
    run = rag("ask", "Who won the 1998 football world cup?")
    assert run.code == ABSTAINED and run.err == ""
    assert run.out.startswith("The corpus does not answer this.\n\nRelated, but they don't answer this:\n  - ")


def test_reasoning_is_never_part_of_the_answer(rag: Cli, fake: OllamaServer, live: Callable[..., Live]) -> None:
    fake.reply = [("Let me ", ), ("see.",), "<think>More", " of it.</think>\n", f"{CLAIM} [1]."]  # fmt: skip
    expected = f"{CLAIM} [1].\n\nSources\n  [1] {TITLE}\n"
    run = rag("ask", QUESTION, "--model", "qwen3:4b")
    assert (run.code, run.out, run.err) == (OK, expected, "")
    assert fake.chats()[-1]["think"] is False
    assert "Let me" not in rag("ask", QUESTION, "--json", "--show-thinking").out
    run = rag("ask", QUESTION, "--show-thinking", "-s", "think=on", "-s", "model=qwen3:4b")
    assert (run.code, run.out, run.err) == (OK, expected, "Let me see.More of it.\n\n")
    assert fake.chats()[-1]["think"] is True
    process = live("ask", QUESTION, "--show-thinking")
    process.until(f"More of it.\n\n{CLAIM} [1].")
    assert process.end() == OK and b"\x1b[2mLet me " in process._raw


def test_an_answer_at_its_limit_says_so(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = ["Reinforcement", " fine-tuning", " mitigates", " forgetting", " [1]", ". ", *["And so on "] * 30]
    run = rag("ask", QUESTION, "-s", "answer_tokens=16")
    assert "The answer was cut off at 16 tokens; answer_tokens sets the limit.\n" in run.err


def test_nothing_a_model_writes_reaches_the_terminal_as_control(rag: Cli, fake: OllamaServer) -> None:
    fake.reply = [f"{CLAIM} [1].", " \x1b[2J\x07\u202e\ud83d", "\ude00 More."]
    run = rag("ask", QUESTION)
    assert run.code in (OK, UNSUPPORTED) and not set(run.out) & set("\x1b\x07\u202e")
    assert rag("ask", QUESTION, "--json").json["mode"] == "generative"


# --- which model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nosuch"], r"no model 'nosuch'\. `rag models pull nosuch`"),
        (["--model", "nomic-embed-text"], r"it can only embed\. `rag models`"),
        (["--mode", "generative", "-s", "model=nosuch"], r"`rag models pull nosuch`"),
    ],
)
def test_a_model_that_cannot_answer(rag: Cli, fake: OllamaServer, arguments: list[str], message: str) -> None:
    run = rag("ask", QUESTION, *arguments)
    assert (run.code, run.out) == (UNAVAILABLE, "") and one_line(run.err) and re.search(message, run.err)
    assert not fake.chats()


def test_a_server_without_a_model_that_answers(rag: Cli, fake: OllamaServer) -> None:
    fake.models = {"nomic-embed-text": FakeModel(["embedding"])}
    run = rag("ask", QUESTION, "--mode", "generative")
    assert (run.code, run.out) == (UNAVAILABLE, "") and one_line(run.err) and "`rag models pull llama3.2`" in run.err
    run = rag("ask", QUESTION)
    assert run.code == OK and DONE in run.out
    assert one_line(run.err) and "`rag models pull llama3.2`" in run.err and "Quoting the papers instead" in run.err
    assert "`rag models pull llama3.2`" in rag("models").err


def test_models_are_listed_and_the_one_that_answers_is_marked(rag: Cli, fake: OllamaServer) -> None:
    run = rag("models")
    assert run.code == OK and run.err == ""
    assert [line.split()[:2] for line in run.out.splitlines() if line[0] == "*"] == [["*", "llama3.2:latest"]]
    assert "nomic-embed-text" in run.out and "3.2B Q4_K_M" in run.out and "2.0 GB" in run.out
    listed = rag("models", "--json", "-s", "model=llama3.2").json
    assert [m["name"] for m in listed] == ["nomic-embed-text", "llama3.2:latest", "qwen3:4b"]
    assert [m["chosen"] for m in listed] == [False, True, False]
    fake.models["far"] = FakeModel(remote_host="https://ollama.com")
    assert rag("models").out.splitlines()[-1].endswith("in the cloud")


def test_pull(rag: Cli, fake: OllamaServer, live: Callable[..., Live]) -> None:
    run = rag("models", "pull", "new:1b")
    assert (run.code, run.out, run.err) == (OK, "new:1b\n", "") and "new:1b" in fake.models
    run = rag("models", "pull", "nosuch")
    assert (run.code, run.out) == (UNAVAILABLE, "") and one_line(run.err) and "no model 'nosuch' to pull" in run.err
    process = live("models", "pull", "other:1b")
    process.until("Pulling other:1b")
    process.until("120/120 bytes")
    assert process.end() == OK


@pytest.mark.parametrize("arguments", [["models"], ["models", "pull", "x"]])
def test_models_without_a_server(cli: Cli, arguments: list[str]) -> None:
    run = cli(*arguments)
    assert (run.code, run.out) == (UNAVAILABLE, "") and one_line(run.err) and "ollama serve" in run.err


# --- failures --------------------------------------------------------------------------------------

BEFORE_ANY_TEXT = [
    ("refused", "No Ollama server answers at .*`ollama serve`"),
    ("400", "refused the request.*`rag config`"),
    ("404", "`rag models pull llama3.2:latest`"),
    ("500", "requires more system memory.*smaller model"),
    ("503", "busy.*OLLAMA_MAX_QUEUE"),
    ("not_ollama", "not as Ollama does.*OLLAMA_HOST"),
    ("not_http", "not as Ollama does.*OLLAMA_HOST"),
    ("redirect", "points to https://elsewhere/.*OLLAMA_HOST"),
    ("crash", "broke.*Ask again"),
    ("hang", r"sent nothing for 0\.2 s.*RAG_FIRST_TOKEN_TIMEOUT"),
]
IN_MID_STREAM = [
    ("stream_error", "CUDA error.*log"),
    ("death", "broke.*Ask again"),
    ("death_in_line", "broke.*Ask again"),
    ("bad_json", "not JSON.*Ask again"),
    ("drip", r"sent nothing for 0\.2 s.*RAG_TOKEN_TIMEOUT"),
    ("pause", r"sent nothing for 0\.2 s.*RAG_TOKEN_TIMEOUT"),
]


def befall(fake: OllamaServer, fault: str) -> dict[str, str]:
    """Set `fault`; the environment in which it shows."""
    fake.fault = fault
    if fault == "refused":
        return {"OLLAMA_HOST": "127.0.0.1:9"}
    return {"hang": {"RAG_FIRST_TOKEN_TIMEOUT": "0.2"}, "drip": {"RAG_TOKEN_TIMEOUT": "0.2"}}.get(
        fault, {"RAG_TOKEN_TIMEOUT": "0.2"} if fault == "pause" else {}
    )


@pytest.mark.parametrize(("fault", "message"), BEFORE_ANY_TEXT)
def test_a_failure_is_one_line_with_its_remedy(rag: Cli, fake: OllamaServer, fault: str, message: str) -> None:
    run = rag("ask", QUESTION, "--mode", "generative", **befall(fake, fault))
    assert (run.code, run.out) == (UNAVAILABLE, "")
    assert one_line(run.err) and run.err.startswith("rag: ") and re.search(message, run.err)


@pytest.mark.parametrize(("fault", "message"), IN_MID_STREAM)
def test_what_had_streamed_is_kept(rag: Cli, fake: OllamaServer, fault: str, message: str) -> None:
    fake.reply = [f"{CLAIM} [1].", " More", " follows."]
    run = rag("ask", QUESTION, "--mode", "generative", **befall(fake, fault))
    assert (run.code, run.out) == (UNAVAILABLE, f"{CLAIM} [1].\n")
    assert one_line(run.err) and run.err.startswith("rag: ") and re.search(message, run.err)


@pytest.mark.parametrize(("fault", "message"), BEFORE_ANY_TEXT[2:4] + BEFORE_ANY_TEXT[-1:] + IN_MID_STREAM[:2])
def test_the_papers_are_quoted_if_no_model_was_required(rag: Cli, fake: OllamaServer, fault: str, message: str) -> None:
    fake.reply = [f"{CLAIM} [1].", " More"]
    environment = befall(fake, fault)
    run = rag("ask", QUESTION, **environment)
    assert run.code == OK and f"{DONE}  [1] {TITLE}" in run.out
    streamed = (fault, message) in IN_MID_STREAM
    assert run.out.startswith(f"{CLAIM} [1].\n[broken off]\n\n") == streamed
    assert one_line(run.err) and re.search(message, run.err) and run.err.endswith("Quoting the papers instead.\n")
    answer = rag("ask", QUESTION, "--json", **environment).json
    assert (answer["mode"], answer["model"]) == ("extractive", None) and re.search(message, answer["notes"][0])


def test_the_server_decides_the_mode_only_if_no_setting_does(rag: Cli, fake: OllamaServer) -> None:
    run = rag("ask", QUESTION, "--mode", "extractive")
    assert run.code == OK and run.err == "" and not fake.requests


@pytest.mark.parametrize("version", ["0.12.5", "0.34.2"])
def test_a_truncated_prompt_is_no_answer(rag: Cli, fake: OllamaServer, version: str) -> None:
    fake.version, fake.forced_num_ctx = version, 100
    run = rag("ask", QUESTION, "--mode", "generative")
    assert run.code == UNAVAILABLE and DONE not in run.out
    assert one_line(run.err) and "Raise num_ctx (now 8192), or retrieve fewer papers with -k." in run.err
    run = rag("ask", QUESTION, "--json")
    assert run.json["mode"] == "extractive" and "Raise num_ctx" in run.json["notes"][0]


@pytest.mark.parametrize("terminal", [True, False])
def test_an_interrupt_stops_the_server_and_keeps_the_text(
    live: Callable[..., Live], fake: OllamaServer, terminal: bool
) -> None:
    fake.fault = "pause"
    process = live("ask", QUESTION, terminal=terminal)
    process.until("Reinforcement fine-")
    assert not fake.client_gone.is_set()
    process.process.send_signal(signal.SIGINT)
    assert fake.client_gone.wait(30) and process.end() == INTERRUPTED
    assert process.seen.endswith("Reinforcement fine-\n") and "Traceback" not in process.seen


def test_a_reader_that_leaves_early_is_no_failure(live: Callable[..., Live], fake: OllamaServer) -> None:
    fake.fault = "pause"
    process = live("ask", QUESTION, terminal=False)
    process.until("Reinforcement fine-")
    process.stop_reading()
    fake.resume.set()
    assert process.process.wait(60) == OK and process.process.stderr.read() == b""


# --- settings, status ------------------------------------------------------------------------------


def test_config_says_where_each_value_comes_from(rag: Cli, fake: OllamaServer, tmp_path: Path) -> None:
    (tmp_path / "rag.toml").write_text('num_ctx = 2048\nkeep_alive = "5m"\n[llm]\nmodel = "qwen3:4b"\nseed = 7\n')
    arguments = ("-s", "temperature=0.5", "-s", "llm.model=llama3.2")
    environment = {"RAG_NUM_CTX": "1024", "RAG_KEEP_ALIVE": "10m", "cwd": tmp_path}
    settings = rag("config", "--json", *arguments, **environment).json
    expected = {
        "num_ctx": (1024, "environment RAG_NUM_CTX"),
        "model": ("llama3.2", "command line"),
        "temperature": (0.5, "command line"),
        "keep_alive": ("10m", "environment RAG_KEEP_ALIVE"),
        "seed": (7, "rag.toml"),
        "ollama_host": (fake.host, "environment OLLAMA_HOST"),
        "token_timeout": (60.0, "default"),
    }
    for name, (value, origin) in expected.items():
        assert settings[name] == {"value": value, "origin": origin, "group": "llm"}
    lines = rag("config", *arguments, **environment).out.splitlines()
    assert "[llm]" in lines and [line for line in lines if re.match(r"model +llama3\.2 +command line +\w", line)]
    settings = rag("config", "--json", RAG_OLLAMA_HOST=":1").json
    assert settings["ollama_host"] == {"value": ":1", "origin": "environment RAG_OLLAMA_HOST", "group": "llm"}


def test_old_names_work_with_a_note(rag: Cli, fake: OllamaServer) -> None:
    run = rag("ask", QUESTION, "--mode", "ollama", "-s", "llm=llama3.2", "--json")
    assert run.code == OK and run.json["mode"] == "generative" and run.json["model"] == "llama3.2"
    assert run.err.count("is deprecated") == 2 and "use generative" in run.err and "use model" in run.err


def test_settings_reach_the_server(rag: Cli, fake: OllamaServer, tmp_path: Path) -> None:
    (tmp_path / "rag.toml").write_text(f'ollama_host = "{fake.host}"\nkeep_alive = "-1"\nseed = 7\n')
    run = rag("ask", QUESTION, "--model", "qwen3:4b", cwd=tmp_path, OLLAMA_HOST=":9", RAG_TEMPERATURE="0.3")
    assert run.code == OK
    (chat,) = fake.chats()
    assert (chat["model"], chat["keep_alive"]) == ("qwen3:4b", -1)
    assert (chat["options"]["seed"], chat["options"]["temperature"]) == (7, 0.3)


def test_status_says_whether_a_server_answers(rag: Cli, fake: OllamaServer) -> None:
    assert rag("status", "--json").json["ollama"] == {
        "host": fake.host,
        "reachable": True,
        "version": "0.34.2",
        "model": "llama3.2:latest",
    }
    fake.models = {}
    server = rag("status", "--json").json["ollama"]
    assert server["reachable"] and "model" not in server and "rag models pull" in server["problem"]
    fake.fault, fake.fault_path = "not_ollama", "/api/version"
    server = rag("status", "--json").json["ollama"]
    assert not server["reachable"] and "not as Ollama does" in server["problem"]
    run = rag("status", "--json", OLLAMA_HOST="0.0.0.0:9")
    assert run.code == OK and run.json["ollama"]["host"] == "http://127.0.0.1:9"
    assert not run.json["ollama"]["reachable"] and "ollama serve" in run.json["ollama"]["problem"]


def test_a_judge_is_asked_about_uncertain_sentences_only(rag: Cli, fake: OllamaServer) -> None:
    fake.models["judge"] = FakeModel()
    uncertain = "Contrastive supervised distillation outperforms 17 current methods"
    quoted = "Code at: https://github.com/NiccoBiondi/ContrastiveSupervisedDistillation."
    fake.replies = [[f"{CLAIM} [1].", f" {uncertain} [2].", f" {quoted} [2]"], ["MISSING"]]
    run = rag("ask", QUESTION, "--judge", "judge", "--json")
    assert run.code == UNSUPPORTED
    answered, judged = fake.chats()
    assert (answered["model"], judged["model"]) == ("llama3.2:latest", "judge")
    assert judged["messages"][-1]["content"].endswith(f"Sentence: {uncertain}.")
    assert [s["verdict"] for s in run.json["sentences"]][:2] == ["supported", "unsupported"]
    assert run.json["sentences"][1]["reason"].startswith("judge: ")


# --- conversations ---------------------------------------------------------------------------------

TURN = {"question": QUESTION, "answer": f"{CLAIM} [1]."}
FOLLOW_UP = "and does it help in vision?"


def test_batch_with_history_shows_what_was_searched(rag: Cli, fake: OllamaServer) -> None:
    requests = [{"id": 1, "question": QUESTION}, {"id": 2, "question": FOLLOW_UP, "history": [TURN]}]
    run = rag("ask", "--batch", stdin="\n".join(map(json.dumps, requests)))
    assert run.code == OK
    assert [line["query"] for line in run.lines] == [QUESTION, f"{FOLLOW_UP} mitigates forgetting"]
    assert [line["question"] for line in run.lines] == [QUESTION, FOLLOW_UP]
    messages = fake.chats()[-1]["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == f"{CLAIM}." and messages[3]["content"].endswith(f"Question: {FOLLOW_UP}")


def test_a_failure_in_a_batch_is_reported_in_its_place(rag: Cli, fake: OllamaServer) -> None:
    fake.fault = "500"
    run = rag("ask", "--batch", "--mode", "generative", stdin=json.dumps({"id": "a", "question": QUESTION}))
    assert run.code == UNAVAILABLE and run.err == ""
    assert run.lines == [{"id": "a", "error": run.lines[0]["error"]}] and "system memory" in run.lines[0]["error"]


def test_chat_in_a_pipe(rag: Cli, fake: OllamaServer) -> None:
    lines = [
        "/sources", QUESTION, "/sources", "/open 1", "/open 9", "/open", FOLLOW_UP, "", "/model", "/model nosuch",
        "/model qwen3:4b", QUESTION, "/frobnicate", "/quit", "never asked",
    ]  # fmt: skip
    run = rag("chat", stdin="\n".join(lines))
    assert run.code == OK
    answer = f"{CLAIM} [1].\n\nSources\n  [1] {TITLE}\n"
    assert run.out.startswith(f"{answer}\n\nSources\n  [1] {TITLE}\n{TITLE}\nContinual post-training (CPT) is ")
    assert run.err.splitlines()[0] == "Nothing has been answered yet."
    for message in (
        "The last answer cites no [9].",
        "Which one? /open 1 shows",
        f"Searched for: {FOLLOW_UP} mitigates forgetting",
        "Model: llama3.2:latest. Also available: nomic-embed-text, qwen3:4b.",
        "no model 'nosuch'",
        "Answers now come from qwen3:4b.",
        "/sources lists what was cited",
    ):
        assert message in run.err
    chats = fake.chats()
    assert [chat["model"] for chat in chats] == ["llama3.2:latest", "llama3.2:latest", "qwen3:4b"]
    assert [len(chat["messages"]) for chat in chats] == [2, 4, 6]
    assert chats[1]["messages"][2] == {"role": "assistant", "content": f"{CLAIM}."}
    assert all("never asked" not in str(chat) for chat in chats)


def test_chat_ends_with_its_input(cli: Cli, fake: OllamaServer) -> None:
    assert cli("chat", OLLAMA_HOST=fake.host).code == OK
    run = cli("chat", stdin=f"{QUESTION}\n".encode() + b"caf\xe9?\n", OLLAMA_HOST=fake.host)
    assert run.code == OK and run.out.count(CLAIM) == 2


def test_a_failure_does_not_end_the_chat(rag: Cli, fake: OllamaServer) -> None:
    fake.fault = "500"
    run = rag("chat", "--mode", "generative", stdin=f"{QUESTION}\n🔥\n/sources\n")
    assert run.code == OK and run.out == ""
    assert "system memory" in run.err and "empty" in run.err and "Nothing has been answered yet." in run.err


def test_chat_without_a_server_says_so_once(cli: Cli) -> None:
    run = cli("chat", stdin=f"{QUESTION}\n{QUESTION}\n")
    assert run.code == OK and run.out.count(DONE) == 2 and run.err.count("ollama serve") == 1


def test_chat_on_a_terminal(live: Callable[..., Live], fake: OllamaServer) -> None:
    process = live("chat")
    process.until("/quit ends")
    process.until("> ")
    process.type(QUESTION)
    process.until(f"{CLAIM} [1].\n{DONE}")
    process.until("> ")
    fake.fault = "pause"
    process.type(FOLLOW_UP)
    process.until("Searched for: ")
    process.until("Reinforcement fine-")
    os.write(process._fd, b"\x03")
    process.until("Stopped.\n")
    assert fake.client_gone.wait(30)
    fake.fault = ""
    process.until("> ")
    process.type("/open 1")
    process.until(TITLE)
    process.until("> ")
    process.type(FOLLOW_UP)
    process.until(f"{DONE}  [2] {TITLE}")
    process.until("> ")
    os.write(process._fd, b"\x04")
    assert process.end() == OK
    assert [len(chat["messages"]) for chat in fake.chats()] == [2, 4, 4]  # what was stopped is not remembered


def test_quit_ends_a_chat_on_a_terminal(live: Callable[..., Live]) -> None:
    process = live("chat")
    process.until("> ")
    process.type("/help")
    process.until("/sources lists what was cited")
    process.until("> ")
    process.type("/quit")
    assert process.end() == OK
