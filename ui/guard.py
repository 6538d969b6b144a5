"""ASGI middleware in front of Gradio: it serves the app's own paths only, and only to the app's own pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The paths that the app needs. Gradio also accepts uploads, serves files by path and fetches addresses for a caller.
_PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/login", "/logout")
_FOLDERS = ("/assets/", "/static/", "/svelte/")
_NAMES = "queue/ run/ call/ info heartbeat/ cancel reset app_id login_check startup-events mcp token user"
_CALLS = tuple(f"/gradio_api/{name}" for name in _NAMES.split())
# With this policy the browser loads nothing from other hosts. Gradio needs inline scripts and evaluates templates.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class Guard:
    """Answers 404 to other paths, and 403 to requests under another host name or from another site's page."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = ()) -> None:
        """`hosts` are the app's own names; empty allows every name, for an app with a password."""
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        is_own = path in _PAGES or path.startswith(_FOLDERS + _CALLS)
        if not is_own or ".." in path:
            await _refuse(send, 404)
        elif self.hosts and not _is_allowed(scope, self.hosts):
            await _refuse(send, 403)
        else:

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), *_HEADERS]
                await send(message)

            await self.app(scope, receive, send_with_headers)


def _is_allowed(scope: Scope, hosts: tuple[str, ...]) -> bool:
    """Whether the request names one of `hosts`, and comes from no other site's page.

    Starlette's TrustedHostMiddleware is not used: it answers 400, and cannot compare Origin with Host, port included.
    """
    headers = dict(scope["headers"])
    host, origin = headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin", b"").decode("latin-1")
    name, _, port = host.rpartition(":")
    return (name if port.isdecimal() else host) in hosts and (not origin or origin.partition("://")[2] == host)


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Refused.\n"})
