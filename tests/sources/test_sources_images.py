"""Every kind of image becomes the stated tensor, the same in training and prediction; damaged ones are named and counted."""

from __future__ import annotations

import hashlib
import io
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netwright.errors import DataError, SafetyError
from netwright.sources import cache, images
from netwright.sources.image_files import ImageFiles, of_paths
from netwright.sources.images import Header, ImageForm, decode, form_of, leave_out_bad, read_image, scan
from netwright.sources.places import place_of

GREYS = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)
COLOURS = np.stack([GREYS, GREYS[::-1], 255 - GREYS], axis=-1)
COARSE = GREYS // 85 * 85  # four greys, which a palette holds exactly
WHITE = 255
SIXTEEN = np.minimum(GREYS.astype(np.uint32) * 257 + 3, 65535).astype(np.uint16)


def saved(folder: Path, picture: Image.Image, name: str, **options: Any) -> Path:
    picture.save(folder / name, **options)
    return folder / name


def palette() -> Image.Image:
    return Image.fromarray(COARSE).convert("RGB").quantize(4)


def turned(values: np.ndarray) -> tuple[Image.Image, Image.Exif]:
    """A picture that lies on its side, with the EXIF entry that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return Image.fromarray(np.rot90(values).copy()), exif


def alpha(values: np.ndarray) -> Image.Image:
    """The picture with its left half transparent."""
    half = np.full(values.shape[:2], 255, np.uint8)
    half[:, :4] = 0
    return Image.fromarray(np.dstack([values, half]))


def half_white(values: np.ndarray) -> np.ndarray:
    found = values.copy()
    found[:, :4] = WHITE
    return found


def png_of_16_bit_colour() -> bytes:
    """A PNG file of 16 bits per colour, which Pillow cannot write."""
    values = COLOURS.astype(">u2") * 257
    lines = b"".join(b"\0" + line.tobytes() for line in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def make(folder: Path, kind: str) -> Path:
    """Save the picture in one of its kinds."""
    grey, colour = Image.fromarray(GREYS), Image.fromarray(COLOURS)
    if kind.startswith("exif"):
        picture, exif = turned(GREYS)
        return saved(folder, picture, f"exif.{kind[5:]}", exif=exif, **({"lossless": True} if kind[5:] == "webp" else {}))
    if kind == "colour of 16 bits":
        (folder / "deep_colour.png").write_bytes(png_of_16_bit_colour())
        return folder / "deep_colour.png"
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "grey png": (grey, "grey.png", {}),
        "grey bmp": (grey, "grey.bmp", {}),
        "grey tiff": (grey, "grey.TIFF", {}),
        "grey packed tiff": (grey, "grey.tif", {"compression": "tiff_lzw"}),
        "grey gif": (grey, "grey.gif", {}),
        "grey webp": (grey.convert("RGB"), "grey.webp", {"lossless": True}),
        "colour png": (colour, "colour.png", {}),
        "colour of greys": (grey.convert("RGB"), "colours.png", {}),
        "palette": (palette(), "palette.png", {}),
        "black and white": (Image.fromarray(GREYS > 127), "bits.png", {}),
        "grey with alpha": (alpha(GREYS), "alpha.png", {}),
        "colour with alpha": (alpha(COLOURS), "alpha4.png", {}),
        "one grey is transparent": (Image.fromarray(COARSE), "key.png", {"transparency": 0}),
        "cmyk": (grey.convert("RGB").convert("CMYK"), "cmyk.tif", {}),
        "grey of 16 bits": (Image.fromarray(SIXTEEN), "deep.png", {}),
        "tiff of 16 bits": (Image.fromarray(SIXTEEN), "deep.tif", {}),
        "frames": (grey, "frames.gif", {"save_all": True, "append_images": [Image.fromarray(255 - GREYS)]}),
    }
    picture, name, options = made[kind]
    return saved(folder, picture, name, **options)


LUMA = np.asarray(Image.fromarray(COLOURS).convert("L"))
THRICE = np.repeat(GREYS[..., None], 3, axis=-1)
DEEP = (SIXTEEN / 257).astype(np.float32)
# the kind of file: what it becomes as grey, as rgb, as grey16
BECOMES: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {
    **dict.fromkeys(
        ("grey png", "grey bmp", "grey tiff", "grey packed tiff", "grey gif", "grey webp", "colour of greys", "cmyk")
        + ("frames", "exif png", "exif webp", "exif tiff"),
        (GREYS, THRICE, GREYS),
    ),
    "colour png": (LUMA, COLOURS, LUMA),
    "colour of 16 bits": (LUMA, COLOURS, LUMA),
    "palette": (COARSE, np.repeat(COARSE[..., None], 3, axis=-1), COARSE),
    "black and white": ((GREYS > 127) * np.uint8(255), (THRICE > 127) * np.uint8(255), (GREYS > 127) * np.uint8(255)),
    "grey with alpha": (half_white(GREYS), half_white(THRICE), half_white(GREYS)),
    "colour with alpha": (half_white(LUMA), half_white(COLOURS), half_white(LUMA)),
    "one grey is transparent": tuple(  # type: ignore[dict-item]
        np.where(values == 0, 255, values).astype(np.uint8)
        for values in (COARSE, np.repeat(COARSE[..., None], 3, 2), COARSE)
    ),
    "grey of 16 bits": (GREYS, THRICE, DEEP),
    "tiff of 16 bits": (GREYS, THRICE, DEEP),
}


@pytest.mark.parametrize("place", ["file", "archive"])
@pytest.mark.parametrize("kind", BECOMES)
def test_a_picture_becomes_the_stated_tensor_whatever_its_kind(kind: str, place: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    if place == "archive":
        with zipfile.ZipFile(tmp_path / "d.zip", "w") as packed:
            packed.write(path, path.name)
        path = tmp_path / "d.zip" / path.name
    for mode, stated in zip(("grey", "rgb", "grey16"), BECOMES[kind], strict=True):
        found = read_image(place_of(path), ImageForm(mode, (6, 8)))
        assert found.dtype == (np.float32 if mode == "grey16" else np.uint8)
        np.testing.assert_array_equal(found, stated)


@pytest.mark.parametrize("kind", ["jpg", "exif jpg"])
def test_a_jpeg_becomes_nearly_the_same_tensor(kind: str, tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(GREYS).resize((80, 60), Image.Resampling.BILINEAR))
    picture, exif = turned(smooth) if kind == "exif jpg" else (Image.fromarray(smooth), Image.Exif())
    path = saved(tmp_path, picture, "a.jpeg", exif=exif, quality=95)
    found = read_image(place_of(path), ImageForm("grey", (60, 80))).astype(int)
    assert np.abs(found - smooth).max() <= 6


def test_a_large_jpeg_is_read_small_at_once_and_looks_the_same(tmp_path: Path) -> None:
    smooth = Image.fromarray(GREYS).resize((640, 480), Image.Resampling.BILINEAR)
    found = read_image(place_of(saved(tmp_path, smooth, "a.jpg", quality=95)), ImageForm("grey", (30, 40))).astype(int)
    assert np.abs(found - np.asarray(smooth.resize((40, 30), Image.Resampling.BILINEAR))).max() <= 6


def test_images_are_stretched_with_antialiasing(tmp_path: Path) -> None:
    lines = np.zeros((64, 64), np.uint8)
    lines[:, ::2] = 255  # without antialiasing all black or all white
    found = read_image(place_of(saved(tmp_path, Image.fromarray(lines), "a.png")), ImageForm("grey", (16, 16)))
    assert found.shape == (16, 16)
    assert np.abs(found.astype(int) - 127).max() < 20


def several(folder: Path, *kinds: str) -> ImageFiles:
    return of_paths([make(folder, kind) for kind in kinds])


# the kinds of the train images, the mode that follows
MODES: dict[str, tuple[tuple[str, ...], str]] = {
    "grey ones": (("grey png", "black and white", "grey with alpha"), "grey"),
    "one of colour": (("grey png", "colour png"), "rgb"),
    "colour by mode, not by content": (("grey png", "colour of greys"), "rgb"),
    "a palette": (("grey png", "palette"), "rgb"),
    "one of 16 bits": (("grey png", "grey of 16 bits"), "grey16"),
    "16 bits beside colour": (("colour png", "grey of 16 bits"), "rgb"),
}


@pytest.mark.parametrize("name", MODES)
def test_the_train_images_decide_the_mode(name: str, tmp_path: Path) -> None:
    kinds, mode = MODES[name]
    assert form_of(scan(several(tmp_path, *kinds).files)[0], None, None)[0].mode == mode


def test_images_of_one_size_keep_it_and_others_are_stretched_to_the_median_with_a_bound() -> None:
    def size(*sizes: tuple[int, int]) -> tuple[tuple[int, int], int]:
        form, notes = form_of([Header("L", one) for one in sizes], None, None)
        return form.size, len(notes)

    assert size((256, 200), (256, 200)) == ((256, 200), 0)
    assert size((300, 400), (300, 400)) == ((96, 128), 1)
    assert size((20, 30), (40, 50), (60, 70)) == ((40, 50), 1)
    assert size((600, 300), (800, 400), (1000, 500)) == ((128, 64), 1)
    assert form_of([Header("L", (5, 5)), Header("L", (9, 9))], "rgb", [7, 3]) == (ImageForm("rgb", (7, 3)), [])


def test_the_note_on_sizes_says_what_came_and_what_is_done() -> None:
    rule = "the median of the train images with at most 128 on the longer side; data.image_size sets another"
    _, notes = form_of([Header("L", (10, 30)), Header("L", (20, 10))], None, None)
    assert notes == [f"images of 10 x 10 to 20 x 30 pixels (height x width) are stretched to 15 x 20, {rule}"]
    _, notes = form_of([Header("L", (3000, 4000))], None, None)
    assert notes == [f"images of 3000 x 4000 pixels (height x width) are stretched to 96 x 128, {rule}"]


def test_only_train_rows_decide_and_the_rest_follows(tmp_path: Path) -> None:
    found = several(tmp_path, "grey png", "colour png", "colour of 16 bits", "grey of 16 bits", "frames", "palette")
    read = decode(found, np.asarray([0]), None, None, None)
    assert read.layout == "NHW"
    assert read.inputs["images"].shape == (6, 6, 8)
    assert read.notes == (
        "images: 2 colour, 2 palette, 1 grey, 1 grey of 16 bits; read as grey, 6 x 8 pixels (height x width)",
        "2 of 6 images of 16 bits are rounded to 8",
        "4 of 6 images of colour are read as grey",
        "1 of 6 images have several frames, of which the first is read",
    )


def test_rows_to_predict_become_the_same_bits_as_in_training(tmp_path: Path) -> None:
    found = several(tmp_path, *BECOMES)
    trained = decode(found, np.arange(found.rows), None, None, None)
    assert trained.layout == "NHWC"
    again = decode(found, None, "rgb", trained.inputs["images"].shape[1:3], None)
    hashes = {hashlib.sha256(one.inputs["images"].tobytes()).hexdigest() for one in (trained, again)}
    assert len(hashes) == 1


def test_16_bits_are_kept_as_floats(tmp_path: Path) -> None:
    read = decode(several(tmp_path, "grey of 16 bits", "grey png"), None, None, None, None)
    assert read.inputs["images"].dtype == np.float32
    np.testing.assert_array_equal(read.inputs["images"], np.stack([DEEP, GREYS]))


def damaged(folder: Path) -> list[Path]:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(whole, "PNG")
    contents = {
        "cut.png": whole.getvalue()[:600],
        "nothing.png": b"",
        "text.png": b"no image",
        "other.jpg": whole.getvalue(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_every_damaged_image_is_counted_and_the_first_is_named(tmp_path: Path) -> None:
    found = of_paths([make(tmp_path, "grey png"), *damaged(tmp_path)])
    with pytest.raises(DataError, match=r"cut\.png: .*; 4 of 5 images are damaged; expected PNG, .*data\.bad_images"):
        decode(found, None, None, None, None)
    _, bad = scan(found.files, whole=True)
    assert bad[2] == "0 bytes"
    assert bad[3] == "no image that can be read"
    assert bad[4] == "its content is PNG, its ending '.jpg'"


def test_a_damaged_image_is_left_out_on_request_but_not_many(tmp_path: Path) -> None:
    good = make(tmp_path, "grey png")
    bad = damaged(tmp_path)[0]
    kept = leave_out_bad(of_paths([*[good] * 60, bad, *[good] * 60]))
    assert kept.rows == 120
    assert kept.about.rows == 120
    assert kept.notes[0].startswith(f"1 of 121 images damaged and left out, the first {bad} (")
    with pytest.raises(DataError, match=r"cut\.png: .*more than 1%"):
        leave_out_bad(of_paths([good, bad]))


def test_an_image_of_too_many_pixels_is_refused_from_its_head(tmp_path: Path) -> None:
    for size in (60_000, 10_000):
        head = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 8)
        with pytest.raises(SafetyError, match=rf"bomb\.png: {size**2} pixels came; expected at most"):
            scan(of_paths([tmp_path / "bomb.png"]).files)


def test_a_damaged_tiff_file_prints_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), "a.tif", compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    content[600:700] = b"\xff" * 100
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: "):
        decode(of_paths([path]), None, None, None, None)
    assert capfd.readouterr() == ("", "")


def test_32_bits_without_a_scale_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(GREYS.astype(np.float32)), "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: 32 bits per pixel without a known scale; convert it"):
        decode(of_paths([path]), None, None, None, None)


def test_a_missing_pillow_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = several(tmp_path, "grey png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"Pillow is missing; expected the extra images; pip install 'netwright\[images\]'"):
        decode(found, None, None, None, None)


def test_what_is_too_large_for_memory_is_decoded_once_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = several(tmp_path, "grey png", "colour png", "palette")
    inside = decode(found, None, None, None, None).inputs["images"]
    monkeypatch.setattr(cache, "free_share", lambda: 100)
    mapped = decode(found, None, None, None, str(tmp_path / "kept"))
    assert isinstance(mapped.inputs["images"], np.memmap)
    np.testing.assert_array_equal(mapped.inputs["images"], inside)
    (kept,) = (tmp_path / "kept").iterdir()
    assert str(kept) in mapped.notes[-1]
    monkeypatch.setattr(images, "read_image", None)  # a second decoding would fail
    again = decode(found, None, None, None, str(tmp_path / "kept"))
    np.testing.assert_array_equal(again.inputs["images"], inside)


def test_a_changed_image_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 100)
    found = several(tmp_path, "grey png")
    decode(found, None, None, None, str(tmp_path / "kept"))
    Image.fromarray(255 - GREYS).save(tmp_path / "grey.png")
    again = decode(found, None, None, None, str(tmp_path / "kept"))
    np.testing.assert_array_equal(again.inputs["images"][0], 255 - GREYS)


def test_a_damaged_image_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_share", lambda: 100)
    with pytest.raises(DataError, match=r"cut\.png"):
        decode(of_paths(damaged(tmp_path)[:1]), None, None, None, str(tmp_path / "kept"))
    assert list((tmp_path / "kept").iterdir()) == []
