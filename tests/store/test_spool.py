"""The spool keeps what it was given, in order, whoever opens it, and says when it cannot."""

import multiprocessing
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artwork_bandit.errors import StoreUnavailable
from artwork_bandit.store.spool import Entry, Spool


def entry(number: int, key: str | None = None) -> Entry:
    return Entry(kind="request", key=key, payload=str(number).encode())


def test_entries_come_back_in_order_to_whoever_opens_the_file_next(tmp_path: Path) -> None:
    first = Spool(tmp_path / "local" / "spool.db")
    assert first.depth() == 0
    assert not first.path.exists()  # asking makes no file
    assert first.add([entry(1), entry(2)]) == [True, True]
    first.close()
    second = Spool(first.path)
    second.add([entry(3)])
    assert [e.payload for e in second.next(10)] == [b"1", b"2", b"3"]
    assert len(second.next(0)) == 1  # one that is larger must come in, too
    second.settle(second.next(2))
    assert [e.payload for e in second.next(10)] == [b"3"]
    second.close()


def test_the_first_entry_of_a_key_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    assert spool.add([entry(1, "r1"), entry(2, "r1"), entry(3, "r2")]) == [True, False, True]
    assert spool.find("r1") == b"1"
    assert spool.find("r3") is None
    spool.close()


def test_what_must_wait_does_not_hold_up_what_follows(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.add([entry(1), entry(2), entry(3)])
    one, two, _ = spool.next(3)
    later = Entry(kind="events", payload=b"later", not_before=time.time() + 60)
    spool.settle([one], [later])
    spool.settle([two], refused=[(two, "no")])
    assert [e.payload for e in spool.next(10)] == [b"3"]
    assert spool.depth() == 2
    spool.close()


def test_a_disk_that_is_full_is_said_and_found_again_when_it_is_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.add([entry(1)])
    with sqlite3.connect(spool.path) as other:  # SQLite's own way of having no more room
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    spool._connection.execute(f"PRAGMA max_page_count={pages}")
    large = Entry(kind="events", payload=bytes(1_000_000))
    with pytest.raises(StoreUnavailable, match="full"):
        spool.add([entry(2), large])
    assert spool.depth() == 1  # all or none
    assert spool.add([large]) == [True]  # opened anew
    spool.close()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool.db")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        spool.add([entry(1)])
    with pytest.raises(StoreUnavailable), spool.draining():
        pass


def test_several_may_make_it_at_the_same_time(tmp_path: Path) -> None:
    """As the workers of a host do at the moment their database goes away for the first time."""
    makers, files = 4, 25
    together = threading.Barrier(makers)

    def make(maker: int) -> None:
        for file in range(files):
            spool = Spool(tmp_path / str(file) / "spool.db")
            together.wait(60)
            spool.add([entry(maker)])
            together.wait(60)
            assert spool.depth() == makers
            spool.close()

    with ThreadPoolExecutor(makers) as pool:
        for made in [pool.submit(make, maker) for maker in range(makers)]:
            made.result()


def _try(path: Path, answer: "multiprocessing.Queue[bool]") -> None:
    with Spool(path).draining() as mine:
        answer.put(mine)


def test_one_process_drains_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    with spool.draining() as mine:
        assert mine
        other = context.Process(target=_try, args=(spool.path, answer))
        other.start()
        assert answer.get(timeout=30) is False
        other.join()
    with Spool(spool.path).draining() as mine:
        assert mine


def test_what_was_refused_is_shown_and_tried_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    assert (spool.refused(), spool.retry(), spool.oldest()) == ([], 0, None)
    spool.add([entry(1), entry(22)])
    assert time.time() - spool.oldest() < 60
    second = spool.next(3)[1]
    spool.settle([second], refused=[(second, "the title is unknown")])
    (found,) = spool.refused()
    assert (found.kind, found.size, found.reason) == ("request", 2, "the title is unknown")
    assert spool.retry() == 1
    assert (spool.depth(), spool.refused()) == (2, [])
    spool.close()


def test_a_spool_of_an_earlier_release_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.db"
    with sqlite3.connect(path) as before:
        before.execute(
            "CREATE TABLE refused (entry_id INTEGER PRIMARY KEY, kind TEXT NOT NULL, "
            "payload BLOB NOT NULL, reason TEXT NOT NULL)"
        )
        before.execute("INSERT INTO refused VALUES (1, 'events', x'00', 'old')")
    before.close()
    spool = Spool(path)
    assert [r.reason for r in spool.refused()] == ["old"]
    monkeypatch.setattr("artwork_bandit.store.spool.MOST_REFUSED", 3)
    for number in (1, 1, 2, 3):
        spool.settle([], refused=[(entry(number, f"k{number}"), f"new {number}")])
    assert [r.reason for r in spool.refused()] == ["new 1", "new 2", "new 3"]
    spool.close()
