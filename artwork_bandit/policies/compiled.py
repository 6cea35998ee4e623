"""A model as serving maps it into memory: one file, shared by all workers of a host.

    magic (8 bytes) | header length (u64) | BLAKE2b-256 of all that follows (32 bytes)
    header (MessagePack) | padding to 64 | weights (f8) | own keys (u8) | own effects (f8)

Everything is little-endian. The header carries the encoders, the exploration and the canaries;
Vowpal Wabbit's own model stays behind in the registry.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np

from artwork_bandit.errors import BrokenModel
from artwork_bandit.policies.bundle import Bundle, check_canaries
from artwork_bandit.policies.encoding import ContextEncoder, VariantEncoder
from artwork_bandit.policies.exploration import Exploration, Form
from artwork_bandit.policies.linear import Canary, LinearModel
from artwork_bandit.policies.policy import ModelPolicy

MAGIC = b"artwork5"
_FIXED = 48
_ALIGNED = 64


class _Header(msgspec.Struct, frozen=True):
    context_encoder: ContextEncoder
    variant_encoder: VariantEncoder
    own: int
    """Number of variants with effects of their own."""
    own_columns: list[int]
    form: Form
    strength: float
    explored_share: float
    canaries: list[Canary]


def encode(bundle: Bundle) -> bytes:
    """Return the file's bytes."""
    model = bundle.model
    header = msgspec.msgpack.encode(
        _Header(
            context_encoder=model.context_encoder, variant_encoder=model.variant_encoder,
            own=len(model.own_keys), own_columns=model.own_columns, form=bundle.form,
            strength=bundle.strength, explored_share=bundle.explored_share,
            canaries=bundle.canaries,
        )
    )  # fmt: skip
    content = b"".join([
        header, bytes(_begin(len(header)) - _FIXED - len(header)),
        model.weights.astype("<f8").tobytes(), model.own_keys.astype("<u8").tobytes(),
        model.own_effects.astype("<f8").tobytes(),
    ])  # fmt: skip
    return MAGIC + len(header).to_bytes(8, "little") + _digest(content) + content


def decode(data: np.ndarray, version: int) -> ModelPolicy:
    """Return the policy in a file's bytes (uint8, perhaps mapped): its arrays are views of them.

    Raises BrokenModel unless the bytes are whole and predict as Vowpal Wabbit did.
    """
    if len(data) < _FIXED or data[:8].tobytes() != MAGIC:
        raise BrokenModel("the compiled model's file is not of this release's form")
    length = int.from_bytes(data[8:16].tobytes(), "little")
    if _digest(data[_FIXED:]) != data[16:48].tobytes():
        raise BrokenModel("the compiled model's file is damaged: its hash differs")
    header = msgspec.msgpack.decode(data[_FIXED : _FIXED + length].tobytes(), type=_Header)
    rows, columns = 1 + len(header.context_encoder.columns), 1 + len(header.variant_encoder.columns)
    numbers = data[_begin(length) :]
    cuts = 8 * np.cumsum([rows * columns, header.own])
    effects = numbers[cuts[1] :].view("<f8")
    model = LinearModel(
        context_encoder=header.context_encoder,
        variant_encoder=header.variant_encoder,
        weights=numbers[: cuts[0]].view("<f8").reshape(rows, columns),
        own_keys=numbers[cuts[0] : cuts[1]].view("<u8"),
        own_effects=effects.reshape(header.own, 1 + len(header.own_columns)),
        own_columns=header.own_columns,
    )
    check_canaries(model, header.canaries)
    exploration = Exploration(
        form=header.form, strength=header.strength, explored_share=header.explored_share
    )
    return ModelPolicy(model, exploration, version)


def _begin(header: int) -> int:
    """Return where the numbers begin."""
    return -(-(_FIXED + header) // _ALIGNED) * _ALIGNED


def _digest(content: Any) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()
