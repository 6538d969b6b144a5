"""Settings: groups, validation, precedence, old names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag.errors import IndexMissingError, SettingsError, UsageError
from rag.settings import LLMSettings, RetrievalSettings, Settings, describe, groups
from tests.conftest import Run

NOWHERE = {"RAG_CONFIG": "/dev/null"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings.of(k=-5),
        lambda: Settings().replace(mode="nonsense"),
        lambda: RetrievalSettings(k=0),
        lambda: RetrievalSettings(dense_weight=1.5),
        lambda: replace(LLMSettings(), think="loud"),
        lambda: Settings.of(temperature=float("nan")),
        lambda: Settings.of(strict="perhaps"),
        lambda: Settings.of(k=2.5),
        lambda: Settings.of(model=7),
        lambda: Settings.of(nonsense=1),
        lambda: Settings.load({"k": "many"}, environ=NOWHERE),
    ],
)
def test_a_value_that_a_setting_cannot_take_is_refused_wherever_it_comes_from(make: Callable[[], Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    assert isinstance(caught.value, UsageError) and caught.value.hint


def test_values_are_converted_to_the_type_of_the_setting() -> None:
    settings = Settings.load({"k": "7", "strict": "yes", "abstain_below": "0.5"}, environ=NOWHERE)
    assert (settings.retrieval.k, settings.verification.strict, settings.answering.abstain_below) == (7, True, 0.5)


def test_the_command_line_goes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "rag.toml"
    file.write_text("k = 2\nseed = 2\n[llm]\nnum_ctx = 2048\n[retrieval]\nwindow = 2\n")
    environ = {"RAG_SEED": "3", "RAG_NUM_CTX": "4096", "RAG_CONFIG": str(file)}
    settings = Settings.load({"num_ctx": 8192, "depth": None}, environ=environ)
    values = settings.as_dict()
    assert [values[name] for name in ("k", "window", "seed", "num_ctx", "depth")] == [2, 2, 3, 8192, 100]
    origins = [settings.origin(name) for name in ("k", "window", "seed", "num_ctx", "depth")]
    assert origins == [str(file), str(file), "environment RAG_SEED", "command line", "default"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("interaction_weight", 0.2, "late_interaction_weight"),
        ("llm", "llama3.2", "model"),
        ("judge", "llama3.2", "judge_model"),
    ],
)
def test_an_old_name_means_the_new_one_and_is_noted(name: str, old: Any, new: str) -> None:
    settings = Settings.load({name: old}, environ=NOWHERE)
    assert settings.as_dict()[new] == old and settings.origin(new) == "command line"
    (note,) = settings.deprecations
    assert name in note and new in note
    assert Settings.load(environ=NOWHERE | {f"RAG_{name.upper()}": str(old)}).as_dict()[new] == old


def test_the_mode_ollama_is_generative() -> None:
    settings = Settings.load({"mode": "ollama"}, environ=NOWHERE)
    assert settings.answering.mode == "generative" and "generative" in settings.deprecations[0]


@pytest.mark.parametrize("line", ["nonsense = 1", "[nonsense]\nk = 1", "[llm]\nk = 1", "k = [", 'k = "x"', "k = true"])
def test_a_file_that_is_wrong_is_refused_by_name(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rag.toml"
    file.write_text(line)
    with pytest.raises(SettingsError, match=r"rag\.toml"):
        Settings.load(config=file)


def test_every_setting_has_a_group_a_unique_name_and_a_description() -> None:
    names = [name for members in groups().values() for name in members]
    assert len(names) == len(set(names)) == len(Settings().as_dict())
    assert all(describe(name).endswith(".") for name in names)


def test_without_a_home_folder_only_what_needs_one_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_config_path", no_home)
    monkeypatch.setattr("platformdirs.user_data_path", no_home)
    assert Settings.load({"index_dir": str(tmp_path)}, environ={}).index_path == tmp_path
    with pytest.raises(IndexMissingError, match="home"):
        _ = Settings.load(environ={}).index_path


def test_the_command_line_works_without_a_home_folder(cli: Callable[..., Run], index_dir: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare to become a user without a home folder")
    prefix = ("env", "-u", "HOME", "-u", "XDG_DATA_HOME", "-u", "XDG_CONFIG_HOME", "unshare", "-U", "--map-user=12345")
    run = cli("search", "forgetting", "--index", index_dir, prefix=prefix)
    if "unshare failed" in run.err:
        pytest.skip("this machine allows no user namespaces")
    assert run.code == 0 and run.out
    run = cli("search", "forgetting", prefix=prefix, RAG_INDEX_DIR="")
    assert run.code == 6 and "home folder" in run.err and run.err.count("\n") == 1
