"""Settings: command line > `ARTWORK_BANDIT_*` environment > TOML file > default.

`load` is called by the commands and by the server's start; importing this reads nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from artwork_bandit.errors import InvalidInput

PREFIX = "ARTWORK_BANDIT_"
NEAR = 0.85
"""Likeness of names from which on one is taken for the other, mistyped; other variables of such a
beginning may be anybody's."""
OPTIONS = {"database": "database_url", "config_file": "config", "log": "log_level"}
"""What variables may be called after a command's options -> what they are called."""
LIVE = "live"
HOMEPAGES = ("preview", LIVE)
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be configured; each field has one documented line."""

    database_url: str = "sqlite:///artwork-bandit.db"
    """SQLAlchemy address: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`."""
    host: str = "127.0.0.1"
    """Address the server listens on."""
    port: int = 8800
    """Port the server listens on."""
    workers: int = 0
    """Server processes; 0 is 1 on SQLite (one writer) and 2 on PostgreSQL."""
    threads: int = 8
    """Threads per server process, for all but choices."""
    queue_titles: int = 16_000
    """Titles that may wait for their choice in one server process; more are refused for now."""
    log_level: str = "info"
    """`debug` logs every request, `info` only those not answered in full; `warning`, `error`."""
    media_dir: str = ""
    """Folder served under /media/ (pictures with relative addresses); empty serves none."""
    cors_origins: str = ""
    """Origins whose pages may call the API, separated by spaces; `*` for all."""
    user_header: str = ""
    """Header in which a proxy says who asks, for the audit trail of the pages; empty lets people
    type their name."""
    demo_homepage: str = "preview"
    """What the page `/demo` does: `preview` logs and reports nothing; `live` does all that a real
    homepage does, for members of this database, as the `demo` command's own."""
    decision_key: str = ""
    """Secret that signs decision ids; empty uses the one kept in the database."""
    profile_half_life_days: float = 90.0
    """After this long a viewing counts half in a member's genre profile."""
    training_half_life_days: float = 30.0
    """After this long a logged decision weighs half in training."""
    explored_share: float = 0.05
    """Total probability spread evenly over the eligible variants by a model policy, (0, 1]."""
    join_seconds: float = 30.0
    """How often the worker joins rewards and watches the live model."""
    train_seconds: float = 6 * 3600.0
    """How old the newest model is before the worker trains another."""
    training_processes: int = 0
    """Processes that make the examples of a large log; 0: one per core, four at most."""
    warm_starts: int = 0
    """How many trainings in a row go on from the live model, reading only what came since, before
    one learns from the whole log again; 0: all learn from the whole log."""
    keep_models_days: float = 30.0
    """How old a model is that never chose anything before the next training deletes it; what is
    known of it stays. 0 keeps all, else from 1 on."""
    context_products: str = ""
    """Pairs of context fields whose products the model learns too: `device*genre,daypart*genre`."""
    reward_rule: str = ""
    """What outcomes are worth: `artwork-1`, `trailer-1`, `graded-1`, `clicks-1`, or a TOML file of
    yours (see the README), for all slots or as `artwork=ours.toml, trailer=clicks-1`; empty is the
    slot's own."""
    attribution_window_seconds: float = 0.0
    """How long after the first impression outcomes count; 0 is the slot's own."""
    period_seconds: float = 0.0
    """How long a member keeps the same draw; 0 is the slot's own."""
    reload_seconds: float = 1.0
    """How often a server looks for a new catalogue, model, cells or a pause."""
    local_dir: str = ""
    """Folder of this host's own files (spool, compiled models); empty is one named after the
    database: beside a SQLite file, else in $XDG_STATE_HOME or ~/.local/state."""
    read_seconds: float = 0.1
    """How long a choice waits for the member's profile before it does without."""
    write_seconds: float = 1.0
    """How long a choice waits for the database to commit before its log row goes to the spool."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65535), ("workers", 0, 512), ("threads", 1, 512),
            ("profile_half_life_days", 1e-6, 1e6), ("training_half_life_days", 1e-6, 1e6),
            ("explored_share", 1e-6, 1.0), ("attribution_window_seconds", 0, 1e9),
            ("period_seconds", 0, 1e9), ("reload_seconds", 0.01, 3600),
            ("join_seconds", 0.1, 86_400), ("train_seconds", 1, 1e8),
            ("read_seconds", 0.001, 60), ("write_seconds", 0.01, 60),
            ("queue_titles", 1, 1e9), ("warm_starts", 0, 1e6),
            ("training_processes", 0, 512), ("keep_models_days", 0, 36_500),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(f"setting {name} is {value}; it must be from {low} to {high}")
        if 0 < self.keep_models_days < 1:
            raise InvalidInput(
                f"setting keep_models_days is {self.keep_models_days}; it must be 0, which keeps "
                "all, or from 1 on: a model is first to be judged"
            )
        for name, known in (("log_level", LOG_LEVELS), ("demo_homepage", HOMEPAGES)):
            if (value := getattr(self, name)) not in known:
                raise InvalidInput(f"setting {name} is {value!r}; it must be of {known}")


def load(
    *,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: str | Path | None = None,
) -> Settings:
    """Return the settings in force.

    `overrides` come from the command line (None values are ignored), `environment` defaults to
    the process's, `file` to `ARTWORK_BANDIT_CONFIG` if that is set. Raises InvalidInput.
    """
    environment = os.environ if environment is None else environment
    kinds = get_type_hints(Settings)
    merged: dict[str, Any] = {}
    file = file or environment.get(PREFIX + "CONFIG")
    if file:
        merged.update(_read_file(Path(file), kinds))
    for name in environment:
        if name.startswith(PREFIX) and (near := _meant(name.removeprefix(PREFIX).lower(), kinds)):
            meant = " or ".join(f"{PREFIX}{each.upper()}" for each in near)
            raise InvalidInput(f"{name} is no setting; {meant} is")
    for name in kinds:
        if (text := environment.get(PREFIX + name.upper())) is not None:
            if name == "port" and "://" in text:
                continue  # Kubernetes says so of a service that is named artwork-bandit
            merged[name] = _convert(name, text, kinds[name], "environment")
    for name, value in (overrides or {}).items():
        if value is not None:
            merged[name] = _convert(name, value, kinds[name], "command line")
    return Settings(**merged)


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the settings as variables for a child process that shall use the same."""
    return {PREFIX + f.name.upper(): str(getattr(settings, f.name)) for f in fields(settings)}


def local_folder(settings: Settings) -> Path:
    """Return the folder of this host's own files for the settings' database.

    Another database has another folder: a spool must never be drained into the wrong one.
    """
    url = urlsplit(settings.database_url)
    place = f"{url.hostname or ''}:{url.port or ''}{url.path}?{url.query}"
    name = f"artwork-bandit-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}"
    if settings.local_dir:
        return Path(settings.local_dir) / name
    if url.scheme == "sqlite" and (file := url.path.removeprefix("/")):
        return Path(file + ".local")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / name


def _read_file(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"settings file {path} cannot be read: {error}") from error
    if unknown := sorted(set(table) - set(kinds)):
        raise InvalidInput(f"settings file {path}: unknown {unknown}; known are {sorted(kinds)}")
    return {name: _convert(name, value, kinds[name], str(path)) for name, value in table.items()}


def _meant(name: str, kinds: Mapping[str, Any]) -> list[str]:
    """Return the settings that somebody may have meant who wrote another name much like theirs."""
    if name in kinds:
        return []
    if name in OPTIONS:
        return [OPTIONS[name]]
    names = [*kinds, *OPTIONS]
    near = difflib.get_close_matches(name, names, 1, NEAR)
    # Letters that changed places, and names that end too early.
    near += [n for n in names if sorted(n) == sorted(name) or n.startswith(f"{name}_")]
    return list(dict.fromkeys(OPTIONS.get(each, each) for each in near))


def _convert(name: str, value: Any, kind: type, source: str) -> Any:
    try:
        found = kind(value)
        if isinstance(value, bool) or (isinstance(value, int | float) and found != value):
            raise ValueError("it would be taken for another")
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"setting {name} from {source} is {value!r}; it must be a {kind.__name__}"
        ) from error
    return found
