"""What a killed training left is removed by the next; what one is using is not."""

import shutil
import tempfile
from pathlib import Path

import pytest

from artwork_bandit.training import scratch


def test_only_what_nobody_uses_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch.folder() as ended:
        (ended / "model.vw").write_bytes(b"x")
        killed = tmp_path / f"{scratch.PREFIX}killed"
        shutil.copytree(ended, killed)  # as one that nobody holds
        with scratch.folder() as second:
            assert sorted(tmp_path.iterdir()) == sorted([ended, second])
    assert list(tmp_path.iterdir()) == []
