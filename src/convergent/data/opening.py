"""Files opened as pictures of 8 bits, whatever they hold: each way in which that can fail ends in one exception."""

import os
import stat
import struct
import warnings
from collections.abc import Sequence
from io import BufferedReader
from typing import Any

import numpy as np
from PIL import Image

# What libraries raise for a picture that they cannot read; PIL alone raises most of these.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000")  # of PIL's others some start programs
_SIXTEEN_BITS = (0, 65_535)


def regular(path: str | os.PathLike[str]) -> BufferedReader:
    """A regular file opened for reading: a named pipe would wait for its writer, a device has no end.

    Raises:
        OSError: if it is none, or cannot be opened.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError("it is no regular file")
    return os.fdopen(file, "rb")


def opened(path: str) -> Image.Image:
    """The picture of a file, whatever its name: grey or RGB in 8 bits, or grey values of more bits.

    Raises:
        OSError: if there is no picture in it, or PIL takes it for one that is made to fill the memory.
    """
    with regular(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # broken EXIF blocks: nothing in them is needed
        try:
            with Image.open(file, formats=_FORMATS) as picture:
                picture.load()
                deep = picture.mode.startswith("I") or picture.mode in ("L", "F", "RGB")
                return picture if deep else picture.convert("RGB")
        except Exception as error:  # decoders have many for a file that is broken
            raise OSError(first_line(error)) from None


def eight_bits(picture: Any, value_range: Sequence[float] | None = None) -> Any:
    """A picture whose grey values have 8 bits; what is no picture of PIL's, or has them already, comes back as it is.

    Values of 16 bits are scaled from 0..65535, others only where their range (black, white) is given: PIL itself clips all.

    Raises:
        ValueError: if a picture of 32 bits or of floats comes without a range, or has values that are not finite.
    """
    mode = picture.mode if isinstance(picture, Image.Image) else ""
    if not mode.startswith("I") and mode != "F":
        return picture
    sixteen = mode.startswith("I;16") or picture.format in ("PNG", "PPM")  # these two know no more bits
    if value_range is None and not sixteen:
        kind = "floats" if mode == "F" else "integers of 32 bits"
        raise ValueError(f"its pixels are {kind}: say with data.value_range=[0,4095] which are black and white")
    low, high = value_range or _SIXTEEN_BITS
    x_hw = np.asarray(picture).astype(np.float64)
    if not np.isfinite(x_hw).all():
        raise ValueError("it has pixels that are not finite")
    return Image.fromarray(np.rint((x_hw - low) / (high - low) * 255).clip(0, 255).astype(np.uint8))


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    lines = str(error).strip().splitlines()
    return shown(lines[0]) if lines else type(error).__name__


def shown(name: object) -> str:
    r"""A name that can be printed on one line: bytes that are no UTF-8, and line breaks, are written with a backslash.

    >>> shown("a\nb.png")
    'a\\nb.png'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(name))
