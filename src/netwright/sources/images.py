"""From image files to one array: every kind of image becomes the same tensor in training and prediction.

The first frame, turned as its EXIF data say, transparent places white, colour as grey or RGB, stretched to one size
(bilinear with antialiasing), by Pillow, in threads. Floor 2.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netwright.errors import DataError, NetwrightError, SafetyError, first_line
from netwright.files import digest_bytes
from netwright.numerals import counted
from netwright.sources import cache
from netwright.sources.arrays import Array, Arrays
from netwright.sources.image_files import ENDINGS, FORMATS, ImageFiles
from netwright.sources.packing import printable
from netwright.sources.pictures import DEEP, image_numbers
from netwright.sources.places import Place

if TYPE_CHECKING:
    pass

Rows = npt.NDArray[np.int64]
KEPT_SIDE = 256  # images of one size up to this keep it
LONGEST_SIDE = 128  # of all others, unless a size is set
MOST_BAD = 0.01  # share of damaged images that may be left out
MOST_THREADS = 8
BLOCK = 64  # files that a thread reads at a time
GREY = ("1", "L", "LA")
WORDS = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "PA": "palette with alpha",
    "RGB": "colour",
    "RGBA": "colour with alpha",
    DEEP: "grey of 16 bits",
}


@dataclass(frozen=True)
class Header:
    """What the head of an image file says: Pillow's mode, height and width as they are seen, frames, bits lost."""

    mode: str
    size: tuple[int, int]
    animated: bool = False
    cut: bool = False


@dataclass(frozen=True)
class _Damage:
    """Why an image cannot be read."""

    reason: str


@dataclass(frozen=True)
class ImageForm:
    """What all images become: ``mode`` grey, rgb or grey16, ``size`` (height, width) in pixels."""

    mode: str
    size: tuple[int, int]

    @property
    def layout(self) -> str:
        """What the axes mean."""
        return "NHWC" if self.mode == "rgb" else "NHW"

    @property
    def dtype(self) -> str:
        """uint8, or float32 from 0 to 255 for grey16."""
        return "float32" if self.mode == "grey16" else "uint8"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return (*self.size, 3) if self.mode == "rgb" else self.size


def form_of(headers: Sequence[Header], mode: str | None, size: Sequence[int] | None) -> tuple[ImageForm, list[str]]:
    """Decide what all images become from the heads of the train images.

    Args:
        headers: Of the train images.
        mode: What the user wrote, or None.
        size: Height and width that the user wrote, or None.

    Returns:
        The form, and a remark where images of different sizes are stretched.
    """
    modes = {header.mode for header in headers}
    if mode is None:
        mode = "rgb" if modes - {*GREY, DEEP} else "grey16" if DEEP in modes else "grey"
    if size is not None:
        return ImageForm(mode, (size[0], size[1])), []
    sizes = np.asarray([header.size for header in headers])
    middle = np.median(sizes, axis=0)
    small, large = (f"{side[0]} x {side[1]}" for side in (sizes.min(axis=0).tolist(), sizes.max(axis=0).tolist()))
    if small == large and middle.max() <= KEPT_SIDE:
        return ImageForm(mode, (int(middle[0]), int(middle[1]))), []
    middle = middle * min(1.0, LONGEST_SIDE / middle.max())
    height, width = (max(1, round(float(side))) for side in middle)
    note = (
        f"images of {small if small == large else f'{small} to {large}'} pixels (height x width) are stretched to {height} x "
        f"{width}, the median of the train images with at most {LONGEST_SIDE} on the longer side; data.image_size sets another"
    )
    return ImageForm(mode, (height, width)), [note]


def decode(
    images: ImageFiles, train: Rows | None, mode: str | None, size: Sequence[int] | None, folder: str | None
) -> Arrays:
    """Read all images into one array.

    Args:
        images: The files.
        train: The rows that decide what is not set, int64; None for all.
        mode: ``grey``, ``rgb`` or ``grey16``, or None.
        size: Height and width, or None.
        folder: Of the cache, where the array is larger than a quarter of the free memory.

    Returns:
        ``images`` as uint8 (float32 for grey16) ``(rows, height, width)`` or ``(rows, height, width, 3)``, with remarks.

    Raises:
        DataError: A damaged file; all are counted and the first is named. Or Pillow is not installed.
        SafetyError: An image of too many pixels.
    """
    headers, bad = scan(images.files)
    if bad:
        refuse(images, scan(images.files, whole=True)[1])
    deciding = headers if train is None or not len(train) else [headers[row] for row in train]
    form, stretched = form_of(deciding, mode, size)

    def fill(values: Array) -> None:
        def put(row: int) -> None:
            values[row] = read_image(images.files[row], form)

        refuse(images, _each(put, images.files)[1])

    def key() -> str:
        import PIL

        return digest_bytes(images.digest().encode(), repr(form).encode(), PIL.__version__.encode())

    values, kept = cache.filled((images.rows, *form.shape), form.dtype, fill, key, folder)
    target = images.about.target if isinstance(images.about, Arrays) else None
    kinds = [] if train is None else [_kinds(headers, form)]
    notes = (*images.notes, *kinds, *stretched, *_loss_notes(headers, form, size is not None), *kept)
    return Arrays({"images": values}, target, images.origins, form.layout, notes=notes)


def _kinds(headers: Sequence[Header], form: ImageForm) -> str:
    """Return which kinds of images were found and what they become, in words."""
    counts = Counter(WORDS.get(header.mode, header.mode) for header in headers)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return f"images: {kinds}; read as {form.mode}, {form.size[0]} x {form.size[1]} pixels (height x width)"


def _loss_notes(headers: Sequence[Header], form: ImageForm, sized: bool) -> list[str]:
    """Tell what images lose when they are read."""
    found = {
        f"of another size are stretched to {form.size[0]} x {form.size[1]}": sum(
            sized and header.size != form.size for header in headers
        ),
        "of 16 bits are rounded to 8": sum(
            header.cut or (header.mode == DEEP and form.mode != "grey16") for header in headers
        ),
        "of colour are read as grey": sum(form.mode != "rgb" and header.mode not in (*GREY, DEEP) for header in headers),
        "have several frames, of which the first is read": sum(header.animated for header in headers),
    }
    return [f"{count} of {len(headers)} images {what}" for what, count in found.items() if count]


def leave_out_bad(images: ImageFiles) -> ImageFiles:
    """Return the images without the damaged ones; each is read whole to know.

    Raises:
        DataError: More than 1 % are damaged.
    """
    bad = scan(images.files, whole=True)[1]
    if len(bad) > MOST_BAD * images.rows:
        refuse(images, bad, f"more than {MOST_BAD:.0%}, which data.bad_images leaves out at most; mend or remove them")
    if not bad:
        return images
    first, reason = next(iter(bad.items()))
    kept = images.without(list(bad))
    note = f"{len(bad)} of {counted(images.rows, 'image')} damaged and left out, the first {images.files[first]} ({reason})"
    return ImageFiles(kept.files, kept.origins, kept.about, (*kept.notes, note))


def refuse(images: ImageFiles, bad: dict[int, str], advice: str | None = None) -> None:
    """Raise a `DataError` that names the first damaged image and counts all."""
    if not bad:
        return
    first = min(bad)
    others = f"; {len(bad)} of {images.rows} images are damaged" if len(bad) > 1 else ""
    advice = advice or 'mend or remove it, or set data.bad_images = "skip"'
    raise DataError(f"{images.files[first]}: {bad[first]}{others}; expected {FORMATS}; {advice}")


def scan(files: Sequence[Place], whole: bool = False) -> tuple[list[Header], dict[int, str]]:
    """Read the heads of image files.

    Args:
        files: The files.
        whole: Whether to decode each as well.

    Returns:
        One head per file that can be read, and why the others cannot, by row.

    Raises:
        SafetyError: An image of too many pixels.
    """

    def head(row: int) -> Header:
        with _opened(files[row]) as picture:
            late = picture.format == "PNG" and not {"exif", "Raw profile type exif"} & set(picture.info)
            turned = not late and picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # a late one would be read whole
            if picture.mode in ("I", "F"):
                raise ValueError("32 bits per pixel without a known scale; convert it to 8 or 16 bits")
            depth = "" if picture.mode.startswith(DEEP) else str([tile[3] for tile in getattr(picture, "tile", ())])
            mode = DEEP if picture.mode.startswith(DEEP) else picture.mode
            size = picture.size if turned else (picture.height, picture.width)
            found = Header(mode, size, bool(getattr(picture, "is_animated", False)), ";16" in depth)
            if whole:
                picture.load()
            return found

    return _each(head, files)


def read_image(place: Place, form: ImageForm) -> Array:
    """Return one image in the form of all; see `netwright.sources.pictures.image_numbers`."""
    with _opened(place) as opened:
        return image_numbers(opened, form.mode, form.size)


@contextmanager
def _opened(place: Place) -> Iterator[Any]:
    """Open an image and read its head.

    Raises:
        ValueError: Its content is of another format than its ending says.
    """
    from PIL import Image

    expected = ENDINGS.get(place.suffix)
    stream = place.open() if place.local is not None else io.BytesIO(place.read_bytes())
    with stream:
        if not stream.read(1):
            raise ValueError("0 bytes")
        stream.seek(0)
        with Image.open(stream, formats=sorted(set(ENDINGS.values()))) as picture:
            found = "JPEG" if picture.format == "MPO" else picture.format
            if found != expected:
                raise ValueError(f"its content is {found}, its ending {place.suffix!r}")
            yield picture


def _each(work: Callable[[int], Any], files: Sequence[Place]) -> tuple[list[Any], dict[int, str]]:
    """Call a function with the number of each file in threads; return what it gave, and by number why it failed.

    Raises:
        SafetyError: An image of too many pixels.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError("images: Pillow is missing; expected the extra images; pip install 'netwright[images]'") from None
    Image.init()

    def guarded(row: int) -> Any:
        try:
            return work(row)
        except (MemoryError, NetwrightError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            pixels = re.search(r"\d+ pixels", str(error))
            raise SafetyError(
                f"{files[row]}: {pixels[0] if pixels else 'too many pixels'} came; expected at most {Image.MAX_IMAGE_PIXELS}; "
                "make it smaller or remove it"
            ) from None
        except UnidentifiedImageError:
            return _Damage("no image that can be read")
        except Exception as error:  # Pillow's readers raise errors of every kind on damaged files
            return _Damage(printable(first_line(error)))

    def block(start: int) -> list[Any]:
        return [guarded(row) for row in range(start, min(start + BLOCK, len(files)))]

    quiet = any(ENDINGS.get(file.suffix) == "TIFF" for file in files)
    with (
        warnings.catch_warnings(),
        _libtiff_silent(quiet),
        ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool,
    ):
        warnings.simplefilter("ignore")  # of odd but readable files
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        found = [result for part in pool.map(block, range(0, len(files), BLOCK)) for result in part]
    damaged = {row: result.reason for row, result in enumerate(found) if isinstance(result, _Damage)}
    return [result for result in found if not isinstance(result, _Damage)], damaged


@contextmanager
def _libtiff_silent(wanted: bool) -> Iterator[None]:
    """Drop what the C library of TIFF files prints to the error stream on its own; its errors come back as exceptions."""
    if not wanted:
        yield
        return
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
