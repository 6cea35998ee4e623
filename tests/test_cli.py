"""The commands as a user runs them: exit codes, JSON, refusals in words."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from artwork_bandit.cli.options import counting
from artwork_bandit.settings import Settings, local_folder
from artwork_bandit.store import parquet
from artwork_bandit.store.spool import Entry, Spool
from tests.simulated import Simulation


def run(*arguments: str, database: str | None = None, code: int = 0) -> str:
    """Run the command; return what it printed on both streams."""
    where = [] if database is None else ["--database", database]
    done = subprocess.run(
        [sys.executable, "-m", "artwork_bandit", *where, *arguments],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def log_table(rows: int = 4_000, titles: str = "t", **columns: object) -> pa.Table:
    """A sound log of uniform choices among three, made elsewhere."""
    rng = np.random.default_rng(1)
    sets = [["a", "b", "c"]] * rows
    chosen = rng.integers(3, size=rows)
    made = {
        "decision_id": [f"d{i}" for i in range(rows)],
        "occurred_at": pa.array(range(rows), pa.timestamp("us", "UTC")),
        "member_id": [f"m{i % 1000}" for i in range(rows)],
        "title_id": [titles] * rows,
        "action_set": sets,
        "variant_id": [s[c] for s, c in zip(sets, chosen, strict=True)],
        "propensity": np.full(rows, 1 / 3),
        "reward": (rng.random(rows) < 0.2 + 0.2 * (chosen == 0)).astype(float),
        "target:always_a": [[1.0, 0.0, 0.0]] * rows,
        "target:never_logged": [[0.2, 0.3, 0.5]] * rows,
    }
    return pa.table(made | columns)


def write(path: Path, table: pa.Table) -> str:
    pa.parquet.write_table(table, path)
    return str(path)


def test_what_was_mistyped_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "typo.db"
    database = f"sqlite:///{missing}"
    assert f"no database {missing}" in run("models", "list", database=database, code=2)
    assert not missing.exists()
    wrong = run("models", "list", database="postgresql://u@h:notaport/x", code=2)
    assert "is not valid" in wrong
    wrong = run("models", "list", database="postgresql://u:secret@h:notaport/x", code=2)
    assert "secret" not in wrong
    for nowhere in ("sqlite://", "sqlite:///:memory:"):
        assert "is a file here" in run("models", "list", database=nowhere, code=2)
    assert "Traceback" not in wrong
    monkeypatch.setenv("ARTWORK_BANDIT_REWARD_RULE", "nothing")
    assert "reward rule 'nothing' is unknown" in run("serve", database=database, code=2)
    monkeypatch.setenv("ARTWORK_BANDIT_SERVICE_HOST", "10.0.0.1")  # an orchestrator's own
    toml, as_json = run("config", "show"), json.loads(run("config", "show", "--json"))
    assert list(as_json) == [line.partition(" = ")[0] for line in toml.splitlines()]
    monkeypatch.setenv("ARTWORK_BANDIT_WARMSTARTS", "4")
    assert "ARTWORK_BANDIT_WARM_STARTS is" in run("config", "show", code=2)


def test_help_everywhere_and_fast() -> None:
    for command in ([], ["demo"], ["evaluate"], ["catalog", "import"], ["models", "list"]):
        assert "Usage: artwork-bandit" in run(*command, "--help") or "Usage:" in run(
            *command, "--help"
        )
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "artwork_bandit", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for heavy in ("pandas", "pyarrow", "vowpalwabbit", "sqlalchemy", "flask"):
        assert f" {heavy}\n" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["evaluate"], ["cells", "set", "x"], ["cells", "set", "explore=nan"],
     ["models", "show", "99999999999999999999"], ["train", "--slot", "hat"],
     ["evaluate", "--target", "uniform", "--from", "yesterday"], ["history", "import"]],
)  # fmt: skip
def test_wrong_use_is_exit_code_2(sqlite_url: str, arguments: list[str]) -> None:
    said = run(*arguments, database=sqlite_url, code=2)
    assert "Traceback" not in said


def test_a_database_not_migrated_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path}/new.db"
    assert "artwork-bandit migrate" in run("cells", "show", database=database, code=2)
    assert "database is at" in run("migrate", database=database)
    assert "explore" in run("cells", "show", database=database)
    ask = ("evaluate", "--target", "uniform")
    assert "no impression of artwork has been sent" in run(*ask, database=database, code=1)
    assert "export" in run(*ask, "--scheduler", "local", database=database, code=2)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")  # for others' work
    assert "no impression of artwork has been sent" in run(*ask, database=database, code=1)


def test_judging_a_log_made_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", log_table())
    said = run("evaluate", "--log", path, "--target", "column:always_a", "--json", "-")
    report = json.loads(said)
    judged = report["targets"]["column:always_a"]
    assert judged["verdict"] == "OK"
    for name in ("ips", "snips", "dr", "sndr", "rejection"):
        found = judged["estimators"][name]
        assert found["lower"] < 0.4 < found["upper"], (name, found)
    assert judged["estimators"]["dm"]["lower"] is None
    assert judged["estimators"]["dm"]["reason"]
    assert judged["difference"]["against"] == "logging"
    assert judged["difference"]["lower"] > 0
    assert report["provenance"]["log_sha256"]
    text = run("evaluate", "--log", path, "--target", "column:always_a", "--target", "best-single")
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "column:always_a  OK" in text


def test_a_folder_of_part_files_is_one_log(tmp_path: Path) -> None:
    table = log_table()
    parts = tmp_path / "parts"
    parts.mkdir()
    write(parts / "part-0.parquet", table.slice(0, 1500))
    write(parts / "part-1.parquet", table.slice(1500))
    whole = write(tmp_path / "whole.parquet", table)
    ask = ["--target", "column:always_a", "--json", "-"]
    a, b = (json.loads(run("evaluate", "--log", p, *ask)) for p in (whole, str(parts)))
    for name in ("ips", "snips"):
        for number in ("estimate", "lower", "upper"):
            found = [r["targets"]["column:always_a"]["estimators"][name][number] for r in (a, b)]
            assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_twenty_rows_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", log_table(20))
    said = run("evaluate", "--log", path, "--target", "column:always_a", code=1)
    assert "REFUSE" in said
    assert "at least 200 are needed" in said
    assert "estimate" not in said.replace("the estimate rests", "")


def test_no_support_is_refused(tmp_path: Path) -> None:
    rows = 4_000
    table = log_table(
        rows,
        **{
            "logging_pmf": [[0.5, 0.5, 0.0]] * rows,
            "propensity": np.full(rows, 0.5),
            "variant_id": ["a", "b"] * (rows // 2),
        },
    )
    path = write(tmp_path / "log.parquet", table)
    said = run("evaluate", "--log", path, "--target", "column:never_logged", code=1)
    assert "50.0% of the target's probability is on variants never logged" in " ".join(said.split())


def test_made_up_propensities_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", log_table(propensity=np.full(4_000, 0.9)))
    said = run("evaluate", "--log", path, "--target", "column:always_a", code=1)
    assert "REFUSE" in said
    assert "what those propensities promise" in " ".join(said.split())


def test_a_part_without_a_column_that_others_have_is_named(tmp_path: Path) -> None:
    whole = log_table(300, q_hat=[[0.1, 0.1, 0.1]] * 300)
    write(tmp_path / "part-0.parquet", whole)
    write(tmp_path / "part-1.parquet", whole.drop_columns(["q_hat"]))
    said = run("evaluate", "--log", str(tmp_path), "--target", "uniform", code=2)
    assert "part-1.parquet lacks the columns ['q_hat']" in said.replace("\n", " ")


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("propensity", [0.0], "propensity is not in (0, 1]"),
        ("propensity", [1.5], "propensity is not in (0, 1]"),
        ("propensity", [float("nan")], "propensity is not in (0, 1]"),
        ("propensity", [None], "propensity is missing"),
        ("reward", [float("inf")], "reward is not finite"),
        ("variant_id", ["z"], "variant_id is not in action_set"),
        ("member_id", [None], "member_id is missing"),
        ("action_set", [[]], "action_set is empty"),
        ("action_set", [["a", "a", "b"]], "action_set names a variant twice"),
        ("target:always_a", [[1.0]], "is not as long as action_set"),
        ("target:always_a", [[0.5, 0.4, 0.0]], "does not sum to 1"),
        ("target:always_a", [[1.5, -0.5, 0.0]], "has a value not allowed"),
    ],
)
def test_every_broken_row_is_named_with_its_rule(
    tmp_path: Path, column: str, values: list, said: str
) -> None:
    table = log_table(300)
    cells = table.column(column).to_pylist()
    cells[41] = values[0]
    table = table.set_column(table.column_names.index(column), column, [cells])
    path = write(tmp_path / "log.parquet", table)
    found = run("evaluate", "--log", path, "--target", "column:always_a", code=2)
    assert "row 42" in found
    assert said in found


def test_a_report_with_plots_is_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", log_table(titles="<script>alert(1)</script>"))
    page = tmp_path / "report.html"
    said = run("evaluate", "--log", path, "--target", "column:always_a", "--target", "uniform",
               "--target", "variant:<b>", "--by", "device", "--html", str(page))  # fmt: skip
    assert "segment" in said
    text = page.read_text("utf-8")
    assert text.count("<svg") >= 6
    assert "would earn more than what was logged" in text
    assert "This log cannot say what variant:&lt;b&gt; would earn" in text
    assert "<b>" not in text
    assert not re.search(r"(src|href)=|<script|https?://", text)


def test_a_report_goes_where_it_was_asked_to_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", log_table(1_000))
    ask = ("evaluate", "--log", path, "--target", "column:always_a")
    here = tmp_path / "here"
    here.mkdir()

    def said(*more: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "artwork_bandit", *ask, *more], cwd=here, text=True,
            capture_output=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert list(here.iterdir()) == []
        return done.stdout or done.stderr

    assert said("--html", "-").startswith("<!doctype html>")
    assert said("--html", "-").rstrip().endswith("</html>")
    assert "is a folder" in said("--json", str(tmp_path), code=2)
    assert "there is no folder" in said("--html", str(tmp_path / "no" / "r.html"), code=2)
    assert "cannot both be printed" in said("--json", "-", "--html", "-", code=2)
    assert "not a number" in said("--level", "nan", code=2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    said("--json", str(pipe), "--cluster", "decision_id")
    told = json.loads(reader.communicate(timeout=60)[0])
    assert told["provenance"]["cluster"] == "decision_id"
    assert pipe.is_fifo()


def test_names_from_outside_are_no_markup_and_a_refused_target_is_no_success(
    tmp_path: Path,
) -> None:
    contexts = ['{"device": "[/tv]"}', '{"device": "[red]"}'] * 2_000
    rare = [[0.0, 0.0, 1.0]] * 4_000
    table = log_table(context=contexts, **{"target:[/b]": rare})
    path = write(tmp_path / "log.parquet", table)
    said = run("evaluate", "--log", path, "--target", "column:[/b]", "--by", "device")
    assert "[/tv]" in said
    assert "[red]" in said
    assert "minus logging" in said
    said = run("evaluate", "--log", path, "--target", "variant:none", "--against", "uniform",
               code=1)  # fmt: skip
    assert "REFUSE" in said


def test_the_self_test_measures_coverage_on_logs_of_this_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", log_table(2_000))
    found = json.loads(
        run("evaluate", "--log", path, "--target", "column:always_a", "--self-test", "--json", "-")
    )["self_test"]
    by_name = {m["estimator"]: m for m in found}
    assert by_name["dr"]["truth"] == pytest.approx(0.4, abs=0.05)
    for name in ("cressie_read", "ips", "snips", "dr"):
        assert by_name[name]["coverage"] > 0.9, name
        assert abs(by_name[name]["bias"]) < 4 * by_name[name]["error"] / 200**0.5, name
    assert by_name["dm"]["coverage"] is None


@pytest.mark.parametrize(
    "wrong",
    [["--reward-bounds", "1,0"], ["--reward-bounds", "x"], ["--interval", "magic"],
     ["--cluster", "shoe"], ["--by", "shoe"], ["--level", "2"],
     ["--from", "2026-02-01", "--to", "2026-01-01"]],
)  # fmt: skip
def test_wrong_options_are_refused_in_words(tmp_path: Path, wrong: list[str]) -> None:
    path = write(tmp_path / "log.parquet", log_table(300))
    said = run("evaluate", "--log", path, "--target", "uniform", *wrong, code=2)
    assert "Traceback" not in said
    assert wrong[1].split(",")[0] in said


def test_broken_files_are_refused_in_words(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "text.parquet").write_text("not parquet")
    naive = log_table(300).set_column(1, "occurred_at", [pa.array(range(300), pa.timestamp("us"))])
    short = log_table(300).drop_columns(["reward"])
    (tmp_path / "empty").mkdir()
    cases = {
        str(tmp_path / "text.parquet"): "not a readable Parquet log",
        str(tmp_path / "none.parquet"): "does not exist",
        str(tmp_path / "empty"): "holds no Parquet files",
        write(tmp_path / "naive.parquet", naive): "time zone",
        write(tmp_path / "short.parquet", short): "lacks the columns ['reward']",
        write(tmp_path / "empty.parquet", log_table(300).slice(0, 0)): "holds no rows",
    }
    for path, said in cases.items():
        assert said in run("evaluate", "--log", path, "--target", "uniform", code=2)
        assert said in run("import-log", path, database=sqlite_url, code=2)
    empty = str(tmp_path / "empty.parquet")
    assert f"{empty} holds no rows" in run("train", "--log", empty, database=sqlite_url, code=1)


def test_imported_rows_keep_their_rewards_under_any_rule(tmp_path: Path, sqlite_url: str) -> None:
    run("import-log", write(tmp_path / "log.parquet", log_table()), database=sqlite_url)
    as_it_is, other = (
        run("evaluate", "--target", "uniform", *rule, database=sqlite_url)
        for rule in ((), ("--rule", "clicks-1"))
    )
    assert "imported rows" not in as_it_is
    assert "4,000 imported rows keep the reward they came with" in " ".join(other.split())
    said = run("train", "--rule", "clicks-1", database=sqlite_url)
    assert "4,000 imported rows keep the reward they came with" in said
    refused = run("export", str(tmp_path / "x"), "--rule", "clicks-1", database=sqlite_url, code=2)
    assert "by rule 'artwork-1', not 'clicks-1'; --rule with theirs exports them" in refused
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
        database.execute("UPDATE rewards SET rule = 'imported'")  # as earlier releases said
        database.commit()
    as_it_was = run("evaluate", "--target", "uniform", database=sqlite_url)
    assert "imported rows" not in as_it_was
    other = run("evaluate", "--target", "uniform", "--rule", "clicks-1", database=sqlite_url)
    assert "imported rows" in other


def test_imported_rows_are_known_by_the_rule_that_they_came_under(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTWORK_BANDIT_REWARD_RULE", "graded-1")
    run("import-log", write(tmp_path / "log.parquet", log_table()), database=sqlite_url)
    monkeypatch.delenv("ARTWORK_BANDIT_REWARD_RULE")
    ask = ("evaluate", "--target", "uniform")
    assert "imported rows" not in run(*ask, "--rule", "graded-1", database=sqlite_url)
    told = " ".join(run(*ask, database=sqlite_url).split())
    assert "by rule 'graded-1', not 'artwork-1'" in told
    assert "'graded-1'" in run("export", str(tmp_path / "x"), database=sqlite_url, code=2)
    run("export", str(tmp_path / "x"), "--rule", "graded-1", database=sqlite_url)
    assert parquet.rule_of(tmp_path / "x") == "graded-1"
    assert parquet.bounds_of(tmp_path / "x") == (0.0, 1.0)


def test_a_log_is_judged_within_the_bounds_of_the_rule_that_it_names(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody has that rule."""
    rule = tmp_path / "wide.toml"
    rule.write_text('version = "wide-1"\nbounds = [-3, 10]\n')
    with monkeypatch.context() as patched:
        patched.setenv("ARTWORK_BANDIT_REWARD_RULE", str(rule))
        run("import-log", write(tmp_path / "log.parquet", log_table()), database=sqlite_url)
    ask = ("evaluate", "--target", "uniform", "--json", "-")
    from_sql = json.loads(run(*ask, "--rule", str(rule), database=sqlite_url))
    run("export", str(tmp_path / "wide"), "--rule", str(rule), database=sqlite_url)
    from_file = json.loads(run(*ask, "--log", str(tmp_path / "wide")))
    estimators = [r["targets"]["uniform"]["estimators"] for r in (from_sql, from_file)]
    assert estimators[0] == estimators[1]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [("reward", [5.0], "rewards are from"), ("title_id", ["t/1"], "without slashes"),
     ("member_id", ["m" * 201], "member_id"), ("title_id", ["other"], "ids are unique")],
)  # fmt: skip
def test_a_log_that_cannot_all_be_taken_in_changes_nothing(
    tmp_path: Path, sqlite_url: str, column: str, values: list[Any], said: str
) -> None:
    (tmp_path / "log").mkdir()
    write(tmp_path / "log" / "0.parquet", log_table(400))
    last = log_table(500).slice(400)
    there = last[column].to_pylist()[:-1]
    at = last.schema.get_field_index(column)
    last = last.set_column(at, last.schema.field(at), pa.array([*there, *values]))
    write(tmp_path / "log" / "1.parquet", last)
    assert said in run("import-log", str(tmp_path / "log"), database=sqlite_url, code=2)
    log = run("evaluate", "--target", "uniform", database=sqlite_url, code=1)
    assert "no row" in log


def test_a_log_from_before_1970_is_learned_from_like_any_other(tmp_path: Path) -> None:
    table = log_table()
    at = table.schema.get_field_index("occurred_at")
    moments = table["occurred_at"].cast(pa.int64()).to_numpy() - 60 * 365 * 86_400 * 1_000_000
    early = pa.array(moments, table.schema.field(at).type)
    values = []
    for name, log in (
        ("now", table),
        ("then", table.set_column(at, table.schema.field(at), early)),
    ):
        database = f"sqlite:///{tmp_path}/{name}.db"
        run("migrate", database=database)
        path = write(tmp_path / name, log)
        run("import-log", path, database=database)
        said = json.loads(run("train", "--log", path, "--json", database=database))
        values.append(said["metrics"]["value"])
    assert values[0] == pytest.approx(values[1], rel=0.05)


def test_a_log_whose_ids_are_another_logs_is_not_taken_for_it(
    tmp_path: Path, sqlite_url: str
) -> None:
    table = log_table(300)
    run("import-log", write(tmp_path / "log.parquet", table), database=sqlite_url)
    members = pa.array([f"other-{m}" for m in table["member_id"].to_pylist()[:200]])
    other = table.slice(100, 200).set_column(
        table.schema.get_field_index("member_id"), "member_id", members
    )
    again = pa.concat_tables([table.slice(0, 100), other])
    path = write(tmp_path / "again.parquet", again)
    said = json.loads(run("import-log", path, "--json", database=sqlite_url, code=1))
    assert (said["rows"], said["duplicates"], said["rejected"]) == (0, 100, 200)
    assert "is that of another decision already" in said["problems"][0]


def test_rows_known_with_another_reward_are_told_apart_from_the_same(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = log_table(300)
    run("import-log", write(tmp_path / "log.parquet", table), database=sqlite_url)
    rewards = table["reward"].to_pylist()
    changed = pa.array([1.0 - r if i < 7 else r for i, r in enumerate(rewards)])
    table = table.set_column(table.schema.get_field_index("reward"), "reward", changed)
    path = write(tmp_path / "again.parquet", table)
    said = json.loads(run("import-log", path, "--json", database=sqlite_url))
    assert (said["rows"], said["duplicates"], said["duplicates_worth_otherwise"]) == (0, 300, 7)
    was, sent = rewards[0], 1.0 - rewards[0]
    assert said["problems"] == [
        f"decision id 'd0' is known with a reward of {was:g}, not {sent:g}: what is here stays"
    ]
    told = run("import-log", path, database=sqlite_url)
    assert "7  duplicates worth otherwise" in told
    # By another rule the same decision may well be worth something else.
    for rule, count in (("graded-1", 0), ("artwork-1", 7)):
        monkeypatch.setenv("ARTWORK_BANDIT_REWARD_RULE", rule)
        said = json.loads(run("import-log", path, "--json", database=sqlite_url))
        assert (said["duplicates"], said["duplicates_worth_otherwise"]) == (300, count)
    run("export", str(tmp_path / "here.parquet"), database=sqlite_url)
    here = pa.parquet.read_table(tmp_path / "here.parquet")
    assert sorted(here["reward"].to_pylist()) == sorted(rewards)  # those that are here stay


def test_rows_of_slots_that_there_are_not_are_told(tmp_path: Path) -> None:
    table = log_table(4_000)
    slots = pa.array(["Artwork" if i % 4 == 0 else None if i % 4 == 1 else "artwork"
                      for i in range(4_000)])  # fmt: skip
    path = write(tmp_path / "log.parquet", table.append_column("slot", slots))
    said = json.loads(run("evaluate", "--log", path, "--target", "uniform", "--json", "-"))
    assert said["log"]["rows"] == 3_000
    told = [c for c in said["health"]["checks"] if c["name"] == "slots"]
    assert [(c["status"], c["value"]) for c in told] == [("CAUTION", 1_000)]
    assert "'Artwork' (there are artwork, trailer)" in told[0]["message"]
    sound = write(tmp_path / "sound.parquet", table)
    said = json.loads(run("evaluate", "--log", sound, "--target", "uniform", "--json", "-"))
    assert not [c for c in said["health"]["checks"] if c["name"] == "slots"]


def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    told: list[int] = []
    assert list(counting([600, 600, 600, 5], told.append, lambda n: n)) == [600, 600, 600, 5]
    assert told == [1_200, 1_805]
    assert list(counting("abc", told.append)) == ["a", "b", "c"]
    assert told[2:] == [3]


def test_an_empty_export_replaces_no_file(tmp_path: Path, sqlite_url: str) -> None:
    run("import-log", write(tmp_path / "log.parquet", log_table(50)), database=sqlite_url)
    path = tmp_path / "export.parquet"
    run("export", str(path), database=sqlite_url)
    none = ["--from", "2090-01-01"]
    refused = run("export", str(path), *none, database=sqlite_url, code=1)
    assert "no row is in that time: the replay log has 50," in refused
    assert refused.rstrip().endswith(f"{path}, which has rows, stays as it is")
    assert pa.parquet.read_metadata(path).num_rows == 50
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert "stays as it is" in run("export", str(other), *none, database=sqlite_url, code=1)
    assert other.read_text() == "mine"
    for _ in range(2):  # the same command says the same when it is run again
        run("export", str(tmp_path / "new"), *none, database=sqlite_url)
        assert pa.parquet.read_metadata(tmp_path / "new").num_rows == 0


def test_rewards_on_another_scale_are_taken_in_under_a_rule_of_that_scale(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = log_table(4_000)
    seconds = pa.array([3_600.0 * r for r in table["reward"].to_pylist()])
    table = table.set_column(table.schema.get_field_index("reward"), "reward", seconds)
    path = write(tmp_path / "log.parquet", table)
    for command in (["import-log", path], ["train", "--log", path]):
        assert "setting reward_rule" in run(*command, database=sqlite_url, code=2)
    rule = tmp_path / "seconds.toml"
    rule.write_text('version = "seconds-1"\nquality = 0\nwatched = 3600\nbounds = [0, 3600]\n')
    monkeypatch.setenv("ARTWORK_BANDIT_REWARD_RULE", str(rule))
    said = json.loads(run("import-log", path, "--json", database=sqlite_url))
    assert said["rows"] == 4_000
    trained = json.loads(run("train", "--json", database=sqlite_url))
    assert trained["metrics"]["value"] > 100


def test_a_report_says_how_it_was_made(tmp_path: Path, sqlite_url: str) -> None:
    path = write(tmp_path / "log.parquet", log_table(4_000))
    ask = ("evaluate", "--log", path, "--target", "column:always_a")
    said = " ".join(run(*ask, "--interval", "anytime").split())
    assert "intervals: anytime-valid, clustered by member; cressie_read: Cressie-Read" in said
    assert "intervals: Cressie-Read, clustered by member " in " ".join(run(*ask).split()) + " "
    said = run(*ask, "--by", "shoe", code=2)
    assert "community" in said
    assert "no row in that time and slot" in run(*ask, "--from", "2037-01-01", code=1)
    of_file = ("evaluate", "--log", path, "--target")
    said = " ".join(run(*of_file, "variant:nope", code=1).split())
    assert "variant 'nope' could be shown in no row" in said
    nowhere = f"sqlite:///{tmp_path}/nowhere.db"
    assert "live needs the database" in run(*of_file, "live", database=nowhere, code=2)
    run("import-log", path, database=sqlite_url)
    report = tmp_path / "report.json"
    run("evaluate", "--target", "uniform", "--json", str(report), database=sqlite_url)
    assert json.loads(report.read_text())["log"]["reward_rule"] == "artwork-1"
    said = run("evaluate", "--target", "uniform", database=sqlite_url)
    assert "by rule artwork-1" in " ".join(said.split())
    run("train", database=sqlite_url)
    said = run("evaluate", "--slot", "trailer", "--target", "model:1", database=sqlite_url, code=2)
    assert "model 1 chooses the artwork" in said


def test_catalogue_import_says_first_what_would_change(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "catalog.jsonl"
    variant = {"variant_id": "v1", "uri": "/v1.svg", "features": {"genre": "TV Horror"}}
    title = {"title_id": "t1", "name": "One", "genres": ["TV Horror"], "variants": [variant]}
    both = [variant | {"variant_id": v, "is_default": True} for v in ("v8", "v9")]
    ends = variant | {"variant_id": "v7"} | {
        "starts_at": "2026-02-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"
    }  # fmt: skip
    twice = [variant | {"variant_id": "v6", "uri": f"/{i}"} for i in range(2)]
    lines = [title, {"title_id": "t2"}, {"title_id": "t3", "name": "x", "maturity": "wrong"},
             {"title_id": "t4", "name": "Four", "variants": both},
             {"title_id": "t5", "name": "Five", "variants": [ends]},
             {"title_id": "t6", "name": "Six", "variants": twice}]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    for dry in (True, False):
        flags = ["--dry-run"] if dry else []
        said = run("catalog", "import", str(path), "--json", *flags, database=sqlite_url, code=1)
        report = json.loads(said)
        assert (report["titles_new"], report["variants_new"], report["rejected"]) == (1, 1, 6)
        assert [p.split(":")[0] for p in report["problems"]] == [
            f"catalog.jsonl, line {n}" for n in (2, 3, 4, 5, 6, 7)
        ]
        assert "starts_at is not before ends_at" in report["problems"][3]
        assert "'v6' is given twice" in report["problems"][4]
        assert "v8 and v9 are both is_default" in report["problems"][2]
    numbered = [
        {"title_id": t, "name": t, "variants": [variant | {"variant_id": "01"}]} for t in ("a", "b")
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*numbered, numbered[0]]))
    said = run("catalog", "import", str(path), "--json", "--dry-run", database=sqlite_url, code=1)
    report = json.loads(said)
    assert (report["titles_new"], report["variants_new"], report["rejected"]) == (1, 1, 2)
    assert "variant '01' is in line 1 already: no two titles share" in report["problems"][0]
    assert "title 'a' is in line 1 already: a title is one line" in report["problems"][1]
    path.write_text(json.dumps(title | {"variants": [variant | {"uri": "/new.svg"}]}) + "\n")
    report = json.loads(run("catalog", "import", str(path), "--json", database=sqlite_url))
    assert (report["titles_same"], report["variants_revised"]) == (1, 1)
    for text in (json.dumps([title], indent=2), "\x00\x01\n\x02", json.dumps([title])):
        path.write_text(text)
        said = run("catalog", "import", str(path), database=sqlite_url, code=2)
        assert "is not JSON Lines" in said


def test_history_import_from_csv_and_movielens(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n1,"One, The (1999)",Horror|Drama\n2,Two,(no genres listed)\n'
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,1,5.0,1000000\n7,2,1.0,900000\n7,99,4.0,900000\n"
    )
    arguments = ["history", "import", "--movielens", str(tmp_path), "--json"]
    would = json.loads(run(*arguments, "--dry-run", database=sqlite_url, code=1))
    did = json.loads(run(*arguments, database=sqlite_url, code=1))
    assert would | {"dry_run": False} == did
    assert (did["titles_new"], did["events_new"], did["members"], did["rejected"]) == (2, 2, 1, 1)
    again = json.loads(run(*arguments, database=sqlite_url, code=1))
    assert (again["titles_same"], again["events_new"], again["events_known"]) == (2, 0, 2)
    csv = tmp_path / "views.csv"
    csv.write_text(
        "member_id,title_id,type,occurred_at,seconds_watched,duration_seconds\n"
        "m1,ml-1,play,2026-01-01T20:00:00Z,3000,6000\n"
        "m1,ml-1,play,2026-01-01T20:00:00,3000,6000\n"
        "m1,ml-1,dance,2026-01-01T20:00:00Z,,\n"
        "m1,ml-1,play,2026-01-01T20:00:00Z,-3,\n"
        ",ml-1,play,2026-01-01T20:00:00Z,,\n"
    )
    said = json.loads(run("history", "import", str(csv), "--json", database=sqlite_url, code=1))
    assert (said["events_new"], said["rejected"]) == (1, 4)
    csv.write_text("member,title_id,type,occurred_at\nm1,ml-1,play,2026-01-01T20:00:00Z\n")
    assert "has no column member_id" in run(
        "history", "import", str(csv), database=sqlite_url, code=2
    )
    csv.write_text("")
    assert "has no rows" in run("history", "import", str(csv), database=sqlite_url, code=2)


def test_who_challenges_and_what_is_paused_is_told(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artwork_bandit.store.engine import Store

    simulation = Simulation.begin(Store(sqlite_url), sqlite_url)
    simulation.visits(300)
    simulation.service.close()
    monkeypatch.setenv("ARTWORK_BANDIT_ATTRIBUTION_WINDOW_SECONDS", "5")
    shares = ("explore=0.5", "challenger=0.5")
    assert "no model challenges" in run("cells", "set", *shares, database=sqlite_url)
    said = run("worker", "--once", database=sqlite_url)
    assert "trailer: not trained: 0 of at least 1,000 rows" in said
    assert "model 1 is young" in run("worker", "--once", database=sqlite_url)
    run("train", "--seed", "2", database=sqlite_url)
    records = json.loads(run("models", "list", "--json", database=sqlite_url))
    version, live = (
        next(r["version"] for r in records if (r["status"] == "live") is serves)
        for serves in (False, True)
    )
    said = run("models", "challenge", str(version), database=sqlite_url)
    assert "50.00% of the members see it" in said
    assert "no model challenges" not in run("cells", "set", *shares, database=sqlite_url)
    listed = run("models", "list", database=sqlite_url).splitlines()
    assert [str(version), "artwork", "challenger"] in [line.split()[:3] for line in listed]
    for each in (version, live):
        shown = json.loads(run("models", "show", str(each), database=sqlite_url))
        assert shown["challenger"] == (each == version)
    paused = json.loads(run("pause", "--slot", "artwork", "--json", database=sqlite_url))
    told = {"slots": ["artwork"], "changed": ["artwork"], "paused": True, "reason": "by hand"}
    assert paused == told
    assert "artwork is paused" in run("cells", "show", database=sqlite_url)
    monkeypatch.setenv("ARTWORK_BANDIT_CONTEXT_PRODUCTS", "device*mood")
    said = run("worker", "--once", database=sqlite_url, code=2)
    assert "'device*mood' is not FIELD*FIELD" in said


def test_models_that_never_served_are_listed_and_what_fails_is_an_error(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artwork_bandit.store.engine import Store

    store = Store(sqlite_url)
    simulation = Simulation.begin(store, sqlite_url)
    simulation.visits(150)
    simulation.service.close()
    monkeypatch.setenv("ARTWORK_BANDIT_ATTRIBUTION_WINDOW_SECONDS", "5")
    assert "live" in run("train", database=sqlite_url)
    assert "rejected" in run("train", database=sqlite_url)  # the same again
    assert "rejected" in run("models", "list", database=sqlite_url)
    assert json.loads(run("models", "show", "2", database=sqlite_url))["served"] == []
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE models SET bundle = x'00'")
    assert "artwork-bandit models rollback" in run("train", database=sqlite_url, code=1)
    with store.write() as connection:
        connection.exec_driver_sql("ALTER TABLE models RENAME TO gone")
    said = run("worker", "--once", database=sqlite_url, code=1)
    assert "artwork: failed: the database cannot answer" in said
    assert '"failed": "the database' in run(
        "worker", "--once", "--json", database=sqlite_url, code=1
    )
    store.close()


def test_train_list_show_promote_roll_back_export(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artwork_bandit.store import changes, reports
    from artwork_bandit.store.engine import Store

    store = Store(sqlite_url)
    simulation = Simulation.begin(store, sqlite_url)
    simulation.visits(1500)
    simulation.service.close()
    monkeypatch.setenv("ARTWORK_BANDIT_ATTRIBUTION_WINDOW_SECONDS", "5")
    outcome = json.loads(run("train", "--json", database=sqlite_url))
    assert outcome["version"] == 1
    assert "model 2" in run("train", database=sqlite_url)
    assert "are what" in run("rollups", "check", database=sqlite_url)
    check = ("rollups", "check", "--json")
    assert json.loads(run(*check, database=sqlite_url)) == {"wrong": 0}
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE rollups SET plays = plays + 1")
    assert "rollups rebuild" in run("rollups", "check", database=sqlite_url, code=1)
    assert json.loads(run(*check, database=sqlite_url, code=1))["wrong"] > 0
    assert "made anew" in run("rollups", "rebuild", database=sqlite_url)
    run("rollups", "check", database=sqlite_url)
    listed = json.loads(run("models", "list", "--json", database=sqlite_url))
    assert [m["version"] for m in listed] == [2, 1]
    for flags in ((), ("--json",)):
        shown = json.loads(run("models", "show", "1", *flags, database=sqlite_url))
        assert shown["slot"] == "artwork"
    assert "model 2 is live" in run("models", "promote", "2", database=sqlite_url)
    told = ("--reason", "too dark", "--from")
    said = run("models", "rollback", *told, "1", database=sqlite_url, code=1)
    assert "model 2 is live by now: somebody else, or the gate, was faster" in said
    assert "is live" in run("models", "rollback", *told, "2", database=sqlite_url)
    (time,) = json.loads(run("models", "show", "2", database=sqlite_url))["served"]
    assert (time["why"], time["why_ended"]) == ("promoted by hand", "too dark")
    then = time["followed_by"]
    told = "no model was live" if then is None else f"model {then} went live"
    said = run("models", "list", "--slot", "artwork", database=sqlite_url)
    assert f"Z, when {told}: too dark" in said
    assert "no models yet" in run("models", "list", "--slot", "trailer", database=sqlite_url)
    said = run("evaluate", "--target", "challenger", database=sqlite_url, code=2)
    assert "`models challenge VERSION`" in said
    rule = tmp_path / "rule.toml"
    rule.write_text('version = "ours-9"\nquality = 0.8\n')
    run("train", "--rule", str(rule), database=sqlite_url)
    run("evaluate", "--target", "uniform", "--rule", str(rule), database=sqlite_url)
    rule.write_text('version = "ours-9"\nquality = 0.1\n')
    said = run("evaluate", "--target", "uniform", "--rule", str(rule), database=sqlite_url, code=2)
    assert "give the changed rule a version of its own" in said
    said = run("train", "--warm", "always", database=sqlite_url, code=1)
    assert "0 rows came after what model 1 learned from" in said
    compared = run("models", "compare", "1", "2", database=sqlite_url)
    assert "minus model:2" in compared
    said = run("evaluate", "--target", "uniform", "--together", database=sqlite_url, code=2)
    assert "challenger cell one alone has had members" in said
    compared = json.loads(run("models", "compare", "1", "2", "--json", database=sqlite_url))
    assert compared["targets"]["model:1"]["difference"]["against"] == "model:2"
    assert "does not exist" in run("models", "show", "99", database=sqlite_url, code=1)
    path = tmp_path / "out.parquet"
    assert "rows written" in run("export", str(path), database=sqlite_url)
    again = json.loads(run("export", str(path), "--json", database=sqlite_url))
    assert again["rows"] == pa.parquet.read_metadata(path).num_rows
    assert again["rule"] == "artwork-1"
    clicks = tmp_path / "clicks.parquet"
    run("export", str(clicks), "--rule", "clicks-1", database=sqlite_url)
    said = run(
        "evaluate", "--log", str(clicks), "--rule", "clicks-1", "--target", "uniform", code=2
    )
    assert "export --rule" in said
    said = run("export", str(path), "--rule", "unheard-of", database=sqlite_url, code=2)
    assert "graded-1" in said
    ask = ("--target", "uniform", "--from", "1990-01-01", "--to", "1991-01-01")
    assert "no row is in that time" in run("evaluate", *ask, database=sqlite_url, code=1)
    said = run("models", "rehearse", "1", database=sqlite_url, code=1)
    assert "cells set" in said
    assert "model 4" in run("train", "--log", str(path), database=sqlite_url)
    said = run("evaluate", "--log", str(path), "--target", "model:2", "--target", "uniform",
               "--against", "uniform", "--keep", database=sqlite_url)  # fmt: skip
    assert "model:2" in said
    with store.read() as connection:
        (kept,) = reports.latest(connection, "artwork", 9)
        listed = changes.latest(connection)
    assert set(kept.summary["targets"]) == {"model:2", "uniform"}
    assert "model:2" in kept.summary["targets"]
    back, promoted = (c for c in listed if "command line" in c.author)
    assert [c.action for c in (promoted, back)] == ["model promoted", "model rolled back"]
    assert {c.author for c in listed} - {back.author} == {"gate"}
    said = json.loads(run("models", "challenge", "2", "--json", database=sqlite_url))
    assert (said["live"], said["challenger"], said["challenger_share"]) == (1, 2, 0.0)
    said = json.loads(run("models", "promote", "2", "--json", database=sqlite_url))
    assert (said["live"], said["challenger"], said["challenges_ended"]) == (2, None, [])
    run("models", "challenge", "1", database=sqlite_url)
    assert "model 1 challenges no more" in run("models", "unchallenge", database=sqlite_url)
    assert "no model challenges" in run("models", "unchallenge", database=sqlite_url, code=1)
    run("models", "challenge", "1", database=sqlite_url)
    said = json.loads(run("models", "unchallenge", "--json", database=sqlite_url))
    assert (said["live"], said["challenger"], said["challenges_ended"]) == (2, None, [1])
    run("models", "challenge", "1", database=sqlite_url)
    said = json.loads(run("models", "rollback", "--json", database=sqlite_url))
    assert (said["live"], said["challenger"]) == (1, None)


def test_what_was_no_change_is_told(sqlite_url: str) -> None:
    said = json.loads(run("migrate", "--json", database=sqlite_url))
    assert said["before"] == said["after"]
    assert "artwork: was not paused" in run("resume", "--slot", "artwork", database=sqlite_url)
    run("pause", "--slot", "artwork", database=sqlite_url)
    assert "artwork: was paused" in run("pause", "--slot", "artwork", database=sqlite_url)
    said = json.loads(run("resume", "--json", database=sqlite_url))
    assert (said["slots"], said["changed"]) == (["artwork", "trailer"], ["artwork"])
    assert json.loads(run("spool", "retry", "--json", database=sqlite_url)) == {"waiting_again": 0}


def test_settings_come_from_command_line_environment_file_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('port = 1111\nthreads = 3\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("ARTWORK_BANDIT_PORT", "2222")
    monkeypatch.setenv("ARTWORK_BANDIT_DATABASE_URL", "postgresql://u:secret@h/d")
    said = run("--config", str(file), "config", "show")
    assert "port = 2222" in said
    assert "threads = 3" in said
    assert f"reload_seconds = {Settings().reload_seconds}" in said
    assert "secret" not in said
    monkeypatch.setenv("ARTWORK_BANDIT_MEDIA_DIR", 'C:\\a"b')
    monkeypatch.setenv("ARTWORK_BANDIT_DATABASE_URL", "postgresql://h/d?user=u&password=secret")
    said = run("--config", str(file), "config", "show")
    assert "secret" not in said
    shown = tomllib.loads(said)
    assert (shown["media_dir"], shown["threads"]) == ('C:\\a"b', 3)
    assert 'database_url = "sqlite:///x.db"' in run(
        "--database", "sqlite:///x.db", "config", "show"
    )
    file.write_text("wrong = 1\n")
    assert "unknown ['wrong']" in run("--config", str(file), "config", "show", code=2)
    monkeypatch.setenv("ARTWORK_BANDIT_PORT", "many")
    assert "must be a int" in run("config", "show", code=2)


def test_the_spool_is_shown_and_what_was_refused_tried_again(sqlite_url: str) -> None:
    database = sqlite_url
    assert "0 waiting" in run("spool", "show", database=database)
    settings = Settings(database_url=database)
    spool = Spool(local_folder(settings) / "spool.db")
    spool.add([Entry(kind="events", payload=b"nonsense")])
    waiting = json.loads(run("spool", "show", "--json", database=database))
    assert (waiting["waiting"], waiting["refused"]) == (1, [])
    run("worker", "--once", database=database)
    said = run("spool", "show", database=database)
    assert "1 refused" in said
    assert "events, 8 bytes" in said
    assert "1 entries wait again" in run("spool", "retry", database=database)
    spool.close()


def test_arguments_that_nobody_can_keep_are_refused_in_words(
    sqlite_url: str, tmp_path: Path
) -> None:
    run("migrate", database=sqlite_url)
    said = run("pause", "--reason", os.fsdecode(b"a\xff"), database=sqlite_url, code=2)
    assert said.strip().endswith("an argument is not UTF-8, and no database keeps it")
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in run("demo", "--folder", str(file), code=2)
    own = run("demo", "--once", database=f"sqlite:///{tmp_path}/mine.db", code=2)
    assert "the demo makes a database of its own" in own
