"""What the registry stores of a model: one byte string with everything serving needs.

MessagePack of the encoders, compiled weights, exploration, canaries, Vowpal Wabbit's own model
and the arguments that made it. No date and no version number, so that the same log and seed give
the same bytes. Decoding checks the hash, the shapes and the canaries: truncated or corrupted
model files must never serve (VW itself would often load them silently).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np

from artwork_bandit.errors import BrokenModel, DamagedModel
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.exploration import Exploration, Form
from artwork_bandit.policies.linear import Canary, EncodedVariants, LinearModel
from artwork_bandit.policies.policy import ModelPolicy
from artwork_bandit.policies.precision import Stored
from artwork_bandit.policies.priors import Priors

FORMAT = 4
CANARY_TOLERANCE = 1e-5
"""Largest difference between the compiled score and VW's own float32 prediction."""


class Learned(msgspec.Struct, frozen=True):
    """What another training needs, beside the model, to go on from it."""

    priors: Priors
    half_life_days: float
    """Of its rows' weights, what priors say of ageing included."""
    first: int
    """Microseconds of the first and last row it learned from."""
    last: int
    per_logit: float
    """Reward on [0, 1] per logit: what its scores were multiplied with."""
    titles: list[str]
    title_rows: Stored
    """Per title, the rows it learned from, ever."""
    title_earned: Stored
    """Per title, the sum of their rewards on [0, 1]."""
    information: dict[str, Stored]
    """`precision.Information`, variants in the order of the model's own keys."""
    affinity: Stored | None = None
    """Effects of the kinds of affinity, in logits: in the weights they are added to crosses."""
    weight: float = 0.0
    """Sum of the weights of all rows it learned from, ever, as they were at its last."""
    squared: float = 0.0
    """Sum of their squares."""
    own_means: Stored | None = None
    """Per key of the model's own, in logits, what its effect was expected to be; 0 if None."""

    @property
    def effective_rows(self) -> float:
        """How many rows that weigh alike would tell as much (Kish 1965)."""
        if not self.squared:  # a model of an earlier release
            return float(self.title_rows.array().sum())
        return self.weight**2 / self.squared


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A trained model, whole."""

    slot: str
    model: LinearModel
    form: Form
    strength: float
    explored_share: float
    canaries: list[Canary]
    vowpal_model: bytes
    vowpal_arguments: str
    learned: Learned | None = None
    """None in models of earlier releases."""

    def encode(self) -> bytes:
        """Return format 4: arrays as little-endian bytes."""
        model = self.model
        return msgspec.msgpack.encode(
            _Bundle3(
                format=FORMAT,
                slot=self.slot,
                context_encoder=model.context_encoder,
                variant_encoder=model.variant_encoder,
                weights=model.weights.astype("<f8").tobytes(),
                own_keys=model.own_keys.astype("<u8").tobytes(),
                own_effects=model.own_effects.astype("<f8").tobytes(),
                own_columns=model.own_columns,
                form=self.form,
                strength=self.strength,
                explored_share=self.explored_share,
                canaries=self.canaries,
                vowpal_model=self.vowpal_model,
                vowpal_arguments=self.vowpal_arguments,
                learned=None if model.own_genres else self.learned,
                learned_of_genres=self.learned if model.own_genres else None,
            )
        )

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
        raise DamagedModel(f"its bytes hash to {actual[:12]}, registered {expected_sha256[:12]}")
    try:
        found = msgspec.msgpack.decode(data, type=_Format).format
        if found not in _READERS:
            raise BrokenModel(f"it has format {found}; this release reads {sorted(_READERS)}")
        bundle = msgspec.msgpack.decode(data, type=_READERS[found]).bundle()
    except (msgspec.DecodeError, ValueError) as error:
        raise BrokenModel(f"its bytes cannot be decoded: {error}") from error
    check_canaries(bundle.model, bundle.canaries)
    return bundle


def check_canaries(model: LinearModel, canaries: list[Canary]) -> None:
    """Raise DamagedModel unless the compiled scores equal the ones VW gave at training."""
    if not canaries:
        raise DamagedModel("it has no canary predictions")
    try:
        contexts = np.array([c.context for c in canaries])
        variants = np.array([[1.0, *c.variant] for c in canaries])
        keys = np.array([c.variant_key or 0 for c in canaries], np.uint64)
        if model.weights.shape != (1 + contexts.shape[1], variants.shape[1]):
            raise ValueError(f"weights {model.weights.shape}, canaries {contexts.shape[1:]}")
        pairs = np.arange(len(canaries))
        encoded = EncodedVariants.dense(variants, model.own(keys))
        found = model.scores(contexts, encoded, pairs, pairs)
    except (ValueError, IndexError) as error:
        raise DamagedModel(f"its weights do not fit their encoders: {error}") from error
    worst = float(np.max(np.abs(found - [c.score for c in canaries])))
    if not worst <= CANARY_TOLERANCE:
        raise DamagedModel(f"its canary predictions differ from training's by up to {worst:.2g}")


class _Format(msgspec.Struct):
    format: int


class _Bundle2(msgspec.Struct):
    """As the second release wrote it: one effect of its own per variant."""

    format: int
    slot: str
    context_encoder: ContextEncoder
    variant_encoder: VariantEncoder
    weights: bytes
    own_keys: bytes
    own_effects: bytes
    form: Form
    strength: float
    explored_share: float
    canaries: list[Canary]
    vowpal_model: bytes
    vowpal_arguments: str

    def bundle(self) -> Bundle:
        weights = np.frombuffer(self.weights, "<f8")
        return _bundle(
            self,
            self.context_encoder,
            self.variant_encoder,
            weights,
            np.frombuffer(self.own_keys, "<u8"),
            np.frombuffer(self.own_effects, "<f8"),
        )


class _Bundle3(_Bundle2):
    own_columns: list[int] = []
    learned: Learned | None = None
    learned_of_genres: Learned | None = None
    """In its place where own columns are of genres: the release before serves such a model, and
    cannot go on from it."""


class _Model1(msgspec.Struct):
    context_encoder: ContextEncoder
    variant_encoder: VariantEncoder
    weights: list[list[float]]
    own: dict[int, float]


class _Bundle1(msgspec.Struct):
    """As the first release wrote it: numbers as lists."""

    format: int
    slot: str
    model: _Model1
    form: Form
    strength: float
    explored_share: float
    canaries: list[Canary]
    vowpal_model: bytes
    vowpal_arguments: str

    def bundle(self) -> Bundle:
        own = sorted(self.model.own.items())
        return _bundle(
            self,
            self.model.context_encoder,
            self.model.variant_encoder,
            np.asarray(self.model.weights, np.float64).ravel(),
            np.array([key for key, _ in own], np.uint64),
            np.array([effect for _, effect in own], np.float64),
        )


_READERS: dict[int, type[_Bundle1] | type[_Bundle2]] = {
    1: _Bundle1,
    2: _Bundle2,
    3: _Bundle3,
    4: _Bundle3,  # with emphasis among the variant columns, which a release before would not see
}


def _bundle(
    read: _Bundle1 | _Bundle2, contexts: ContextEncoder, variants: VariantEncoder,
    weights: np.ndarray, own_keys: np.ndarray, own_effects: np.ndarray,
) -> Bundle:  # fmt: skip
    shape = (1 + len(contexts.columns), 1 + len(variants.columns))
    own_columns = read.own_columns if isinstance(read, _Bundle3) else []
    return Bundle(
        slot=read.slot,
        model=LinearModel(
            context_encoder=contexts, variant_encoder=variants, weights=weights.reshape(shape),
            own_keys=own_keys, own_effects=own_effects.reshape(len(own_keys), 1 + len(own_columns)),
            own_columns=own_columns,
        ),
        form=read.form, strength=read.strength, explored_share=read.explored_share,
        canaries=read.canaries, vowpal_model=read.vowpal_model,
        vowpal_arguments=read.vowpal_arguments,
        learned=read.learned or read.learned_of_genres if isinstance(read, _Bundle3) else None,
    )  # fmt: skip
