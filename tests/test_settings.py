"""Settings: what is mistyped, or of another kind, is said and not taken for something else."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from artwork_bandit.cli import options
from artwork_bandit.errors import InvalidInput
from artwork_bandit.settings import Settings, load


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DATABASE", "DATABASE_URL"),
        ("LOG", "LOG_LEVEL"),
        ("THREAD", "THREADS"),
        ("DATABSE", "DATABASE_URL"),
        ("PROT", "PORT"),
        ("REWARD", "REWARD_RULE"),
        ("ATTRIBUTION_WINDOW", "ATTRIBUTION_WINDOW_SECONDS"),
    ],
)
def test_a_variable_much_like_a_setting_is_refused(name: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"ARTWORK_BANDIT_{meant} is"):
        load(environment={f"ARTWORK_BANDIT_{name}": "x"})


def test_what_kubernetes_says_of_a_service_of_that_name_is_no_port() -> None:
    told = {
        "ARTWORK_BANDIT_PORT": "tcp://10.0.0.1:8800", "ARTWORK_BANDIT_SERVICE_HOST": "10.0.0.1",
        "ARTWORK_BANDIT_SERVICE_PORT": "8800", "ARTWORK_BANDIT_SERVICE_PORT_HTTP": "8800",
        "ARTWORK_BANDIT_PORT_8800_TCP": "tcp://10.0.0.1:8800",
        "ARTWORK_BANDIT_PORT_8800_TCP_PROTO": "tcp", "ARTWORK_BANDIT_PORT_8800_TCP_PORT": "8800",
        "ARTWORK_BANDIT_PORT_8800_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    assert load(environment=told).port == Settings().port


@pytest.mark.parametrize("line", ["workers = inf", "threads = 2.9", "port = true", "threads = 'x'"])
def test_a_value_of_another_kind_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(line, "utf-8")
    with pytest.raises(InvalidInput, match="it must be a int"):
        load(environment={}, file=file)


def test_whole_numbers_are_fractions_too(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text("read_seconds = 1\nthreads = 4", "utf-8")
    assert load(environment={}, file=file) == Settings(read_seconds=1.0, threads=4)


def test_a_path_is_a_text_too(tmp_path: Path) -> None:
    assert load(environment={}, overrides={"media_dir": tmp_path}).media_dir == str(tmp_path)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container under any user id."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr(options.os, "getuid", lambda: 54321)
    assert options._user() == "user 54321"
