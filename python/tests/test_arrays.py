"""Arrays in .npz files that ask for more memory than they should."""

import zipfile

import numpy as np
import pytest
from limits import limited

_READ = """
import sys
from active_convolution.arrays import Array, read_npz
from active_convolution.errors import UserError
try:
    print(len(read_npz(sys.argv[1], {"a": Array("f", (None,))}, "remove it")["a"]))
except UserError as error:
    print(error)
"""


def bomb(path, values, header=None):
    """``values`` float64 zeros under the name a, packed; ``header`` says how many there are, if not so many."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("a.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f8", "fortran_order": False, "shape": (header or values,)}
            )
            for _ in range(values // 2**20):
                member.write(bytes(2**23))


@pytest.mark.slow
@pytest.mark.parametrize(
    "values, header, said",
    [
        (2**28, None, "a asks for 2.0 GiB, more than is sensible: remove it"),
        (2**20, 2**30 + 2**27, "a asks for 9.0 GiB, more than is sensible: remove it"),
        (2**20, 2**62, "a asks for 34,359,738,368.0 GiB, more than is sensible: remove it"),
        (2**28, 3, "3"),  # what follows the array is left alone
        (2**20, 2**21, "is damaged or lacks one of the arrays a (a is cut off): remove it"),
    ],
)
def test_memory_is_that_of_what_is_sensible(tmp_path, values, header, said):
    bomb(tmp_path / "a.npz", values, header)
    assert limited(_READ, tmp_path / "a.npz").endswith(said)
