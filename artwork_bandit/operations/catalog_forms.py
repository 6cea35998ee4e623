"""Titles and variants as people send them, over HTTP or in a file: rules and conversion.

Identifiers are 1 to 200 characters without control characters; titles' and variants' also
without slashes, since they stand in addresses.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from artwork_bandit.domain import MATURITY_LEVELS, Title, Variant, VariantStatus
from artwork_bandit.errors import InvalidInput
from artwork_bandit.slots import slot_named

# No C0 or C1 control characters, no lone surrogates (no database and no log can hold them).
# Python's `$` also matches before a last newline; `(?!\n)` is what both it and ECMA understand.
END = r"$(?!\n)"
_TEXT = r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*" + END
_IN_ADDRESS = r"^(?!\.{1,2}$)[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]*" + END

_said: dict[str, str] = {}
"""What msgspec says of a text that breaks a pattern -> what the pattern asks for."""


def worded(pattern: str, words: str) -> Meta:
    """Return the constraint; `explained` puts its breach in words."""
    _said[f"`str` matching regex {pattern!r}"] = words
    return Meta(pattern=pattern)


def explained(error: Exception) -> str:
    """Return what a form's error says, in words instead of patterns."""
    text = str(error)
    for regex, words in _said.items():
        text = text.replace(regex, words)
    return text


_Plain = Annotated[str, worded(_TEXT, "text without control characters")]
_Addressable = Annotated[
    str, worded(_IN_ADDRESS, "an id without slashes and control characters, not `.` or `..`")
]
Name = Annotated[_Plain, Meta(min_length=1, max_length=200)]
Id = Annotated[_Addressable, Meta(min_length=1, max_length=200)]
Text = Annotated[_Plain, Meta(max_length=2000)]
Short = Annotated[_Plain, Meta(min_length=1, max_length=100)]
Country = Annotated[str, worded("^[A-Z]{2}" + END, "a country of two capital letters, such as US")]
Language = Annotated[
    str, worded("^[a-z]{2,3}" + END, "a language of two or three small letters, such as en")
]
Moment = Annotated[dt.datetime, Meta(tz=True)]
Maturity = Annotated[
    str,
    worded(f"^({'|'.join(MATURITY_LEVELS)})" + END, f"one of {', '.join(MATURITY_LEVELS)}"),
]
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Weight = Annotated[float, Meta(ge=-1e6, le=1e6)]
# Checked by `_sound_features`, not by Meta: constraints on several members of one union make
# msgspec 0.19 to 0.22 write past its memory (glibc: "double free or corruption").
FeatureValue = bool | float | str | list[str]
MOST_IN_LIST = 20
PROGRAMS = frozenset({"javascript", "vbscript"})
LARGEST_NUMBER = 1e9


class TitleForm(Struct, forbid_unknown_fields=True):
    """A title without its id."""

    name: Name
    genres: Annotated[list[Short], Meta(max_length=50)] = []
    kind: Short | None = None
    release_year: Annotated[int, Meta(ge=1800, le=2200)] | None = None
    maturity: Maturity | None = None
    duration_seconds: Seconds | None = None

    def to_domain(self, title_id: str) -> Title:
        return Title(
            title_id=title_id,
            name=self.name,
            genres=tuple(self.genres),
            kind=self.kind,
            release_year=self.release_year,
            maturity=self.maturity,
            duration_seconds=self.duration_seconds,
        )


class ControlForm(Struct, forbid_unknown_fields=True):
    """What of a title is switched, not described."""

    exploration_paused: bool
    """Nobody is drawn at random for it: everybody gets the model's best, or the default."""


class EligibilityForm(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """When and to whom a variant may be shown; in a PATCH, what is left out stays."""

    status: VariantStatus | msgspec.UnsetType = msgspec.UNSET
    starts_at: Moment | None | msgspec.UnsetType = msgspec.UNSET
    ends_at: Moment | None | msgspec.UnsetType = msgspec.UNSET
    countries: list[Country] | None | msgspec.UnsetType = msgspec.UNSET
    languages: list[Language] | None | msgspec.UnsetType = msgspec.UNSET
    maturity: Maturity | None | msgspec.UnsetType = msgspec.UNSET
    is_default: bool | msgspec.UnsetType = msgspec.UNSET

    def changes(self) -> dict[str, Any]:
        """Return the fields that were given, as `Variant` has them."""
        given: dict[str, Any] = {
            name: value
            for name in EligibilityForm.__struct_fields__
            if (value := getattr(self, name)) is not msgspec.UNSET
        }
        for name in ("countries", "languages"):
            if given.get(name) is not None:
                given[name] = tuple(given[name])
        for name in ("starts_at", "ends_at"):
            if given.get(name) is not None:
                try:
                    given[name] = given[name].astimezone(dt.UTC)
                except OverflowError as error:
                    raise InvalidInput(f"{name} is out of range; leave it out for ever") from error
        return given


class VariantForm(EligibilityForm, kw_only=True):
    """A variant without its id and title."""

    uri: Text
    slot: Short = "artwork"
    name: Name | None = None
    features: Annotated[dict[Short, FeatureValue], Meta(max_length=100)] = {}

    def to_domain(self, title_id: str, variant_id: str, before: Variant | None) -> Variant:
        """Return the variant; status and default stay as `before` has them unless given.

        A nightly import must not undo what somebody paused by hand. What only a log has named so
        far, and so has no address, was never anybody's to pause.
        """
        kept: dict[str, Any] = {}
        if before is not None and before.uri:
            kept = {"status": before.status, "is_default": before.is_default}
        return Variant(
            variant_id=variant_id,
            title_id=title_id,
            slot=slot_named(self.slot).name,
            uri=_sound_address(self.uri),
            name=self.name,
            features=_sound_features(self.features),
            **(kept | self.changes()),
        )


class CatalogVariant(VariantForm, kw_only=True):
    """A variant of a catalogue file."""

    variant_id: Id


class CatalogLine(TitleForm, kw_only=True):
    """One line of a catalogue file: a title with its variants."""

    title_id: Id
    variants: list[CatalogVariant] = []


def _sound_address(uri: str) -> str:
    """Return the address; raises InvalidInput for one that no browser can follow, or that is a
    program."""
    try:
        address = urlsplit(uri)
        address.port  # noqa: B018 -- reading it checks it
        if address.scheme.lower() in PROGRAMS:
            raise ValueError(f"{address.scheme}: is no place where a picture is")
    except ValueError as error:
        raise InvalidInput(f"uri {uri[:100]!r} is no address: {error}") from error
    return uri


def _sound_features(features: dict[str, FeatureValue]) -> dict[str, FeatureValue]:
    """Return the features; raises InvalidInput naming the first that breaks a rule."""
    for key, value in features.items():
        texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        if isinstance(value, list) and not 1 <= len(value) <= MOST_IN_LIST:
            raise InvalidInput(
                f"feature {key!r} has {len(value)} values; 1 to {MOST_IN_LIST} may be"
            )
        for text in texts:
            try:
                msgspec.convert(text, Short)
            except msgspec.ValidationError as error:
                raise InvalidInput(f"feature {key!r}: {explained(error)}") from error
        if isinstance(value, float | int) and abs(value) > LARGEST_NUMBER:
            raise InvalidInput(f"feature {key!r} is a number beyond {LARGEST_NUMBER:g}")
    return features
