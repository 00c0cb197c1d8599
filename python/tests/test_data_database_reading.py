"""Records come back as they were written, and damage has a name."""

import os

import cv2
import lmdb
import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.data import backends, database
from active_convolution.data.database import batches
from active_convolution.errors import UserError

SHAPE, COUNT = (3, 4, 5), 10


@pytest.fixture
def written(tmp_path):
    draw = np.random.default_rng(1)
    database.write(
        tmp_path / "lmdb", draw.integers(0, 256, (COUNT, *SHAPE), np.uint8), np.arange(COUNT)
    )
    return tmp_path / "lmdb"


def read(path, shape=SHAPE, count=COUNT, size=4):
    """All batches: their lengths, images and labels."""
    parts = [(images.copy(), labels) for images, labels in batches(path, shape, count, size)]
    images, labels = zip(*parts)
    return [len(part) for part in labels], np.concatenate(images), np.concatenate(labels)


def test_a_folder_whose_name_is_no_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"data\xff")
    database.write(path, np.zeros((COUNT, *SHAPE), np.uint8), np.arange(COUNT))
    assert sorted(read(path)[2]) == list(range(COUNT))
    assert backends.inspected(backends.Database(str(path))).sha256 == database.checksum(path)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("size, lengths", [(4, [4, 4, 2]), (5, [5, 5]), (100, [10])])
def test_batches_are_what_was_written(tmp_path, kind, size, lengths):
    images = np.random.default_rng(2).integers(0, 256, (COUNT, *SHAPE)).astype(kind)
    labels = np.arange(COUNT) * 30
    database.write(tmp_path / "lmdb", images, labels, seed=6)
    found = read(tmp_path / "lmdb", size=size)
    order = np.random.RandomState(6).permutation(COUNT)  # the writer's
    assert found[0] == lengths and found[1].dtype == np.float32
    np.testing.assert_array_equal(found[1], images[order])
    np.testing.assert_array_equal(found[2], labels[order])


def put(path, value):
    with lmdb.open(str(path)) as store, store.begin(write=True) as transaction:
        transaction.put(b"00000005", value)


def datum(height=4, **fields):
    return (
        locate.caffe_pb2().Datum(channels=3, height=height, width=5, **fields).SerializeToString()
    )


def png(image):
    """The bytes of a PNG file with ``image`` (C, H, W) uint8, BGR."""
    return cv2.imencode(".png", image.transpose(1, 2, 0))[1].tobytes()


def test_an_encoded_image_is_decoded(written):
    image = np.random.default_rng(3).integers(0, 256, SHAPE, np.uint8)
    put(written, datum(data=png(image), encoded=True))
    np.testing.assert_array_equal(read(written)[1][5], image)


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda: b"\xff\xff\xff", "is damaged: make the data set anew"),
        (lambda: datum(data=b"\xff\xd8", encoded=True), "is damaged"),
        (lambda: datum(data=png(np.zeros(SHAPE, np.uint8))[:-20], encoded=True), "is damaged"),
        (
            lambda: datum(data=png(np.zeros((3, 5, 4), np.uint8)), encoded=True),
            "is 3×5×4, and the manifest says 3×4×5",
        ),
        (lambda: datum(data=bytes(75), height=5), "is 3×5×5, and the manifest says 3×4×5"),
        (lambda: datum(data=bytes(59)), "is damaged"),
        (lambda: datum(float_data=[1.0] * 61), "is damaged"),
        (lambda: datum(), "is damaged"),
    ],
)
def test_a_record_that_cannot_be_read(written, value, message):
    put(written, value())
    with pytest.raises(UserError, match=f"record 00000005 of .*/lmdb {message}"):
        read(written)


def test_records_of_another_shape(written):
    with pytest.raises(
        UserError, match="record 00000000 of .*/lmdb is 3×4×5, and the manifest says 3×5×4"
    ):
        read(written, shape=(3, 5, 4))


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_another_number_of_records(written, count):
    with pytest.raises(
        UserError,
        match=f"lmdb holds 10 images, and its manifest says {count}: make the data set anew",
    ):
        read(written, count=count)


@pytest.mark.parametrize("count", [1, COUNT - 1, COUNT + 1])
def test_another_number_of_images_of_a_list(tmp_path, count):
    """What the errors of an evaluation would be divided by."""
    for number in range(COUNT):
        (tmp_path / f"{number}.png").write_bytes(png(np.zeros(SHAPE, np.uint8)))
    (tmp_path / "list.txt").write_text("".join(f"{number}.png 0\n" for number in range(COUNT)))
    part = {
        "path": str(tmp_path / "list.txt"),
        "backend": "IMAGES",
        "root_folder": f"{tmp_path}/",
        "shape": SHAPE,
    }
    assert sum(len(labels) for _, labels in backends.batches({**part, "images": COUNT}, 4)) == COUNT
    with pytest.raises(
        UserError,
        match=f"list.txt holds 10 images, and its manifest says {count}: adopt the databases again",
    ):
        list(backends.batches({**part, "images": count}, 4))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "data.mdb").unlink(),
        lambda path: (path / "data.mdb").write_bytes(bytes((path / "data.mdb").stat().st_size)),
    ],
)
def test_a_database_that_is_none(written, spoil):
    spoil(written)
    with pytest.raises(UserError, match=r"cannot read .*/lmdb \(.*\): make the data set anew"):
        read(written)
