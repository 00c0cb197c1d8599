"""Arrays in .npz files: written whole or not at all, and read from what anybody may have made, only what is declared, and no
more memory than that takes."""

import io
import lzma
import math
import tokenize
import zipfile
import zlib
from typing import NamedTuple, Optional

import numpy as np

from .errors import UserError
from .files import DAMAGE, open_regular, whole_file

MOST = 2**30  # bytes of one array: those of CIFAR's 50,000 images are 2^27
_HEADER = 2**16  # bytes
# What zipfile and NumPy raise for damage beside what all readers do: tokenize where a header is no Python, MemoryError where
# it asks for the impossible.
_DAMAGE = (
    *DAMAGE,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    SyntaxError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    RecursionError,
    RuntimeError,
)


class Array(NamedTuple):
    """What an array may be: ``kinds`` are letters of NumPy's dtype.kind ("f", "iu") or one type ("u1"), ``shape`` has None
    for an axis of any length (None as a whole: any shape); ``finite``: no NaN and no infinity."""

    kinds: str
    shape: Optional[tuple] = None
    finite: bool = True

    def fits(self, dtype, shape):
        kind = (
            np.dtype(self.kinds) == dtype if self.kinds[1:].isdigit() else dtype.kind in self.kinds
        )
        return kind and (
            self.shape is None
            or len(shape) == len(self.shape)
            and all(length in (None, there) for length, there in zip(self.shape, shape))
        )

    def __str__(self):
        shape = (
            "any shape"
            if self.shape is None
            else f"shape ({', '.join('N' if n is None else str(n) for n in self.shape)})"
        )
        names = {
            "f": "floating numbers",
            "i": "whole numbers",
            "u": "whole numbers",
            "u1": "uint8 numbers",
            "U": "text",
        }
        return f"{names.get(self.kinds) or names[self.kinds[0]]} of {shape}"


def write_npz(path, /, **arrays):
    """Writes the file ``path``, whole or not at all. Raises UserError where that fails."""
    packed = (
        io.BytesIO()
    )  # a full disk should stop a plain write: zipfile, stopped, prints more than the error
    np.savez(packed, **arrays)
    with whole_file(path, "wb") as file:
        file.write(packed.getbuffer())


def read_npz(path, declared, remedy):
    """{name: array} of the file ``path`` for the names in ``declared``, {name: Array}; others in the file are left alone.

    Headers are read before any content, and none may ask for more than MOST bytes. Raises UserError, which ends with
    ``remedy``, where the file cannot be read, is damaged, lacks an array or holds another kind of it.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return {
                name: _read(archive, name, array, f"{path}: {name}", remedy)
                for name, array in declared.items()
            }
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except _DAMAGE as error:
        names = ", ".join(declared)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} is damaged or lacks one of the arrays {names} ({reason}): {remedy}"
        ) from error


def _read(archive, name, array, called, remedy):
    with archive.open(f"{name}.npy") as member:
        start = member.read(_HEADER)
        header = io.BytesIO(start)
        version = np.lib.format.read_magic(header)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = reader(header)
        if not array.fits(dtype, shape):
            raise UserError(f"{called} is {dtype} {shape}, and should be {array}: {remedy}")
        size = math.prod(shape) * dtype.itemsize
        if size > MOST:
            raise UserError(
                f"{called} asks for {size / 2**30:,.1f} GiB, more than is sensible: {remedy}"
            )
        values = np.empty(math.prod(shape), dtype)
        content = memoryview(values.view(np.uint8))
        begun = start[header.tell() :][:size]
        place = len(begun)
        content[:place] = begun
        while place < size:
            read = member.readinto(content[place:])
            if not read:
                raise EOFError(f"{name} is cut off")
            place += read
        member.read(1)  # the end, where the checksum is compared
    if array.finite and dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"{called} holds numbers that are none, or infinite: {remedy}")
    return values.reshape(shape, order="F" if fortran else "C")
