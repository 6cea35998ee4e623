"""Masks over the whole catalogue say what the rule says variant by variant."""

import datetime as dt
import itertools
from dataclasses import replace

import numpy as np

from artwork_bandit.domain import MATURITY_LEVELS, Variant, VariantStatus
from artwork_bandit.serving.eligibility import Audience, EligibilityColumns
from tests.samples import NOW

DAY = dt.timedelta(days=1)
CHOICES = {
    "status": list(VariantStatus),
    "starts_at": [None, NOW - DAY, NOW, NOW + DAY],
    "ends_at": [None, NOW, NOW + 2 * DAY],
    "countries": [None, (), ("US",), ("FR", "US")],
    "languages": [None, ("en",)],
    "maturity": [None, "TV-14", "TV-MA", "unheard of"],
}


def allowed(variant: Variant, audience: Audience, now: dt.datetime) -> bool:
    """The rule, said once more and slowly."""
    if variant.status is not VariantStatus.ACTIVE:
        return False
    if variant.starts_at is not None and now < variant.starts_at:
        return False
    if variant.ends_at is not None and now >= variant.ends_at:
        return False
    if variant.countries is not None and audience.country not in variant.countries:
        return False
    if variant.languages is not None and audience.language not in variant.languages:
        return False
    if audience.maturity is None or variant.maturity is None:
        return True
    known = {variant.maturity, audience.maturity} <= set(MATURITY_LEVELS)
    return known and MATURITY_LEVELS[variant.maturity] <= MATURITY_LEVELS[audience.maturity]


def variants(count: int, seed: int) -> list[Variant]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        chosen = {k: v[int(rng.integers(len(v)))] for k, v in CHOICES.items()}
        made.append(
            Variant(variant_id=f"v{i}", title_id="t", slot="artwork", uri="/x", **chosen)
        )  # fmt: skip
    return made


def test_the_mask_is_the_rule_for_every_kind_of_audience() -> None:
    made = variants(600, 1)
    columns = EligibilityColumns.of(made)
    audiences = itertools.product(
        (None, "US", "DE"), (None, "en", "de"), (None, "TV-Y", "TV-14", "NC-17", "unheard of")
    )
    for country, language, maturity in audiences:
        audience = Audience(country=country, language=language, maturity=maturity)
        for now in (NOW, NOW + DAY):
            expected = [allowed(v, audience, now) for v in made]
            assert columns.mask(audience, now).tolist() == expected
            assert 0 < sum(expected) < 600


def test_columns_changed_row_by_row_are_the_columns_made_at_once() -> None:
    before, new = variants(50, 1), variants(20, 2)
    rows = np.array([3, 17])
    changed = EligibilityColumns.of(before).changed(rows, new)
    after = list(before)
    after[3], after[17] = new[0], new[1]
    whole = EligibilityColumns.of([*after, *new[2:]])
    audience = Audience(country="FR", language="en", maturity="TV-14")
    assert changed.mask(audience, NOW).tolist() == whole.mask(audience, NOW).tolist()


def test_the_next_change_is_the_next_date_of_any_variant() -> None:
    variant = variants(1, 1)[0]
    dated = replace(variant, starts_at=NOW + DAY, ends_at=NOW + 2 * DAY)
    columns = EligibilityColumns.of([replace(variant, starts_at=None, ends_at=None), dated])
    at = columns.next_change(NOW)
    assert at is not None
    assert dt.datetime.fromtimestamp(at / 1e6, dt.UTC) == NOW + DAY
    assert columns.next_change(NOW + 2 * DAY) is None
