"""What the registry stores of a model: one byte string with everything serving needs.

MessagePack of the encoders, compiled weights, exploration, canaries, Vowpal Wabbit's own model
and the arguments that made it. No date and no version number, so that the same log and seed give
the same bytes. Decoding checks the hash, the shapes and the canaries: truncated or corrupted
model files must never serve (VW itself would often load them silently).
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies.exploration import Exploration, Form
from artwork_bandit.policies.linear import Canary, LinearModel, scores
from artwork_bandit.policies.policy import ModelPolicy

FORMAT = 1
CANARY_TOLERANCE = 1e-5
"""Largest difference between the compiled score and VW's own float32 prediction."""


class Bundle(msgspec.Struct, frozen=True):
    """A trained model, whole."""

    format: int
    slot: str
    model: LinearModel
    form: Form
    strength: float
    explored_share: float
    canaries: list[Canary]
    vowpal_model: bytes
    vowpal_arguments: str

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    def policy(self, version: int | None) -> ModelPolicy:
        """Return the policy it serves as."""
        explored = Exploration(
            form=self.form, strength=self.strength, explored_share=self.explored_share
        )
        return ModelPolicy(self.model, explored, version)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, expected_sha256: str) -> Bundle:
    """Return the checked bundle; raises BrokenModel saying which check failed."""
    if (actual := sha256(data)) != expected_sha256:
        raise BrokenModel(f"model bytes hash to {actual[:12]}, registered {expected_sha256[:12]}")
    try:
        bundle = msgspec.msgpack.decode(data, type=Bundle)
    except msgspec.DecodeError as error:
        raise BrokenModel(f"model bytes cannot be decoded: {error}") from error
    if bundle.format != FORMAT:
        raise BrokenModel(f"model has format {bundle.format}; this release reads {FORMAT}")
    check_canaries(bundle)
    return bundle


def check_canaries(bundle: Bundle) -> None:
    """Raise BrokenModel unless the compiled scores equal the ones VW gave at training."""
    if not bundle.canaries:
        raise BrokenModel("model has no canary predictions")
    model = bundle.model
    try:
        weights = model.matrix()
        contexts = np.array([c.context for c in bundle.canaries])
        variants = np.array([[1.0, *c.variant] for c in bundle.canaries])
        own = np.array([model.own.get(c.variant_key or 0, 0.0) for c in bundle.canaries])
        pairs = np.arange(len(bundle.canaries))
        found = scores(weights, contexts, variants, own, pairs, pairs)
    except ValueError as error:
        raise BrokenModel(f"model weights do not fit their encoders: {error}") from error
    worst = float(np.max(np.abs(found - [c.score for c in bundle.canaries])))
    if not worst <= CANARY_TOLERANCE:
        raise BrokenModel(f"canary predictions differ from training's by up to {worst:.2g}")
