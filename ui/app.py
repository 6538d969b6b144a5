"""The app: the page with its handlers and endpoints, served by Gradio."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
from starlette.middleware import Middleware

from rag.assistant import Assistant
from rag.errors import UsageError
from ui import evaluation_tab
from ui.api import PublicAPI
from ui.conversation import Conversation
from ui.guard import Guard
from ui.layout import Page
from ui.papers_tab import PapersTab

_FOLDER = Path(__file__).parent
_EXAMPLES = {  # question -> the beginning of a paper's id; the example is offered if the corpus has that paper
    "What mitigates forgetting?": "reinforcement-fine-tuning-naturally-",
    "How do PROP and B-PROP differ?": "b-prop-",
    "Which papers align vision and language?": "jina-clip-v2-",
    "How is Tulu 3 trained?": "tulu-3-",
}


def build_page(assistant: Assistant, report: Path) -> gr.Blocks:
    """The page over `assistant`, with all its handlers; `report` is the folder of the evaluation's report."""
    papers = assistant.papers()
    examples = [question for question, start in _EXAMPLES.items() if any(p.paper_id.startswith(start) for p in papers)]
    dumps = sorted({source for paper in papers for source in paper.sources})
    page = Page(assistant.settings, len(papers), examples, dumps)
    with page.blocks:
        Conversation(page, assistant).connect()
        PapersTab(page, assistant, papers).connect()
        evaluation_tab.connect(page, report)
        PublicAPI(assistant).connect()
    return page.blocks


def serve(
    assistant: Assistant, host: str, port: int | None, account: tuple[str, str] | None, mcp: bool, report: Path
) -> gr.Blocks:
    """Serve the app; the running Blocks. Raises UsageError for a port that is taken, or `mcp` without its package."""
    if mcp and not find_spec("mcp"):  # Gradio would silently go on without it
        raise UsageError("The package `mcp` is not installed.", 'Install it with: pip install "mcp>=1.21,<2"')
    app = build_page(assistant, report)
    hosts = () if account else ("127.0.0.1", "localhost", "[::1]", host)
    options: dict[str, Any] = {
        "theme": _theme(),
        "css": (_FOLDER / "style.css").read_text(encoding="utf-8"),
        "head": f"<script>{(_FOLDER / 'behaviour.js').read_text(encoding='utf-8')}</script>",
        "app_kwargs": {"middleware": [Middleware(Guard, hosts=hosts)], "docs_url": None, "redoc_url": None},
        "footer_links": [],
        "max_file_size": 1,
        "quiet": True,
        **dict.fromkeys(("share", "run_history", "enable_monitoring", "ssr_mode", "pwa", "show_error"), False),
    }
    try:
        with redirect_stdout(StringIO()):  # `launch` prints the address itself
            app.launch(
                server_name=host, server_port=port, auth=account, mcp_server=mcp, prevent_thread_lock=True, **options
            )
    except OSError as error:
        message = f"Cannot serve on {host}:{port or 7860}: {error}."
        raise UsageError(message, "Choose another port with --port.") from error
    Thread(target=_warm_up, args=(assistant,)).start()  # after the page is served, which comes first
    return app


def _warm_up(assistant: Assistant) -> None:
    """Load what the first question would otherwise wait for."""
    settings = assistant.settings.replace(mode="extractive", nli_model="", judge_model="")
    assistant.configured(settings).ask("What is this corpus about?")


def _theme() -> gr.themes.Base:
    """System colours and bundled fonts, so that the page loads nothing from elsewhere."""
    fonts = gr.themes.utils.fonts
    return gr.themes.Base(  # of Gradio's own fonts, these hold the whole alphabet
        primary_hue="teal",
        neutral_hue="stone",
        font=[fonts.LocalFont("Source Sans Pro", (400, 700)), fonts.Font("system-ui"), fonts.Font("sans-serif")],
        font_mono=[fonts.LocalFont("IBM Plex Mono", (400,)), fonts.Font("monospace")],
    )
