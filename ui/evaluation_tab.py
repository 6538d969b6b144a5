"""The Evaluation tab: the latest report of `rag eval`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ui import view
from ui.layout import Page, listen

_MAX_BYTES = 20_000_000


def connect(page: Page, folder: Path) -> None:
    """Show the report in `folder` when the tab is selected; call it inside the page's Blocks."""
    listen(page.evaluation_tab.select, lambda: _report(folder), outputs=page.report)


def _report(folder: Path) -> str:
    path = folder / "report.html"
    try:
        if path.stat().st_size > _MAX_BYTES:
            return view.render("message", message=f"{path} is too large to show here. Open the file in a browser.")
        written = datetime.fromtimestamp(path.stat().st_mtime)
        text = path.read_text(encoding="utf-8", errors="replace")
        return view.render("report", text=text, written=f"{written:%Y-%m-%d %H:%M}")
    except OSError:
        return view.render("message", message=f"No report yet in {folder}/. `rag eval` writes one.")
