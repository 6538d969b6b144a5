"""Real components for every test: the packaged corpus, the real model, real Chroma folders, the CLI as a process.

The index over the whole corpus is built once per run. `RAG_TEST_INDEX=DIR` keeps it in DIR between runs; DIR is
brought up to date first. `pytest -m small` runs the tests that need neither that index nor a browser.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No test depends on how fast the machine is.
hypothesis.settings.register_profile("rag", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("rag")

# A background job ignores Ctrl-C, and the processes that the tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests read and write no files or settings of the user. Set before any test imports rag or starts a process.
TEST_INDEX = os.environ.get("RAG_TEST_INDEX")
# The server of the tests marked `ollama`, under a name of its own for the worker processes of the tests.
LIVE_OLLAMA = os.environ.setdefault("RAG_TEST_OLLAMA", os.environ.get("OLLAMA_HOST", ""))
ROOT = Path(__file__).parents[1]
_HOME = Path(tempfile.mkdtemp(prefix="rag-test-home-"))
for _name in [n for n in os.environ if n.startswith(("RAG_", "OLLAMA_", "XDG_")) and not n.startswith("RAG_TEST_")]:
    del os.environ[_name]
for _name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
    os.environ.pop(_name, None)
os.environ |= {
    "HOME": str(_HOME),
    "XDG_DATA_HOME": str(_HOME / "data"),
    "XDG_CONFIG_HOME": str(_HOME / "config"),
    "XDG_CACHE_HOME": str(_HOME / "cache"),
    "OLLAMA_HOST": "127.0.0.1:9",  # the discard port: no server answers there
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # One thread per query, as the program sets for itself: on a busy machine more threads wait for each other.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}

from rag.assistant import Assistant  # noqa: E402
from rag.corpus.reading import packaged_corpus, read_papers  # noqa: E402
from rag.encoders.numpy_bert import NumpyBertEncoder  # noqa: E402
from rag.encoders.sentence_transformer import SentenceTransformerEncoder  # noqa: E402
from rag.encoders.weights import DEFAULT_MODEL, locate  # noqa: E402
from rag.index.build import build_index  # noqa: E402
from rag.index.store import Index  # noqa: E402
from rag.settings import Settings  # noqa: E402
from rag.text.sentences import sentence_spans  # noqa: E402
from rag.types import Paper  # noqa: E402
from tests.ollama_server import OllamaServer  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the inner loop, `pytest -m small`: tests without the whole index, a browser, or documents to embed."""
    for item in items:
        needs = {"index_dir", "browser", "documents"} & set(getattr(item, "fixturenames", ()))
        if not needs and not item.get_closest_marker("slow") and not item.get_closest_marker("ollama"):
            item.add_marker("small")


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def corpus() -> list[Paper]:
    """All papers of the packaged corpus."""
    return read_papers([packaged_corpus()])[0]


@pytest.fixture(scope="session")
def index_dir(corpus: list[Paper], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index over the whole packaged corpus, shared by all test processes: read it only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = Path(TEST_INDEX) if TEST_INDEX else shared / "whole" / "index"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / "whole.lock"):
        build_index(corpus, Settings.of(index_dir=str(folder)))
    return folder


@pytest.fixture(scope="session")
def settings(index_dir: Path) -> Settings:
    """Default settings on the whole index."""
    return Settings.of(index_dir=str(index_dir))


@pytest.fixture(scope="session")
def assistant(settings: Settings) -> Assistant:
    """An assistant on the whole index."""
    return Assistant.open(settings)


@pytest.fixture(scope="session")
def index(settings: Settings) -> Index:
    """The whole index, open."""
    return Index.open(settings)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaServer]:
    """A server that speaks Ollama's protocol."""
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    with OllamaServer() as server:
        yield server


@pytest.fixture(scope="session")
def documents() -> SentenceTransformerEncoder:
    """The model itself, by sentence-transformers."""
    return SentenceTransformerEncoder(DEFAULT_MODEL, 512)


@pytest.fixture(scope="session")
def queries() -> NumpyBertEncoder:
    """The NumPy pass over the same weights."""
    return NumpyBertEncoder(locate(DEFAULT_MODEL), 512)


@pytest.fixture(scope="session")
def six(corpus: list[Paper]) -> list[Paper]:
    """Six real papers with the last three sentences of their abstracts, so that they embed quickly."""
    wanted = ("tulu-3-", "prop-", "b-prop-", "jina-clip-your-", "jina-clip-v2-", "reinforcement-fine-tuning-naturally-")
    papers = [next(p for p in corpus if p.paper_id.startswith(start)) for start in wanted]
    return [replace(p, abstract=p.abstract[sentence_spans(p.abstract)[-3][0] :]) for p in papers]


@pytest.fixture(scope="session")
def _six_index(six: list[Paper], pytestconfig: pytest.Config) -> Path:
    """The index of `six`, kept in pytest's cache until the code that builds an index changes."""
    sources = sorted(
        path for package in ("encoders", "index", "text") for path in (ROOT / "rag" / package).glob("*.py")
    )
    digest = sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir(f"six-{digest}")
    with FileLock(folder / "six.lock"):
        build_index(six, Settings.of(index_dir=str(folder / "index")))
    return folder / "index"


@pytest.fixture
def small(_six_index: Path, tmp_path: Path) -> Settings:
    """Settings on an index of `six` that the test may change or break."""
    shutil.copytree(_six_index, tmp_path / "index")
    return Settings.of(index_dir=str(tmp_path / "index"))


@dataclass(frozen=True)
class Run:
    """The exit code and the output of a process of the command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="session")
def cli(index_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """`cli(*arguments, stdin=..., **environment)`: rag as a process on the whole index, in an empty folder.

    `prefix` is put before the command, `cwd` is another folder to run it in.
    """
    folder = tmp_path_factory.mktemp("cwd")

    def run(
        *arguments: object,
        stdin: str | bytes = b"",
        prefix: tuple[str, ...] = (),
        cwd: Path = folder,
        **environment: str,
    ) -> Run:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "rag", *map(str, arguments)],
            input=data,
            capture_output=True,
            cwd=cwd,
            env=os.environ | {"RAG_INDEX_DIR": str(index_dir), "PYTHONUTF8": "1"} | environment,
            timeout=120,
        )
        out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        assert "Traceback" not in err, err
        return Run(done.returncode, out, err)

    yield run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless chromium: the one that CHROMIUM names, else one on the path. Skips without one, except in CI."""
    from playwright.sync_api import expect, sync_playwright

    named = os.environ.get("CHROMIUM", "")
    chromium = shutil.which(named) or named or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        if os.environ.get("CI"):
            pytest.fail("no chromium: CI must test the pages (install chromium, or name one in CHROMIUM)")
        pytest.skip("no chromium; CHROMIUM can name another Chromium-based browser")
    expect.set_options(timeout=20_000)
    flags = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    ).split()
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=flags) as running:
        yield running
