"""The chat in a real browser, on the whole index, against the faithful Ollama server.

Every page of every test records its requests; a request to another host fails the test. Tests wait for what the
page shows or for an event of the server, never for time.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from gradio_client import Client
from playwright.sync_api import Browser, Locator, Page, expect

from rag.assistant import Assistant
from rag.errors import UsageError
from rag.index.build import build_index
from rag.settings import Settings
from rag.types import Delta, Paper, Prompted, Searched, SearchResult
from tests.conftest import Run
from tests.ollama_server import FakeModel, OllamaServer
from ui import check, launch, view
from ui.entries import plain_text, unfinished
from ui.running import Progress

REPLY = [
    "Reinforcement",
    " fine-tuning mitigates forgetting",
    " [1]",
    ".",
    " Paris has 870 bridges made of cheese",
    " [2].",
]
EVIL = (
    "<script>window.evil = 1</script><img src=x onerror='window.evil = 2'> ![x](http://evil.test/x.png) {{7*7}} ${7*7}"
)
LINK = "[click](javascript:window.evil=3) </textarea></iframe>\u202eoverride\u202c"


# --- fixtures and helpers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _server() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        yield server


@pytest.fixture
def ollama(_server: OllamaServer) -> OllamaServer:
    """The server that the app uses, reset."""
    _server.models = {"llama3.2:latest": FakeModel(), "nomic-embed-text:latest": FakeModel(["embedding"])}
    _server.reply, _server.replies, _server.fault, _server.fault_path = list(REPLY), [], "", "/api/chat"
    _server.client_gone.clear()
    _server.requests.clear()
    return _server


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def app(assistant: Assistant, _server: OllamaServer, reports: Path) -> Iterator[Any]:
    """The app over the whole corpus."""
    settings = assistant.settings.replace(ollama_host=_server.host)
    running = launch(assistant.configured(settings), report=reports, wait=False)
    yield running
    running.close()


@pytest.fixture
def visit(browser: Browser, app: Any, ollama: OllamaServer) -> Iterator[Callable[..., Page]]:
    """`visit(url, **context)`: a new visitor's page; no page may send a request to another host."""
    requests: list[str] = []
    contexts = []

    def open_(url: str = "", **context: Any) -> Page:
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url or app.local_url)
        expect(box(page)).to_be_visible()
        return page

    yield open_
    for context in contexts:
        context.close()
    local = ("http://127.0.0.1:", "data:", "blob:")
    assert requests and not [url for url in requests if not url.startswith(local)]


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Question")


def turns(page: Page) -> Locator:
    return page.locator("#thread .turn")


def ask(page: Page, question: str = "What mitigates forgetting?") -> Locator:
    """Ask, wait for the whole answer, return its turn."""
    before = turns(page).count()
    box(page).fill(question)
    box(page).press("Enter")
    expect(turns(page)).to_have_count(before + 1)
    return turns(page).last


def settings_panel(page: Page) -> None:
    page.get_by_role("button", name="Settings", exact=True).click()
    expect(page.get_by_role("radio", name="Automatic")).to_be_visible()


def quotations(page: Page) -> None:
    settings_panel(page)
    page.get_by_role("radio", name="Quotations only").check()
    page.get_by_role("button", name="Close the settings").click()


# --- answers ---------------------------------------------------------------------------------------------


def test_quotations_with_their_evidence(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    page = visit()
    quotations(page)
    turn = ask(page)
    expect(turn.get_by_role("heading", level=2)).to_be_in_viewport()
    expect(turn.locator(".meta")).to_contain_text("quoted from the papers")
    cites = turn.locator("a.cite")
    assert cites.count() >= 2
    cites.last.click()
    number = cites.last.inner_text()
    card = turn.locator(".card.selected")
    expect(card.locator(".n")).to_have_text(number)
    expect(card.locator("mark").first).to_be_in_viewport()
    expect(card.locator(".verdicts li").first).to_contain_text("Supported")
    assert turn.locator(".card[open]").count() == 1  # the others have closed
    expect(turn.locator(".also summary").first).to_contain_text("Also found")
    for question in ("What is LoRA?", "How is Tulu 3 trained?"):
        expect(ask(page, question).get_by_role("heading", level=2)).to_be_in_viewport()
    assert not ollama.chats()  # the choice lasts


def test_a_citation_shows_what_supports_its_own_sentence(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    claims = {
        "The implicit regularization inherent to RFT is a key factor in mitigating forgetting [1].": "a key factor",
        "SFT leads to catastrophic forgetting of previously learned tasks [1].": "SFT leads to catastrophic forgetting",
    }
    ollama.reply = [" ".join([*claims, "Training takes three days on eight GPUs [1]."])]
    turn = ask(visit())
    card = turn.locator(".card").first
    for cite, proof in zip(turn.locator("a.cite").all(), claims.values(), strict=False):
        cite.click()
        expect(card.locator("mark.here")).to_contain_text(proof)
        expect(card.locator("mark.here")).to_be_in_viewport(ratio=1)
    assert card.locator("mark").count() == len(claims)  # what is nearest to an unsupported sentence is no evidence
    expect(card.locator(".verdicts .unsupported")).to_contain_text("Training takes three days")


def test_a_model_answers_and_its_sentences_are_judged(visit: Callable[..., Page]) -> None:
    page = visit()
    turn = ask(page)
    expect(turn.locator(".text")).to_contain_text("fine-tuning mitigates forgetting")
    expect(turn.locator(".meta")).to_contain_text("by llama3.2:latest")
    expect(turn.locator(".meta")).to_contain_text("first words after")
    flag = turn.get_by_role("button", name="Not supported")
    reason = turn.get_by_role("tooltip").last
    expect(reason).to_be_hidden()
    flag.focus()
    expect(reason).to_be_visible()
    page.keyboard.press("Escape")
    expect(reason).to_be_hidden()
    flag.hover()
    expect(reason).to_be_visible()
    assert reason.inner_text()


def test_words_stream_and_stop_ends_the_generation(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    ollama.fault = "pause"  # after the first chunk, until the client goes
    page = visit()
    box(page).fill("What mitigates forgetting?")
    box(page).press("Enter")
    live = page.locator("#live")
    expect(live.get_by_role("status")).to_contain_text("first words after")
    expect(live.locator(".text")).to_have_text("Reinforcement")
    assert not ollama.client_gone.is_set()
    page.get_by_role("button", name="Stop").click()
    assert ollama.client_gone.wait(10)
    expect(turns(page).last.locator(".meta")).to_contain_text("stopped")
    expect(turns(page).last.locator(".text")).to_have_text("Reinforcement")
    ollama.fault = ""
    expect(ask(page, "What is LoRA?").locator(".meta")).to_contain_text("by llama3.2")


def test_stop_while_the_model_is_silent_gives_the_question_back(
    visit: Callable[..., Page], ollama: OllamaServer
) -> None:
    ollama.fault = "hang"  # before the first byte
    page = visit()
    box(page).fill("What mitigates forgetting?")
    box(page).press("Enter")
    expect(page.locator("#live").get_by_role("status")).to_contain_text("reads 5 papers")
    page.get_by_role("button", name="Stop").click()
    assert ollama.client_gone.wait(10)
    expect(box(page)).to_have_value("What mitigates forgetting?")
    expect(page.locator(".turn")).to_have_count(0)


def test_stop_ends_the_call_of_a_judge(visit: Callable[..., Page], assistant: Assistant, ollama: OllamaServer) -> None:
    judge_asked = threading.Event()

    class JudgeReply(list[Any]):
        def __getitem__(self, part: Any) -> Any:
            judge_asked.set()
            return list(self)[part]

    claim = "Reinforcement fine-tuning forgets more than supervised fine-tuning [1]."
    ollama.replies = [[claim], JudgeReply(["CONTRA", "DICTED"])]
    ollama.fault = "pause"  # between two chunks: the answer has only one
    settings = assistant.settings.replace(ollama_host=ollama.host, judge_model="llama3.2")
    app = launch(assistant.configured(settings), wait=False)
    try:
        page = visit(app.local_url)
        box(page).fill("What mitigates forgetting?")
        box(page).press("Enter")
        assert judge_asked.wait(20)
        expect(page.locator("#live .text")).to_contain_text("forgets more")
        assert not ollama.client_gone.is_set()
        page.get_by_role("button", name="Stop").click()
        assert ollama.client_gone.wait(10)
        expect(turns(page).last.locator(".meta")).to_contain_text("stopped, so not checked")
        expect(turns(page).last.locator(".text")).to_contain_text("forgets more")
    finally:
        app.close()


def test_leaving_the_page_ends_the_generation(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    ollama.fault = "hang"
    page = visit()
    box(page).fill("What mitigates forgetting?")
    box(page).press("Enter")
    expect(page.locator("#live").get_by_role("status")).to_contain_text("reads 5 papers")
    page.close()
    assert ollama.client_gone.wait(10)


def test_a_server_that_dies_in_mid_answer(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    ollama.fault = "death"
    page = visit()
    turn = ask(page)
    turn.locator(".broken summary").click()
    expect(turn.locator(".broken .text")).to_have_text("Reinforcement")  # what had streamed is kept
    expect(turn.locator(".broken summary")).to_contain_text("Quoting the papers instead")
    assert turn.locator(".answer > .text a.cite").count()


def test_follow_ups_show_what_was_searched(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    page = visit()
    ask(page)
    turn = ask(page, "And in vision?")
    expect(turn.locator(".asked")).to_contain_text("forgetting")
    expect(turn.get_by_role("heading", level=2)).to_be_in_viewport()
    talk = json.dumps(ollama.chats()[-1]["messages"])
    assert "What mitigates forgetting?" in talk and "fine-tuning mitigates" in talk


def test_retry_edit_undo_and_clear(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    page = visit()
    page.get_by_role("button", name="What mitigates forgetting?").click()  # an example
    expect(turns(page)).to_have_count(1)
    ollama.reply = ["Replay does", " [1]", "."]
    page.get_by_role("button", name="Retry").click()
    expect(turns(page).locator(".text").first).to_contain_text("Replay does")
    expect(turns(page)).to_have_count(1)
    ask(page, "What is LoRA?")
    page.get_by_role("button", name="Edit").click()
    expect(turns(page)).to_have_count(1)
    expect(box(page)).to_have_value("What is LoRA?")
    expect(box(page)).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(turns(page)).to_have_count(0)
    expect(box(page)).to_have_value("")
    ask(page)
    page.get_by_role("button", name="Clear").click()
    expect(turns(page)).to_have_count(0)
    expect(page.get_by_role("button", name="What mitigates forgetting?")).to_be_visible()


def test_a_conversation_is_kept_exported_and_copied(visit: Callable[..., Page]) -> None:
    page = visit(accept_downloads=True, permissions=["clipboard-read", "clipboard-write"])
    ask(page)
    page.reload()
    expect(turns(page)).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert "## What mitigates forgetting?" in text and "## Bibliography" in text
    assert "[1] Reinforcement Fine-Tuning Naturally Mitigates Forgetting" in text and "@misc{" in text
    turns(page).locator(".card a, .card button", has_text="Copy BibTeX").first.click()
    expect(turns(page).get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("@misc{")


def test_nobody_sees_what_another_asked(visit: Callable[..., Page]) -> None:
    first, second = visit(), visit()
    ask(first, "Which pangolin am I after?")
    ask(second, "What is LoRA?")
    assert turns(first).count() == turns(second).count() == 1
    assert "pangolin" not in second.content()
    third = visit()
    expect(third.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    assert turns(third).count() == 0


# --- settings, papers, report ----------------------------------------------------------------------------


def test_settings_follow_the_server(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    page = visit()
    settings_panel(page)
    expect(page.get_by_role("radio", name="llama3.2:latest")).to_be_visible()
    assert page.get_by_role("radio", name="nomic").count() == 0  # it can only embed
    ollama.models["qwen3:4b"] = FakeModel()
    page.get_by_role("radio", name="qwen3:4b").check()  # comes without a reload
    page.get_by_role("spinbutton", name="Papers to read").fill("3")
    page.get_by_role("checkbox", name="Show retrieval scores").check()
    page.get_by_role("button", name="Close the settings").click()
    turn = ask(page)
    assert ollama.chats()[-1]["model"] == "qwen3:4b"
    assert turn.locator(".card").count() == 3
    expect(turn.locator(".card .about").first).to_contain_text("dense")


def test_a_banner_while_no_server_answers(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    ollama.fault, ollama.fault_path = "not_ollama", "/api/tags"
    page = visit()
    banner = page.locator(".banner")
    expect(banner).to_contain_text("ollama serve")
    expect(ask(page).locator(".meta")).to_contain_text("quoted from the papers")
    ollama.fault = ""
    expect(banner).to_have_count(0)
    expect(ask(page).locator(".meta")).to_contain_text("by llama3.2")


def test_browsing_the_papers(visit: Callable[..., Page], corpus: list[Paper]) -> None:
    page = visit()
    dated = [paper for paper in corpus if paper.date and "2025-05" <= paper.date[:7] <= "2025-07"]
    assert dated
    page.get_by_role("tab", name="Papers").click()
    count = page.locator("#list .count")
    expect(count).to_have_text(f"{len(corpus)} papers")
    page.get_by_role("textbox", name="From").fill("2025-05")
    page.get_by_role("textbox", name="To").fill("2025-07")
    expect(count).to_have_text(f"{len(dated)} papers")
    page.get_by_role("textbox", name="To").fill("soon")
    expect(page.locator("#list")).to_contain_text("soon is not a date")
    page.get_by_role("textbox", name="From").fill("")
    page.get_by_role("textbox", name="To").fill("")
    page.get_by_role("textbox", name="Search").fill("catastrophic forgetting in post-training")
    expect(page.locator("#list li").first).to_contain_text("Reinforcement Fine-Tuning Naturally")
    page.locator("#list li button").first.click()
    paper = page.locator("#paper-view")
    expect(paper.get_by_role("heading", level=2)).to_contain_text("Reinforcement Fine-Tuning Naturally")
    expect(paper.locator(".near li")).to_have_count(5)
    paper.locator(".near button").first.click()
    expect(paper.get_by_role("heading", level=2)).not_to_contain_text("Reinforcement Fine-Tuning Naturally")
    title = paper.get_by_role("heading", level=2).inner_text()
    paper.get_by_role("button", name="Ask about this paper").click()
    expect(box(page)).to_have_value(f"What does “{title}” propose?")


def test_a_dump_filters_the_papers(visit: Callable[..., Page]) -> None:
    page = visit()
    page.get_by_role("tab", name="Papers").click()
    page.get_by_label("Dump").click()
    page.get_by_role("option", name="dump 003").click()
    expect(page.locator("#list .count")).to_have_text("80 papers")


def test_the_report_can_run_nothing(visit: Callable[..., Page], reports: Path) -> None:
    page = visit()
    page.get_by_role("tab", name="Evaluation").click()
    expect(page.get_by_text("No report yet")).to_be_visible()
    (reports / "report.html").write_text("<h1>nDCG 0.731</h1><script>top.evil = 1</script>", encoding="utf-8")
    page.get_by_role("tab", name="Ask").click()
    page.get_by_role("tab", name="Evaluation").click()
    expect(page.frame_locator("iframe.report").get_by_role("heading")).to_have_text("nDCG 0.731")
    assert page.evaluate("window.evil") is None


# --- hostile text ----------------------------------------------------------------------------------------


def test_hostile_model_output_and_questions(visit: Callable[..., Page], ollama: OllamaServer) -> None:
    ollama.reply = [EVIL, " ", LINK, " [1]."]
    page = visit()
    turn = ask(page, f"What mitigates forgetting? {EVIL} {LINK}")
    expect(turn.locator(".text")).to_contain_text("<script>window.evil = 1</script>")
    expect(turn.locator(".text")).to_contain_text("![x](http://evil.test/x.png) {{7*7}} ${7*7}")
    expect(turn.get_by_role("heading", level=2)).to_contain_text("<img src=x onerror='window.evil = 2'>")
    assert harmless(page)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, six: list[Paper]) -> Iterator[Any]:
    """An app over papers that contain markup and scripts."""
    papers = [
        Paper(
            paper_id='evil"><script>window.evil=4</script>',
            title=f"Forgetting {EVIL}",
            abstract=f"Forgetting is bad. {EVIL} {LINK}",
            sources=(EVIL,),
        ),
        Paper(
            paper_id="link",
            title=f"Forgetting {LINK}",
            abstract=f"Forgetting is mitigated. {LINK} {EVIL}",
            sources=(LINK,),
            date="2024<b>",
        ),
        *six[:2],
    ]
    folder = tmp_path_factory.mktemp("hostile") / "index"
    settings = Settings.of(index_dir=str(folder), mode="extractive", abstain_below=0.0)
    build_index(papers, settings)
    running = launch(Assistant.open(settings), wait=False)
    yield running
    running.close()


@pytest.mark.slow
def test_hostile_papers(visit: Callable[..., Page], hostile: Any) -> None:
    page = visit(hostile.local_url)
    turn = ask(page, "How is forgetting mitigated?")
    expect(turn.locator(".evidence")).to_contain_text("Forgetting <script>window.evil = 1</script>")
    page.get_by_role("tab", name="Papers").click()
    page.locator("#list li button").first.click()
    expect(page.locator("#paper")).to_contain_text("<script>window.evil = 1</script>")
    page.get_by_role("button", name="Ask about this paper").click()
    expect(box(page)).to_have_value(f"What does “Forgetting {EVIL}” propose?")
    assert harmless(page)


def test_templates_escape_data_and_replace_its_control_characters() -> None:
    html = view.render("failure", question=f"{EVIL} {LINK}", message="\x1b[31m'\"")
    assert "&lt;script&gt;" in html and " [31m&#39;&#34;" in html
    assert not any(text in html for text in ("<script", "<img", "\u202e", "\x1b"))


def test_a_citation_of_an_unfinished_answer_refers_to_the_context(six: list[Paper]) -> None:
    progress = Progress()
    progress.add(Searched(SearchResult(question="Q", query="Q")))
    progress.add(Prompted("m", (six[1], six[0])))
    progress.add(Delta("One [2]. Two [1][3]."))
    assert progress.draft
    entry = unfinished(progress.draft, stopped=True)
    assert [(c["n"], c["paper_id"]) for c in entry["citations"]] == [(1, six[1].paper_id), (2, six[0].paper_id)]
    assert f"[1] {six[1].title}" in plain_text(entry) and entry["stopped"]


def harmless(page: Page) -> bool:
    """Whether no markup or script of a text has become part of the page."""
    made = page.locator(".turn :is(script, img, iframe), .turn a:not(.cite), #paper-view :is(script, img, a)").count()
    return page.evaluate("window.evil") is None and made == 0 and "\u202e" not in page.inner_text("body")


# --- accessibility -------------------------------------------------------------------------------------------


def test_with_the_keyboard_alone(visit: Callable[..., Page]) -> None:
    page = visit()
    page.keyboard.press("/")  # goes to the question
    page.keyboard.type("What mitigates forgetting?")
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(1)
    turns(page).locator("a.cite").nth(1).focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    summary = turns(page).locator(".card.selected summary")
    expect(summary).to_be_focused()
    page.keyboard.press("Tab")
    expect(turns(page).locator(".card.selected .abstract")).to_be_focused()  # scrolls with the arrow keys


@pytest.mark.parametrize("look", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": (390, 844)}])
def test_axe_finds_nothing_serious(visit: Callable[..., Page], look: dict[str, Any]) -> None:
    if "viewport" in look:
        look = {"viewport": dict(zip(("width", "height"), look["viewport"], strict=True))}
    page = visit(reduced_motion="reduce", **look)
    problems = violations(page)
    ask(page)
    problems += violations(page)
    settings_panel(page)
    problems += violations(page)
    page.get_by_role("button", name="Close the settings").click()
    page.get_by_role("tab", name="Papers").click()
    page.locator("#list li button").first.click()
    expect(page.locator("#paper")).to_be_visible()
    assert problems + violations(page) == []


def violations(page: Page) -> list[tuple[str, str]]:
    results = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"]) for v in results if v["impact"] in ("serious", "critical")]


def test_on_a_phone_and_in_the_dark(visit: Callable[..., Page]) -> None:
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark", reduced_motion="reduce")
    turn = ask(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    answer, evidence = turn.locator(".answer").bounding_box(), turn.locator(".evidence").bounding_box()
    assert answer and evidence and evidence["y"] >= answer["y"] + answer["height"]
    background = page.evaluate("getComputedStyle(document.querySelector('.gradio-container')).backgroundColor")
    assert max(int(part) for part in background.strip("rgb()").split(",")) < 64
    assert page.evaluate("getComputedStyle(document.querySelector('.turn')).animationName") == "none"


# --- the server ----------------------------------------------------------------------------------------------


def get(app: Any, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", app.server_port, timeout=20)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=http://127.0.0.1:9/",
        "/gradio_api/proxy=http://127.0.0.1:9/",
        "/file=/etc/passwd",
        "/assets/../../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static//etc/passwd",
        "/gradio_api/custom_component/x/client/component/../../../../etc/passwd",
        "/gradio_api/upload",
        "/gradio_api/runs",
        "/monitoring",
    ],
)
def test_nothing_else_is_served(app: Any, path: str) -> None:
    for method in ("GET", "POST"):
        status, body = get(app, path, method)
        assert status in (403, 404, 405) and b"root:" not in body


def test_only_by_its_own_name(app: Any) -> None:
    assert get(app, "/", Host="evil.test")[0] == 403  # a foreign name that points to this machine
    for origin in ("https://evil.test", "null", "http://127.0.0.1:9"):  # a page elsewhere that asks for this one
        assert get(app, "/gradio_api/queue/join", "POST", Origin=origin)[0] == 403
    status, page = get(app, "/", Host=f"localhost:{app.server_port}")
    assert status == 200
    for tag in (b'src="http', b'href="http', b"//fonts.g", b"cdn"):
        assert tag not in page


def test_hosts_open_to_others_need_a_password() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(UsageError, match="--auth"):
            check(host, None)
    assert check("0.0.0.0", "ann:secret:er") == ("ann", "secret:er")
    assert check("127.0.0.1", None) is check("localhost", None) is check("::1", None) is None
    for auth in ("ann", "ann:", ":secret"):
        with pytest.raises(UsageError, match="USER:PASSWORD"):
            check("127.0.0.1", auth)


def test_ten_are_answered_at_once(app: Any, ollama: OllamaServer) -> None:
    """The model's server continues no answer before all ten are under way."""
    everybody = threading.Barrier(11)

    class Held(list[Any]):
        def __getitem__(self, part: Any) -> Any:
            everybody.wait(30)
            return list(self)[part]

    ollama.reply = Held(REPLY)
    (function,) = [number for number, fn in app.fns.items() if fn.name == "answer"][:1]
    for visitor in range(10):
        data = [f"What mitigates forgetting, asks {visitor}?", None, "auto", 5, False, False]
        body = json.dumps({"data": data, "fn_index": function, "session_hash": f"visitor{visitor}"})
        connection = http.client.HTTPConnection("127.0.0.1", app.server_port, timeout=20)
        connection.request("POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
    everybody.wait(30)  # BrokenBarrierError if one of them had to wait for another
    for visitor in range(10):
        events = finished(app, f"visitor{visitor}")
        assert f"asks {visitor}?" in events
        assert not [other for other in range(10) if other != visitor and f"asks {other}?" in events]


def finished(app: Any, session: str) -> str:
    """All events of the queue for this session."""
    return get(app, f"/gradio_api/queue/data?session_hash={session}")[1].decode()


def test_programs_ask_and_search(app: Any, ollama: OllamaServer) -> None:
    client = Client(app.local_url, verbose=False)
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/ask", "/search"}
    answer = client.predict(question="What mitigates forgetting?", mode="extractive", api_name="/ask")
    assert answer["mode"] == "extractive" and answer["citations"] and answer["sentences"][0]["verdict"]
    result = client.predict(question="catastrophic forgetting", k=3, api_name="/search")
    assert [hit["rank"] for hit in result["hits"]] == [1, 2, 3]
    with pytest.raises(Exception, match="empty"):
        client.predict(question=" ", api_name="/search")
    with pytest.raises(Exception, match="no mode 'magic'"):
        client.predict(question="What is LoRA?", mode="magic", api_name="/ask")
    documented("gradio_client", app.local_url)


def documented(package: str, url: str) -> None:
    """Run the example of docs/ui.md that uses `package`, on a thread of its own: the browser's has a loop already."""
    text = (Path(__file__).parents[1] / "docs" / "ui.md").read_text(encoding="utf-8")
    (example,) = [part for part in text.split("```") if part.startswith("python") and f"from {package} " in part]
    example = example.removeprefix("python").replace("http://127.0.0.1:7860", url.rstrip("/"))
    with ThreadPoolExecutor() as apart:
        apart.submit(exec, example, {}).result()


def test_models_ask_and_search(assistant: Assistant) -> None:
    """The MCP tools, as a client of that protocol sees them."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def talk(url: str) -> None:
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert set(tools) == {"ask", "search"} and tools["ask"].inputSchema["required"] == ["question"]
            asked = {"question": "What mitigates forgetting?", "mode": "extractive"}
            answer = json.loads((await session.call_tool("ask", asked)).content[0].text)
            assert answer["mode"] == "extractive" and answer["citations"]
            result = json.loads((await session.call_tool("search", {"question": "forgetting", "k": 2})).content[0].text)
            assert len(result["hits"]) == 2
            assert "empty" in (await session.call_tool("ask", {"question": " "})).content[0].text

    running = launch(assistant, mcp=True, wait=False)
    try:
        with ThreadPoolExecutor() as apart:
            apart.submit(asyncio.run, talk(f"{running.local_url}gradio_api/mcp/")).result()
        documented("mcp", running.local_url)
    finally:
        running.close()


def test_with_a_password(browser: Browser, assistant: Assistant) -> None:
    running = launch(assistant, auth="ann:secret:er", wait=False)
    requests: list[str] = []
    try:
        for path in ("/config", "/gradio_api/info", "/gradio_api/mcp/"):
            assert get(running, path)[0] in (401, 404)
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto(running.local_url)
        for password, seen in (("wrong", "Incorrect"), ("secret:er", "What would you like to know?")):
            page.get_by_label("username").fill("ann")
            page.get_by_label("password").fill(password)
            page.get_by_role("button", name="Login").click()
            expect(page.get_by_text(seen).first).to_be_visible()
        page.close()
    finally:
        running.close()
    assert requests and not [url for url in requests if not url.startswith(running.local_url)]


def test_the_command_line_refuses_what_is_unsafe_or_taken(app: Any, cli: Callable[..., Run]) -> None:
    refused = cli("ui", "--host", "0.0.0.0")
    assert refused.code == 2 and "--auth" in refused.err and "without a password" in refused.err
    taken = cli("ui", "--port", app.server_port)
    assert taken.code == 2 and "--port" in taken.err


def test_the_command_imports_gradio_only_to_serve() -> None:
    code = "import sys, ui.command; print([m for m in ('gradio', 'ui.app') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_ctrl_c_ends_it(index_dir: Path) -> None:
    command = [sys.executable, "-m", "rag", "ui", "--index", str(index_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and "http://127.0.0.1:" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
