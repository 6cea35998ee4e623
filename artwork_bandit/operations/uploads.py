"""Pictures and trailers that people upload: checked by content, never by name, and kept by hash."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import warnings
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
_OUTSIDE = re.compile(r"url\(\s*['\"]?(?!#)|@import", re.IGNORECASE)


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
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture that would fill the memory
            with Image.open(io.BytesIO(data), formats=list(_PICTURES)) as picture:
                kind, (width, height) = picture.format, picture.size
                if max(width, height) <= LARGEST:
                    picture.load()
    except UnidentifiedImageError as error:
        raise InvalidInput(f"the file is not a {KINDS}") from error
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        raise InvalidInput(f"the picture is damaged or far too large: {error}") from error
    if not (min(width, height) >= SMALLEST and max(width, height) <= LARGEST):
        raise InvalidInput(
            f"the picture is {width} x {height}; sides must be {SMALLEST} to {LARGEST} pixels"
        )
    assert kind is not None, "an opened picture has a format"
    return _PICTURES[kind]


def _drawing(data: bytes) -> str:
    """Return `svg` for a drawing without anything active or from elsewhere."""
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data.upper():
        raise InvalidInput("the SVG has a DOCTYPE; save it without")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidInput(f"the file is not sound XML: {error}") from error
    if _local(root.tag) != "svg":
        raise InvalidInput(f"the file is not a {KINDS}")
    for element in root.iter():
        if _local(element.tag) in _ACTIVE:
            raise InvalidInput(
                f"the SVG has a <{_local(element.tag)}>; pictures must not be active"
            )
        if _local(element.tag) == "style" and _OUTSIDE.search(element.text or ""):
            raise InvalidInput("the SVG's style refers to something outside the file")
        for name, value in element.attrib.items():
            _sound_attribute(_local(name), value)
    return "svg"


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
    at, boxes = 0, set()
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1 and at + 16 <= len(data):
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        size = size or len(data) - at
        if size < 8 or at + size > len(data):
            raise InvalidInput("the MP4 ends too early; upload it again")
        boxes.add(kind)
        at += size
    if not {b"moov", b"mdat"} <= boxes:
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
