"""Takes the pictures in docs/images: `python docs/screenshots.py`, over the user's index (or RAG_INDEX_DIR).

A fake model writes REPLY, which has one claim with a wrong source and one that no paper supports. Everything else is
the program itself.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from rag.assistant import Assistant
from tests.ollama_server import OllamaServer
from ui import launch

IMAGES = Path(__file__).parent / "images"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUESTION = "What mitigates forgetting?"
REPLY = (
    "In continual post-training, the implicit regularization inherent to RFT is a key factor in mitigating "
    "forgetting [1]. For continual representation learning, CSD mitigates catastrophic forgetting and outperforms "
    "current state-of-the-art methods [3]. Training takes three days on eight GPUs [1]. Language-guided supervision "
    "mitigates forgetting by alleviating representation drifting [3]."
)


def main() -> None:
    """Take every picture, each as a new visitor."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with OllamaServer() as server, sync_playwright() as playwright:
        server.reply = [word if i == 0 else f" {word}" for i, word in enumerate(REPLY.split())]
        assistant = Assistant.open()
        settings = assistant.settings.replace(ollama_host=server.host, mode="auto", model="")
        app = launch(assistant.configured(settings), wait=False)
        with playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser:
            wide, phone = {"width": 1200, "height": 760}, {"width": 390, "height": 844}
            welcome(visit(browser, app, viewport=wide))
            answer(visit(browser, app, viewport=wide), "answer")
            answer(visit(browser, app, viewport=wide, color_scheme="dark"), "dark")
            answer(visit(browser, app, viewport=phone, device_scale_factor=1.5), "phone")
            papers(visit(browser, app, viewport=wide))
            settings_panel(visit(browser, app, viewport=wide))
        app.close()


def visit(browser: Browser, app: Any, **more: Any) -> Page:
    """A new visitor's page, loaded."""
    page = browser.new_page(reduced_motion="reduce", **more)
    page.goto(app.local_url)
    page.get_by_role("button", name=QUESTION).wait_for()
    page.evaluate("document.fonts.ready")
    return page


def save(page: Page, name: str) -> None:
    """Write docs/images/NAME.png and close the page."""
    page.screenshot(path=IMAGES / f"{name}.png")
    page.close()


def welcome(page: Page) -> None:
    save(page, "welcome")


def answer(page: Page, name: str) -> None:
    """An answer with a reason shown, and the card of its second source selected."""
    page.get_by_role("button", name=QUESTION).click()
    turn = page.locator("#thread .turn")
    turn.locator("a.cite").nth(1).click()
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    turn.get_by_role("button", name="Not supported").focus()
    save(page, name)


def papers(page: Page) -> None:
    page.get_by_role("tab", name="Papers").click()
    page.get_by_role("textbox", name="Search").fill("continual learning without forgetting")
    page.locator("#list .count", has_text="100").wait_for()
    page.locator("#list li button").first.click()
    page.locator("#paper-view .near li").first.wait_for()
    save(page, "papers")


def settings_panel(page: Page) -> None:
    page.get_by_role("button", name=QUESTION).click()
    page.locator("#thread .turn").wait_for()
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_role("radio", name="llama3.2").wait_for()
    save(page, "settings")


if __name__ == "__main__":
    main()
