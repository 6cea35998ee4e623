"""Uploads are judged by their content."""

import io
import threading
import warnings
from pathlib import Path

import pytest
from PIL import Image

from artwork_bandit.errors import InvalidInput
from artwork_bandit.operations import demo_catalog, drawing, uploads


def picture(kind: str, width: int = 320, height: int = 180) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(buffer, kind)
    return buffer.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


MP4 = box(b"ftyp", b"isom") + box(b"moov", b"x" * 40) + box(b"mdat", b"y" * 100)
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9"/></svg>'
)


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (picture("PNG"), "png"), (picture("JPEG"), "jpg"), (picture("WEBP"), "webp"),
        (MP4, "mp4"), (SVG, "svg"), (b"\n <?xml version='1.0'?>" + SVG, "svg"),
    ],
)  # fmt: skip
def test_sound_files_are_kept_by_their_content(tmp_path: Path, data: bytes, suffix: str) -> None:
    if suffix == "svg":
        data = data.lstrip()
    uri = uploads.save(str(tmp_path), data)
    assert uri.endswith(f".{suffix}")
    assert (tmp_path / uri.removeprefix("/media/")).read_bytes() == data
    assert uploads.save(str(tmp_path), data) == uri
    assert len(list((tmp_path / "uploads").iterdir())) == 1


def test_the_demos_own_pictures_pass() -> None:
    titles, variants = demo_catalog.load(1)
    names = {t.title_id: t.name for t in titles}
    for variant in variants[:40]:
        assert uploads.kind_of(drawing.draw(variant, names[variant.title_id]).encode()) == "svg"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"GIF89a" + b"x" * 100, "not a PNG"),
        (picture("PNG")[:-200], "damaged"),
        (picture("PNG", 20, 20), "20 x 20"),
        (picture("JPEG", 9000, 70), "9000 x 70"),
        (b"%PDF-1.7", "not a PNG"),
        (b"<html></html>", "not a PNG"),
        (b"<svg", "not sound XML"),
        (b"<!DOCTYPE svg><svg/>", "DOCTYPE"),
        (b"<svg><script>alert(1)</script></svg>", "script"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><foreignObject/></svg>', "foreignobject"),
        (b'<svg onload="alert(1)"/>', "onload"),
        (b'<svg><a href="https://x.example"/></svg>', "outside"),
        (b'<svg><image href="javascript:alert(1)"/></svg>', "outside"),
        (b"<svg><style>@import 'x.css';</style></svg>", "outside"),
        (b'<svg><rect fill="url(https://x.example/a)"/></svg>', "outside"),
        (b'<svg><a href="#"><set attributeName="href" to="https://x.example"/></a></svg>', "href"),
        (b'<svg><a><animate attributeName="xlink:href" values="#a"/></a></svg>', "href"),
        (b'<?xml version="1.0"?><?xml-stylesheet href="https://x.example"?><svg/>', "instruction"),
        (b'<?xml version="1.0" encoding="foo"?><svg/>', "UTF-8"),
        (b'<?xml version="1.0" encoding="utf-16"?><svg/>', "UTF-8"),
        (b"<svg>" + "<!DOCTYPE".encode("utf-16-le") + b"</svg>", "sound XML"),
        (b"<svg>\xff</svg>", "UTF-8"),
        (b"<svg>" + b"<g/>" * 30_000 + b"</svg>", "20,000 elements"),
        (b"<svg><desc>" + b"x" * 3_000_000 + b"</desc></svg>", "2 MiB"),
        (MP4[:-10], "ends too early"),
        (box(b"ftyp", b"isom") + box(b"mdat"), "no index"),
    ],
)
def test_everything_else_is_refused_in_words(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        uploads.kind_of(data)


def test_a_picture_that_would_fill_the_memory_is_refused() -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    with pytest.raises(InvalidInput, match=r"too large|30000"):
        uploads.kind_of(bomb.getvalue())


def test_without_a_folder_an_address_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="media_dir"):
        uploads.save("", SVG)
    (tmp_path / "uploads").write_text("in the way")
    with pytest.raises(InvalidInput, match="cannot be kept"):
        uploads.save(str(tmp_path), SVG)


def test_looking_at_pictures_leaves_warnings_alone() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=uploads.kind_of, args=[picture("JPEG")]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


@pytest.mark.parametrize(
    "reference", ["url(#g)", "url('#g')", 'url("#g")', "url( #g )", "url( '#g')"]
)
def test_what_a_drawing_refers_to_within_itself_is_no_harm(reference: str) -> None:
    quote = "'" if '"' in reference else '"'
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99">'
        f'<linearGradient id="g"/><rect width="9" height="9" fill={quote}{reference}{quote}/></svg>'
    )
    assert uploads.kind_of(text.encode()) == "svg"
    for outside in ("//evil.example/x", "https://evil.example/x#g"):
        with pytest.raises(InvalidInput, match="outside"):
            uploads.kind_of(text.replace("#g", outside).encode())
