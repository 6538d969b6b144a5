"""Settings: bounds, where values come from and which one counts, old names, and users without a home folder."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag.errors import IndexMissingError, SettingsError
from rag.settings import LLMSettings, RetrievalSettings, Settings, describe, groups
from tests.conftest import Run


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("k", -5, "between 1 and 1000"),
        ("k", 1001, "between 1 and 1000"),
        ("k", 2.5, "a whole number"),
        ("k", True, "a whole number"),
        ("k", "many", "a whole number"),
        ("k", [], "a whole number"),
        ("k", math.inf, "a whole number"),
        ("num_ctx", 511, "at least 512"),
        ("temperature", math.nan, "between 0.0 and 2.0"),
        ("temperature", "warm", "a number"),
        ("connect_timeout", 0, "at least 0.001"),
        ("strict", 1, "true or false"),
        ("strict", "perhaps", "true or false"),
        ("model", 3, "text"),
        ("mode", "clever", "one of auto, generative, extractive"),
        ("think", "hard", "one of off, on, low, medium, high"),
    ],
)
def test_a_value_out_of_bounds_is_refused_however_it_is_set(empty: Path, name: str, value: Any, message: str) -> None:
    for construct in (
        lambda: Settings.of(**{name: value}),
        lambda: Settings().replace(**{name: value}),
        lambda: Settings.load({name: value}, environ={}),
    ):
        with pytest.raises(SettingsError, match=name) as caught:
            construct()
        assert message in caught.value.message and caught.value.hint == describe(name)


def test_a_group_refuses_them_too() -> None:
    with pytest.raises(SettingsError, match="k = 0 must be between 1 and 1000"):
        RetrievalSettings(k=0)
    with pytest.raises(SettingsError, match="seed"):
        dataclasses.replace(LLMSettings(), seed=-1)


def test_text_becomes_the_type_of_the_setting(empty: Path) -> None:
    environ = {"RAG_K": "7", "RAG_TEMPERATURE": "1e-1", "RAG_STRICT": " Yes ", "RAG_CORRECT_SPELLING": "off"}
    settings = Settings.load(environ=environ)
    assert (settings.retrieval.k, settings.llm.temperature) == (7, 0.1)
    assert (settings.verification.strict, settings.retrieval.correct_spelling) == (True, False)
    assert isinstance(Settings.of(temperature=1).llm.temperature, float)


def test_settings_are_frozen_and_listed_by_group() -> None:
    settings = Settings.of(k=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.retrieval.k = 4  # type: ignore[misc]
    names = [name for group in groups().values() for name in group]
    assert len(set(names)) == len(names) and list(settings.as_dict()) == names
    for group, members in groups().items():
        assert all(settings.value(name) == getattr(getattr(settings, group), name) for name in members)
        assert all(describe(name) for name in members)


# --- sources -----------------------------------------------------------------------------------------


def test_the_command_line_counts_more_than_the_environment_and_that_more_than_the_file(empty: Path) -> None:
    (empty / "rag.toml").write_text("k = 2\ndepth = 20\nwindow = 2\n")
    environ = {"RAG_K": "3", "RAG_DEPTH": "30"}
    settings = Settings.load({"k": 4, "window": None}, environ=environ)
    assert (settings.retrieval.k, settings.origin("k")) == (4, "command line")
    assert (settings.retrieval.depth, settings.origin("depth")) == (30, "environment RAG_DEPTH")
    assert (settings.retrieval.window, settings.origin("window")) == (2, "rag.toml")
    assert (settings.retrieval.dense_weight, settings.origin("dense_weight")) == (0.5, "default")
    assert settings.deprecations == ()


def test_the_file_is_the_named_one_else_that_of_the_folder_else_that_of_the_user(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(empty / "config"))
    (empty / "config" / "rag").mkdir(parents=True)
    files = {"config/rag/rag.toml": 6, "rag.toml": 7, "environment.toml": 8, "option.toml": 9}
    assert Settings.load(environ={}).retrieval.k == 5
    for name, k in files.items():
        (empty / name).write_text(f"k = {k}\n")
        named = {"RAG_CONFIG": str(empty / name)} if "environment" in name else {}
        settings = Settings.load(config=name if "option" in name else None, environ=named)
        assert settings.retrieval.k == k and name in settings.origin("k")
    assert Settings.load(config="option.toml", environ={"RAG_CONFIG": "environment.toml"}).retrieval.k == 9


def test_a_file_may_have_a_table_for_each_group_and_a_name_may_say_its_group(empty: Path) -> None:
    (empty / "rag.toml").write_text('k = 2\n[llm]\nmodel = "a"\nnum_ctx = 1024\n[answering]\nmode = "extractive"\n')
    settings = Settings.load({"llm.num_ctx": "2048"}, environ={})
    assert (settings.retrieval.k, settings.answering.mode) == (2, "extractive")
    assert (settings.llm.model, settings.llm.num_ctx) == ("a", 2048)
    assert settings.origin("model") == "rag.toml" and settings.origin("num_ctx") == "command line"


@pytest.mark.parametrize("name", ["nonsense", "llm.k", "retrieval", "nonsense.k", "llm.llm.model"])
def test_an_unknown_name_is_refused_with_its_origin(empty: Path, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({name: 3}, environ={})
    assert caught.value.message == f"Unknown setting {name!r} (command line)." and "`rag config`" in caught.value.hint


def test_an_unknown_name_in_a_file_or_from_python_is_refused(empty: Path) -> None:
    (empty / "rag.toml").write_text("[llm]\nk = 3\n")
    with pytest.raises(SettingsError, match=r"Unknown setting 'llm\.k' \(rag\.toml\)"):
        Settings.load(environ={})
    with pytest.raises(SettingsError, match="Unknown setting 'nonsense'"):
        Settings.of(nonsense=1)


def test_a_variable_that_names_no_setting_is_none_of_our_business(empty: Path) -> None:
    assert Settings.load(environ={"RAG_DEBUG": "1", "RAG_NONSENSE": "1"}) == Settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"k = = 3", "not valid TOML"), (b"caf\xe9 = 1", "Cannot read"), (b"k = 0", r"k = 0 \(rag.toml\) must be")],
)
def test_a_file_that_cannot_be_used_is_named(empty: Path, content: bytes, message: str) -> None:
    (empty / "rag.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.load(environ={})
    assert "rag.toml" in caught.value.message and caught.value.hint


def test_a_named_file_must_exist(empty: Path) -> None:
    with pytest.raises(SettingsError, match=r"No configuration file at none\.toml"):
        Settings.load(config="none.toml", environ={})
    with pytest.raises(SettingsError, match=r"No configuration file at none\.toml"):
        Settings.load(environ={"RAG_CONFIG": "none.toml"})


# --- names of earlier versions -----------------------------------------------------------------------


def test_an_old_name_still_works_and_is_noted_with_its_origin(empty: Path) -> None:
    (empty / "rag.toml").write_text("interaction_weight = 0.25\n")
    settings = Settings.load({"judge": "c"}, environ={"RAG_LLM": "b"})
    assert settings.retrieval.late_interaction_weight == 0.25
    assert (settings.llm.model, settings.verification.judge_model) == ("b", "c")
    assert settings.origin("model") == "environment RAG_LLM"
    assert settings.deprecations == (
        "The setting interaction_weight (rag.toml) is deprecated: use late_interaction_weight.",
        "The setting llm (environment RAG_LLM) is deprecated: use model.",
        "The setting judge (command line) is deprecated: use judge_model.",
    )


def test_an_old_value_still_works_and_is_noted(empty: Path) -> None:
    settings = Settings.load({"mode": "ollama"}, environ={})
    assert settings.answering.mode == "generative"
    assert settings.deprecations == ("The value ollama of mode (command line) is deprecated: use generative.",)


def test_the_new_name_counts_more_than_the_old_one(empty: Path) -> None:
    assert Settings.load(environ={"RAG_MODEL": "new", "RAG_LLM": "old"}).llm.model == "new"
    assert Settings.load({"llm": "old"}, environ={"RAG_MODEL": "new"}).llm.model == "old"  # the command line counts


# --- a user without a home folder --------------------------------------------------------------------


@pytest.fixture
def homeless(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither HOME nor an entry in passwd, as in a container that runs under any user id."""
    pwd = pytest.importorskip("pwd")

    def missing(uid: object) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", missing)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_only_the_default_index_folder_is_missing(empty: Path) -> None:
    settings = Settings.load(environ={})
    with pytest.raises(IndexMissingError, match="no home folder") as caught:
        _ = settings.index_path
    assert "--index" in caught.value.hint and "RAG_INDEX_DIR" in caught.value.hint
    assert Settings.load(environ={"RAG_INDEX_DIR": "here"}).index_path == empty / "here"
    (empty / "rag.toml").write_text("k = 2\n")
    assert Settings.load(environ={}).retrieval.k == 2


@pytest.mark.usefixtures("homeless")
def test_without_a_home_a_path_with_a_tilde_is_refused() -> None:
    with pytest.raises(SettingsError, match="~/index"):
        _ = Settings.of(index_dir="~/index").index_path
    with pytest.raises(SettingsError, match=r"~/rag\.toml"):
        Settings.load(config="~/rag.toml", environ={})


def test_without_a_home_the_command_line_works_if_the_index_is_named(cli: Callable[..., Run], index_dir: Path) -> None:
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "RAG_INDEX_DIR")
    unset = [argument for name in names for argument in ("-u", name)]
    prefix = ("env", *unset, "unshare", "--user", "--map-user=12345")  # a user id that is not in passwd
    if not shutil.which("unshare") or cli("--version", prefix=prefix).code:
        pytest.skip("needs user namespaces")
    run = cli("search", "forgetting", "--index", index_dir, prefix=prefix)
    assert run.code == 0 and run.out and run.err == ""
    for command in (["search", "forgetting"], ["index"], ["status"]):
        run = cli(*command, prefix=prefix)
        assert run.code == 6 and run.err.count("\n") == 1 and "no home folder" in run.err
