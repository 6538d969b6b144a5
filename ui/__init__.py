"""The chat in the browser, which `rag ui` serves. Every answer comes from `rag.Assistant`; this package renders it.

`launch(Assistant.open())` serves it from a program.
"""

from __future__ import annotations

import gc
from ipaddress import ip_address
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from rag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag.assistant import Assistant

REPORTS = Path("reports")  # the folder that `rag eval` writes its report to by default


def check(host: str, auth: str | None) -> tuple[str, str] | None:
    """(user, password) from `auth`. Raises UsageError if others could reach the app without a password."""
    user, colon, password = (auth or "").partition(":")
    if auth and not (user and colon and password):
        raise UsageError("--auth must be USER:PASSWORD.", "Neither part may be empty.")
    if not auth and not _is_loopback(host):
        raise UsageError(
            f"{host} is open to the network: anyone who reaches it could read and ask without a password.",
            "Add --auth USER:PASSWORD, or omit --host to serve this machine only.",
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

    `port` None takes the first free port from 7860. `report` is the folder with the evaluation's report.html.
    Raises UsageError for a host open to others without `auth`, or a port that is taken.
    """
    account = check(host, auth)
    gc.disable()  # garbage collection while modules load takes a quarter of the start
    try:
        from ui.app import serve

        app = serve(assistant() if callable(assistant) else assistant, host, port, account, mcp, report)
    finally:
        gc.enable()
    try:
        print(f"rag ui: {app.local_url} (Ctrl-C ends it)", flush=True)
        if mcp:
            print(f"MCP: {app.local_url}gradio_api/mcp/", flush=True)
        while wait:
            sleep(1)  # in turns: an interrupt that comes just before a single endless wait would not end it
    except KeyboardInterrupt:
        app.close(verbose=False)
    return app


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
