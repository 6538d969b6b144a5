"""The command line inside the process of the test: faster, for what does not depend on a process of its own."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.conftest import Run


class InProcess:
    """Called like the fixture `cli`, except that it takes no `prefix`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, **environment: str
    ) -> None:
        self._monkeypatch, self._capsys, self._folder, self._environment = monkeypatch, capsys, folder, environment

    def __call__(
        self, *arguments: object, stdin: str | bytes = b"", cwd: Path | None = None, **environment: str
    ) -> Run:
        from rag.cli import main

        data = stdin.encode() if isinstance(stdin, str) else stdin
        with self._monkeypatch.context() as patch:
            for name, value in (self._environment | environment).items():
                patch.setenv(name, value)
            patch.chdir(cwd or self._folder)
            patch.setattr(sys, "argv", ["rag", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape"))
            self._capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = self._capsys.readouterr()
        return Run(int(ended.value.code or 0), out, err)
