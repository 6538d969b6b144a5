"""Where an Ollama server listens, in every form that OLLAMA_HOST accepts."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from rag.settings import LLMSettings

DEFAULT_PORT = 11434


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `path` is empty or begins with a slash."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_host(value: str) -> Address:
    """The address in `value`, in any form that OLLAMA_HOST accepts. "Every interface" becomes the local host.

    As in Ollama, an invalid port becomes the default one: 11434, or 80 and 443 if `value` has a scheme.
    """
    value = value.strip().strip("\"'").strip()
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "http", value
    scheme = scheme.lower()
    port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT
    if rest == "ollama.com" and not separator:
        scheme, port = "https", 443
    authority, _, path = rest.partition("/")
    if match := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", authority):
        host, digits = match[1], match[2]
    elif authority.count(":") > 1:
        host, digits = authority, None  # an IPv6 address without brackets
    else:
        host, _, digits = authority.partition(":")
    if digits and digits.isascii() and digits.isdecimal() and len(digits) <= 5 and int(digits) <= 65535:
        port = int(digits)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    path = path.strip("/")
    return Address(scheme, host, port, f"/{path}" if path else "")


def server_address(settings: LLMSettings, environ: Mapping[str, str] = os.environ) -> Address:
    """The server that the settings name, else OLLAMA_HOST, else the local default."""
    return parse_host(settings.ollama_host or environ.get("OLLAMA_HOST", ""))


def is_listening(address: Address, timeout: float) -> bool:
    """Whether anything accepts connections at `address`.

    A refusal takes about a millisecond; without any reply it takes `timeout` seconds.
    """
    try:
        socket.create_connection((address.host, address.port), timeout).close()
    except (OSError, UnicodeError):
        return False
    return True
