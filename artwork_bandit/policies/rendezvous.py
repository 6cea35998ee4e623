"""Sticky draws without stored state: weighted rendezvous (Gumbel-max) hashing.

    chosen = argmax_v  log pmf[v] + Gumbel(hash(salt, member, title, slot, v, period))

The noise depends on ids and a long period only, so a member keeps the same picture while the
policy agrees; adding a variant or moving the pmf a little moves few members; each draw has
exactly the pmf's probability; and every draw can be made again for an audit.

Reference: Gumbel-max trick, Maddison, Tarlow and Minka (2014), "A* sampling"; weighted
rendezvous hashing, Thaler and Ravishankar (1998). A generator with stored draws was rejected:
it needs state, and cannot be audited without it.

The member's part is a keyed cryptographic hash, once per request; the variants' parts are stored
64-bit ids mixed in by integer arithmetic (splitmix64's finaliser), vectorised over the page.
"""

from __future__ import annotations

import datetime as dt
import functools

import numpy as np
import numpy.typing as npt

from artwork_bandit.domain import Floats, Ints, stable_hash
from artwork_bandit.policies.ragged import first_maximum

UInt64s = npt.NDArray[np.uint64]


def variant_key(title_id: str, slot: str, variant_id: str) -> int:
    """Return the 64-bit id of a variant; the same for all its revisions."""
    return stable_hash("variant", title_id, slot, variant_id)


@functools.lru_cache(maxsize=50_000)
def variant_keys(title_id: str, slot: str, variant_ids: tuple[str, ...]) -> tuple[int, ...]:
    """Return the variants' 64-bit ids; remembered, since a log has the same few again and again."""
    return tuple(variant_key(title_id, slot, v) for v in variant_ids)


def member_key(salt: bytes, member_id: str, period: int) -> int:
    """Return the 64-bit id of a member's draws in one period."""
    return stable_hash("draw", member_id, str(period), key=salt)


def period_start(salt: bytes, member_id: str, occurred_at: dt.datetime, length: float) -> int:
    """Return when the member's draw period began, in whole seconds since 1970 UTC.

    Boundaries are staggered by member, so that a service's pictures do not all change at once.
    `length` is in seconds, at least 1.
    """
    seconds = max(1, round(length))
    offset = stable_hash("period", member_id, key=salt) % seconds
    now = int(occurred_at.timestamp())
    return (now + offset) // seconds * seconds - offset


def gumbel_noise(member: int | UInt64s, variants: UInt64s) -> Floats:
    """Return standard Gumbel noise per variant, a pure function of the two ids.

    `member` is one id, or one per variant.
    """
    keys = np.asarray(member, np.uint64)
    mixed = _mix(_mix(variants + keys) ^ keys)
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: Floats = -np.log(-np.log(uniform))
    return noise


def draw(pmf: Floats, noise: Floats, offsets: Ints) -> Ints:
    """Return, per decision, the flat index of the variant drawn.

    `pmf` and `noise` are flat over decisions; `offsets` (d + 1) says where each begins. A variant
    of probability 0 is never drawn.
    """
    with np.errstate(divide="ignore"):
        return first_maximum(np.log(pmf) + noise, offsets)


def _mix(x: UInt64s) -> UInt64s:
    """Return splitmix64's finaliser of each element, with its increment added first."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
