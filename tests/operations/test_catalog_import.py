"""A catalogue is brought to what a file says, and to nothing that it does not say."""

import json
import os
from pathlib import Path

import pytest

from artwork_bandit.domain import VariantStatus
from artwork_bandit.errors import Conflict
from artwork_bandit.operations import catalog_import
from artwork_bandit.operations.editing import Editor
from artwork_bandit.store import catalog
from artwork_bandit.store.engine import Store
from tests.samples import NOW, fill


def test_what_is_paused_while_an_import_runs_stays_paused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [v for v in fill(store) if v.title_id == "t0"]
    told = [{"variant_id": v.variant_id, "uri": f"{v.uri}?new"} for v in pictures]
    text = json.dumps({"title_id": "t0", "name": "new", "variants": told})
    path = tmp_path / "catalog.jsonl"
    path.write_text(text)
    pipe, end = os.pipe()
    os.write(end, text.encode())
    os.close(end)
    read = catalog_import.read_catalog
    pausing = [pictures[0].variant_id]

    def meanwhile(*arguments: object) -> object:
        found = read(*arguments)
        if pausing:
            with store.write() as connection:
                editor = Editor(connection=connection, author="Ann", now=NOW)
                editor.patch_variant("t0", pausing.pop(), {"status": VariantStatus.PAUSED})
        return found

    monkeypatch.setattr(catalog_import, "read_catalog", meanwhile)
    piped = Path(f"/dev/fd/{pipe}")  # gives its text once
    changes = catalog_import.import_catalog_file(store, piped, NOW, dry_run=False)
    os.close(pipe)
    assert (changes.titles_changed, changes.variants_revised) == (1, len(pictures))
    with store.read() as connection:
        after = catalog.get_variant(connection, "t0", pictures[0].variant_id)
    assert (after.status, after.uri) == (VariantStatus.PAUSED, f"{pictures[0].uri}?new")
    pausing += [v.variant_id for v in pictures for _ in range(3)]
    monkeypatch.setattr(catalog_import, "TRIES", 2)
    with pytest.raises(Conflict, match="keep changing the catalogue"):
        catalog_import.import_catalog_file(store, path, NOW, dry_run=False)
