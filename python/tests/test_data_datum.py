"""Which image files are whole."""

import cv2
import numpy as np
import pytest
from active_convolution.data import datum
from limits import at_once

IMAGE = cv2.resize(np.random.RandomState(0).randint(0, 256, (4, 4, 3), np.uint8), (32, 32))
JPEG = cv2.imencode(".jpg", IMAGE)[1].tobytes()


def filled(data, number):
    """``data``, a JPEG, with ``number`` bytes of 0xFF before each marker up to the first scan's."""
    result, place = data[:2], 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        result, place = result + b"\xff" * number + data[place:end], end
    return result + b"\xff" * number + data[place:]


@pytest.mark.parametrize("number", [1, 2, 100_000])
def test_fill_bytes_before_markers_do_not_matter(number):
    data = filled(JPEG, number)
    np.testing.assert_array_equal(
        datum.decode(data), cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    )


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("kept", [3, 4, 5, 30, 0.5, 0.99])
def test_a_part_is_no_image(number, kept):
    data = filled(JPEG, number)
    assert datum.decode(data[: kept if kept > 1 else int(kept * len(data))]) is None


def test_nothing_but_fill_bytes_is_no_image():
    with at_once():
        assert not datum.is_whole(b"\xff\xd8" + b"\xff" * 2**28)


def test_fill_bytes_do_not_make_a_thumbnails_end_the_images():
    segment = b"\xff\xff\xe1" + (len(JPEG) + 2).to_bytes(2, "big") + JPEG
    whole = JPEG[:2] + segment + JPEG[2:]
    assert datum.is_whole(whole) and not datum.is_whole(whole[:-2])
