"""A compiled model predicts what it was compiled from, and damage never goes unnoticed."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from artwork_bandit.domain import Context
from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies import compiled
from artwork_bandit.policies.bundle import Bundle, decode, sha256
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.linear import Canary, EncodedVariants, LinearModel
from artwork_bandit.policies.variants import VariantColumns
from tests.samples import small_catalog


def made(seed: int = 1) -> Bundle:
    rng = np.random.default_rng(seed)
    _, variants = small_catalog()
    columns = VariantColumns.of(variants)
    contexts = ContextEncoder.learn(
        [Context(device="tv", genres={"TV Horror": 3.0}), Context(genres={"TV Dramas": 1.0})]
    )
    encoder = VariantEncoder.learn(variants)
    order = np.argsort(columns.keys)
    model = LinearModel(
        context_encoder=contexts, variant_encoder=encoder,
        weights=rng.normal(size=(1 + len(contexts.columns), 1 + len(encoder.columns))),
        own_keys=columns.keys[order], own_effects=rng.normal(size=(len(order), 2)),
        own_columns=[2],
    )  # fmt: skip
    u, x = rng.normal(size=len(contexts.columns)), rng.random(len(encoder.columns))
    key = int(columns.keys[2])
    value = np.array([1.0, *u]) @ model.weights @ [1.0, *x]
    value += model.own(columns.keys[2:3])[0] @ [1.0, u[2]]
    canary = Canary(context=u.tolist(), variant=x.tolist(), variant_key=key, score=float(value))
    return Bundle(
        slot="artwork", model=model, form="squarecb", strength=50.0, explored_share=0.05,
        canaries=[canary], vowpal_model=b"vw", vowpal_arguments="",
    )  # fmt: skip


def test_a_compiled_model_chooses_as_the_bundle_does() -> None:
    bundle = made()
    policy = compiled.decode(np.frombuffer(compiled.encode(bundle), np.uint8), 3)
    _, variants = small_catalog()
    columns = VariantColumns.of(variants)
    page = ([Context(device="tv", genres={"TV Horror": 9.0})], np.zeros(3, np.int64))
    rows, offsets = np.arange(12), np.array([0, 4, 8, 12])
    expected = bundle.policy(3).bind(columns).pmf(*page, rows, offsets)
    assert policy.bind(columns).pmf(*page, rows, offsets).tolist() == expected.tolist()
    assert policy.model_version == 3


@pytest.mark.parametrize("at", [0, 20, 60, -1])
def test_a_damaged_file_is_noticed_wherever_the_damage_is(at: int) -> None:
    data = bytearray(compiled.encode(made()))
    data[at] ^= 1
    with pytest.raises(BrokenModel):
        compiled.decode(np.frombuffer(bytes(data), np.uint8), 1)


@pytest.mark.parametrize("length", [0, 10, 48, 500, -8])
def test_a_truncated_file_is_noticed(length: int) -> None:
    data = compiled.encode(made())[:length]
    with pytest.raises(BrokenModel):
        compiled.decode(np.frombuffer(data, np.uint8), 1)


def test_a_variant_with_many_features_is_scored_by_all_of_them() -> None:
    bundle = made()
    _, variants = small_catalog()
    tags = [f"tag{i}" for i in range(40)]
    rich = replace(variants[0], features={"tags": tags, "genre": "TV Horror"})
    encoder = VariantEncoder.learn([*variants, rich])
    weights = np.random.default_rng(2).normal(
        size=(len(bundle.model.weights), 1 + len(encoder.columns))
    )
    model = replace(bundle.model, variant_encoder=encoder, weights=weights)
    columns = VariantColumns.of([*variants, rich])
    context = np.random.default_rng(3).normal(size=(1, len(weights) - 1))
    rows = np.arange(13)
    found = model.scores(context, EncodedVariants.of(model, columns), rows * 0, rows)
    x = np.hstack([np.ones((13, 1)), encoder.encode(columns.features)])
    expected = np.array([1.0, *context[0]]) @ weights @ x.T
    expected = expected + model.own(columns.keys) @ [1.0, context[0, 2]]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_pairs_score_does_not_depend_on_its_company() -> None:
    bundle = made()
    _, variants = small_catalog()
    encoded = EncodedVariants.of(bundle.model, VariantColumns.of(variants))
    contexts = np.random.default_rng(1).normal(size=(5, len(bundle.model.context_encoder.columns)))
    context_of, rows = np.repeat(np.arange(5), 12), np.tile(np.arange(12), 5)
    together = bundle.model.scores(contexts, encoded, context_of, rows)
    alone = [
        bundle.model.scores(contexts[[c]], encoded, np.zeros(1, int), np.array([r]))[0]
        for c, r in zip(context_of, rows, strict=True)
    ]
    assert np.max(np.abs(together - alone)) < 1e-12  # equal after rounding to the score grid


def test_models_of_earlier_releases_still_serve() -> None:
    now = made()
    plain = replace(now.model, own_effects=now.model.own_effects[:, :1], own_columns=[])
    context, variant = np.array([now.canaries[0].context]), [1.0, *now.canaries[0].variant]
    own = plain.own(np.array([now.canaries[0].variant_key], np.uint64))
    zero = np.zeros(1, np.int64)
    score = plain.scores(context, EncodedVariants.dense(np.array([variant]), own), zero, zero)
    canaries = [msgspec.structs.replace(now.canaries[0], score=float(score[0]))]
    more = {
        "slot": "artwork", "form": "squarecb", "strength": 50.0, "explored_share": 0.05,
        "canaries": canaries, "vowpal_model": b"vw", "vowpal_arguments": "",
    }  # fmt: skip
    encoders = {"context_encoder": plain.context_encoder, "variant_encoder": plain.variant_encoder}
    second = encoders | {
        "weights": plain.weights.tobytes(), "own_keys": plain.own_keys.tobytes(),
        "own_effects": plain.own_effects.tobytes(),
    }  # fmt: skip
    effects = zip(plain.own_keys.tolist(), plain.own_effects[:, 0].tolist(), strict=True)
    first = encoders | {"weights": plain.weights.tolist(), "own": dict(effects)}
    for form, body in ((1, {"model": first}), (2, second)):
        data = msgspec.msgpack.encode({"format": form, **body, **more})
        model = decode(data, sha256(data)).model
        assert model.weights.tolist() == plain.weights.tolist()
        assert model.own_effects.tolist() == plain.own_effects.tolist()
        assert model.own_columns == []
