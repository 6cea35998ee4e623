"""What a killed training left is removed by the next; what one is using is not."""

import errno
import shutil
import tempfile
from pathlib import Path

import pytest

from artwork_bandit.errors import ArtworkBanditError
from artwork_bandit.training import scratch
from artwork_bandit.training import vowpal as runner


def test_only_what_nobody_uses_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch.folder() as ended:
        (ended / "model.vw").write_bytes(b"x")
        killed = tmp_path / f"{scratch.PREFIX}killed"
        shutil.copytree(ended, killed)  # as one that nobody holds
        with scratch.folder() as second:
            assert sorted(tmp_path.iterdir()) == sorted([ended, second])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = f"the temporary folder {tmp_path} is full: let TMPDIR name a folder with more room"
    with pytest.raises(ArtworkBanditError, match=said), scratch.folder():
        raise OSError(errno.ENOSPC, "no space")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="another"), scratch.folder():
        raise OSError(errno.EACCES, "another")
    # Vowpal Wabbit itself ends without a word of it.
    full = shutil._ntuple_diskusage(10**9, 10**9, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    with (
        pytest.raises(ArtworkBanditError, match=said),
        scratch.folder() as folder,
        runner.training(folder / "m.vw", "--no_such_option", 1, 14) as out,
    ):
        out.write("1 |a b\n" * 100_000)
