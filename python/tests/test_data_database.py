"""The LMDBs: read back record by record, read by Caffe itself, the same for the same seed."""

import subprocess
import sys

import numpy as np
import pytest
from active_convolution.caffe import reading
from active_convolution.data import database
from data_samples import pixels, records

COUNT = 1203  # more than a transaction, and no multiple of one
LABELS = np.arange(COUNT)  # each image's own number, so that a record says which image it is


@pytest.fixture
def images():
    return np.random.RandomState(0).randn(COUNT, 3, 4, 5).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_every_image_comes_back_with_its_label(images, tmp_path, dtype):
    images = (images * 40).astype(dtype)
    database.write(tmp_path / "db", images, LABELS)
    written = records(tmp_path / "db")
    assert [key for key, _ in written] == [b"%08d" % index for index in range(COUNT)]
    assert sorted(datum.label for _, datum in written) == LABELS.tolist()
    for _, datum in written:
        np.testing.assert_array_equal(pixels(datum), images[datum.label])


def test_the_seed_alone_decides_the_order(images, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        database.write(tmp_path / name, images, LABELS, seed)
    sums = [database.checksum(tmp_path / name) for name in "abc"]
    assert sums[0] == sums[1] != sums[2]
    assert [datum.label for _, datum in records(tmp_path / "a")] != LABELS.tolist()


def test_one_changed_value_changes_the_checksum(images, tmp_path):
    database.write(tmp_path / "a", images, LABELS)
    images[600, 1, 2, 3] += 1e-6
    database.write(tmp_path / "b", images, LABELS)
    assert database.checksum(tmp_path / "a") != database.checksum(tmp_path / "b")


def test_caffe_reads_it(images, tmp_path):
    database.write(tmp_path / "db", images, LABELS)
    seen = []
    for tops in reading.batches(reading.layer(tmp_path / "db"), 500):
        seen += tops["label"].astype(int).tolist()
        np.testing.assert_array_equal(tops["data"], images[seen[-len(tops["label"]) :]])
    assert sorted(seen) == LABELS.tolist()


def test_the_map_grows_as_needed(images, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_FIRST_MAP", 2**16)
    database.write(tmp_path / "db", images, LABELS)
    assert len(records(tmp_path / "db")) == COUNT


def test_a_disk_that_takes_no_more_is_a_line(tmp_path):
    """A limit on the size of files stands in for the full disk: the same write fails."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18)); "
        "from active_convolution import cli; cli.main()"
    )
    arguments = ["data", "digits", "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 1 and "free some space" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: cannot write ")
    assert not any(tmp_path.iterdir())
