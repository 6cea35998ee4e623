"""The error tree: few classes, each caught somewhere.

Messages say what happened, the value received, what is allowed and what to do next.
"""


class ArtworkBanditError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidInput(ArtworkBanditError):
    """Something from outside (HTTP, file, command line) breaks a rule; the sender can mend it."""


class NotFound(ArtworkBanditError):
    """A named thing (title, variant, model, decision) does not exist."""


class Conflict(ArtworkBanditError):
    """The request contradicts what is already stored."""


class Overtaken(Conflict):
    """What somebody decided on has been changed meanwhile by somebody else."""


class StoreUnavailable(ArtworkBanditError):
    """The database cannot answer now; trying again later may work."""


class Overloaded(ArtworkBanditError):
    """More waits already than can be answered in time; trying again in a moment may work."""


class BrokenModel(ArtworkBanditError):
    """Model bytes do not hash, decode or predict as they did when they were made."""


class DamagedModel(BrokenModel):
    """Model bytes are not those that were registered, or predict otherwise than they did: no
    release can use them."""


class NotEnoughData(ArtworkBanditError):
    """The log cannot support the result asked for; the message says what would help."""
