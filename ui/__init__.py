"""The chat in the browser: what `rag ui` serves. Presentation only: every answer comes from `rag.Assistant`.

`launch(Assistant.open())` serves it from a program.
"""

from __future__ import annotations

import gc
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from rag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag.assistant import Assistant

REPORTS = Path("reports")  # where `rag eval` leaves its report, unless told otherwise


def check(host: str, auth: str | None) -> tuple[str, str] | None:
    """(user, password) from `auth`. Raises UsageError where others could reach an app without a password."""
    user, colon, password = (auth or "").partition(":")
    if auth and not (user and colon and password):
        raise UsageError("--auth must be USER:PASSWORD.", "Neither part may be empty.")
    if not auth and not _loopback(host):
        raise UsageError(
            f"{host} is open to the network, and whoever reaches it could read and ask without a password.",
            "Add --auth USER:PASSWORD, or leave --host out to serve this machine alone.",
        )
    return (user, password) if auth else None


def launch(
    assistant: Assistant | Callable[[], Assistant],
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: str | None = None,
    mcp: bool = False,
    report: Path = REPORTS,
    wait: bool = True,
) -> Any:
    """Serve the app over `assistant` (or what it returns, once Gradio is loaded); return the running Blocks.

    `port` None takes the first free one from 7860. `report` is the folder with the evaluation's report.html.
    Raises UsageError for a host open to others without `auth`, or a port that is taken.
    """
    account = check(host, auth)
    gc.disable()  # looking for garbage while modules load takes a quarter of the start
    try:
        from ui.app import serve

        app = serve(assistant() if callable(assistant) else assistant, host, port, account, mcp, report)
    finally:
        gc.enable()
    try:
        print(f"rag ui: {app.local_url} (Ctrl-C ends it)", flush=True)
        if mcp:
            print(f"MCP: {app.local_url}gradio_api/mcp/", flush=True)
        if wait:
            Event().wait()
    except KeyboardInterrupt:
        app.close(verbose=False)
    return app


def _loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
