"""Pictures and trailers that people upload: checked by content, never by name, and kept by hash."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image, UnidentifiedImageError

from artwork_bandit.errors import InvalidInput

LARGEST_BYTES = 32 * 2**20
FOLDER = "uploads"
_PICTURES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
SMALLEST, LARGEST = 64, 8192
"""Pixels of a picture's side."""
KINDS = "PNG, JPEG, WebP, SVG or MP4"
_ACTIVE = {"script", "foreignobject", "iframe", "object", "embed", "audio", "video", "handler"}
_ANIMATIONS = {"set", "animate", "animatetransform", "animatemotion", "animatecolor"}
SVG = "http://www.w3.org/2000/svg"
EMPTY_BOX = 16
"""Bytes of an MP4's box with nothing in it."""
LARGEST_DRAWING = 2 * 2**20
MOST_ELEMENTS = 20_000
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([^"']*)["']""", re.IGNORECASE)
_OUTSIDE = re.compile(r"url\(\s*+['\"]?+(?!#)|@import", re.IGNORECASE)


def save(media_dir: str, data: bytes) -> str:
    """Keep a file; return its address on this server.

    The same content has the same address. Raises InvalidInput for what is not a sound picture or
    trailer, or if this server has no folder for them.
    """
    if not media_dir:
        raise InvalidInput(
            "this server keeps no files: set media_dir, or give the picture's address instead"
        )
    suffix = kind_of(data)
    name = f"{hashlib.blake2b(data, digest_size=12).hexdigest()}.{suffix}"
    folder = Path(media_dir) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            _write(folder, name, data)
    except OSError as error:
        raise InvalidInput(f"the file cannot be kept: {error.strerror}") from error
    return f"/media/{FOLDER}/{name}"


def kind_of(data: bytes) -> str:
    """Return the suffix of a picture or trailer; raises InvalidInput if it is none."""
    if not data:
        raise InvalidInput(f"the file is empty; choose a {KINDS}")
    if len(data) > LARGEST_BYTES:
        raise InvalidInput(f"the file is larger than {LARGEST_BYTES >> 20} MiB")
    if data[4:8] == b"ftyp":
        return _video(data)
    if data.lstrip()[:1] == b"<":
        return _drawing(data)
    return _picture(data)


def _picture(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data), formats=list(_PICTURES)) as picture:
            kind, (width, height) = picture.format, picture.size
            if max(width, height) <= LARGEST:
                picture.load()
    except UnidentifiedImageError as error:
        raise InvalidInput(f"the file is not a {KINDS}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"the picture is damaged or far too large: {error}") from error
    if not (min(width, height) >= SMALLEST and max(width, height) <= LARGEST):
        raise InvalidInput(
            f"the picture is {width} x {height}; sides must be {SMALLEST} to {LARGEST} pixels"
        )
    assert kind is not None, "an opened picture has a format"
    return _PICTURES[kind]


def _drawing(data: bytes) -> str:
    """Return `svg` for a drawing without anything active or from elsewhere."""
    if len(data) > LARGEST_DRAWING:
        raise InvalidInput(f"the SVG is larger than {LARGEST_DRAWING >> 20} MiB; simplify it")
    declared = _ENCODING.match(data)
    if declared is not None and declared.group(1).lower() not in (b"utf-8", b"ascii", b"us-ascii"):
        raise InvalidInput("the SVG is not in UTF-8; save it so")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("the SVG is not in UTF-8; save it so") from error
    if "<!ENTITY" in text.upper() or "<!DOCTYPE" in text.upper():
        raise InvalidInput("the SVG has a DOCTYPE; save it without")
    if "<?" in text.partition("?>")[2]:
        raise InvalidInput("the SVG has a processing instruction; save it without")
    try:
        root = ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InvalidInput(f"the file is not sound XML: {error}") from error
    if _local(root.tag) != "svg":
        raise InvalidInput(f"the file is not a {KINDS}")
    for count, element in enumerate(root.iter()):
        if count > MOST_ELEMENTS:
            raise InvalidInput(f"the SVG has more than {MOST_ELEMENTS:,} elements; simplify it")
        _sound_animation(element)
        if _local(element.tag) in _ACTIVE:
            raise InvalidInput(
                f"the SVG has a <{_local(element.tag)}>; pictures must not be active"
            )
        if _local(element.tag) == "style" and _OUTSIDE.search(element.text or ""):
            raise InvalidInput("the SVG's style refers to something outside the file")
        for name, value in element.attrib.items():
            _sound_attribute(_local(name), value)
    if root.tag != f"{{{SVG}}}svg":
        raise InvalidInput(f'the SVG does not say xmlns="{SVG}", and no browser would show it')
    return "svg"


def _sound_animation(element: ElementTree.Element) -> None:
    """Raise InvalidInput for one that changes where a link leads, or adds a script's attribute."""
    if _local(element.tag) in _ANIMATIONS:
        what = element.get("attributeName", "").rpartition(":")[2].lower()
        if what in ("href", "src", "style") or what.startswith("on"):
            raise InvalidInput(f"the SVG animates {what}; pictures must not be active")


def _sound_attribute(name: str, value: str) -> None:
    if name.startswith("on"):
        raise InvalidInput(f"the SVG has an attribute {name}; pictures must not be active")
    inside = value.startswith("#") or value.startswith(("data:image/png", "data:image/jpeg"))
    if name in ("href", "src") and not inside:
        raise InvalidInput("the SVG refers to something outside the file; embed it")
    if _OUTSIDE.search(value):
        raise InvalidInput("the SVG's style refers to something outside the file")


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2].lower()


def _video(data: bytes) -> str:
    """Return `mp4` if the file's boxes are whole and have both an index and content."""
    at, boxes = 0, dict[bytes, int]()
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1 and at + 16 <= len(data):
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        size = size or len(data) - at
        if size < 8 or at + size > len(data):
            raise InvalidInput("the MP4 ends too early; upload it again")
        boxes[kind] = size
        at += size
    if min(boxes.get(kind, 0) for kind in (b"moov", b"mdat")) <= EMPTY_BOX:
        raise InvalidInput("the MP4 has no index or no content; export it again")
    return "mp4"


def _write(folder: Path, name: str, data: bytes) -> None:
    """Write a whole file or none."""
    handle, temporary = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / name)
    except BaseException:
        os.unlink(temporary)
        raise
