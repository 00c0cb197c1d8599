"""The LMDBs: read back record by record, read by Caffe itself, and never left half-written."""

import subprocess
import sys

import lmdb
import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.data import database
from active_convolution.errors import UserError

COUNT = 1203  # more than two transactions, and no multiple of one


@pytest.fixture
def images():
    return np.random.RandomState(0).randn(COUNT, 3, 4, 5).astype(np.float32)


LABELS = np.arange(COUNT)  # each image's own number, so that a record says which image it is


def records(path):
    with (
        lmdb.open(str(path), readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        return [
            (key, locate.caffe_pb2().Datum.FromString(value)) for key, value in transaction.cursor()
        ]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_every_image_comes_back_with_its_label(images, tmp_path, dtype):
    images = (images * 40).astype(dtype)
    database.write(tmp_path / "db", images, LABELS)
    written = records(tmp_path / "db")
    assert [key for key, _ in written] == [b"%08d" % index for index in range(COUNT)]
    assert sorted(datum.label for _, datum in written) == LABELS.tolist()
    for _, datum in written:
        values = datum.float_data if dtype == np.float32 else np.frombuffer(datum.data, np.uint8)
        assert (datum.channels, datum.height, datum.width) == (3, 4, 5)
        np.testing.assert_array_equal(np.array(values, dtype).reshape(3, 4, 5), images[datum.label])


def test_the_seed_alone_decides_the_order(images, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        database.write(tmp_path / name, images, LABELS, seed)
    sums = [database.checksum(tmp_path / name) for name in "abc"]
    assert sums[0] == sums[1] != sums[2]
    order = [datum.label for _, datum in records(tmp_path / "a")]
    assert order != LABELS.tolist()


def test_one_changed_value_changes_the_checksum(images, tmp_path):
    database.write(tmp_path / "a", images, LABELS)
    images[600, 1, 2, 3] += 1e-6
    database.write(tmp_path / "b", images, LABELS)
    assert database.checksum(tmp_path / "a") != database.checksum(tmp_path / "b")


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 10, 10), (3, 16, 16), (3, 17, 16), (3, 40, 40)])
def test_space_needed_is_an_upper_bound(tmp_path, shape):
    database.write(tmp_path / "db", np.zeros((700, *shape), np.float32), np.full(700, 99))
    assert (tmp_path / "db" / "data.mdb").stat().st_size <= database.space_needed(700, shape)


def test_caffe_reads_it(images, tmp_path):
    """Caffe's own Data layer, cropping in the middle as it does in the test phase."""
    caffe = locate.caffe()
    database.write(tmp_path / "db", images, LABELS)
    net_file = tmp_path / "net.prototxt"
    net_file.write_text(f'''
        layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ crop_size: 2 }}
                 data_param {{ source: "{tmp_path / "db"}" backend: LMDB batch_size: 100 }} }}''')
    net = caffe.Net(str(net_file), caffe.TEST)
    for _ in range(2):
        blobs = net.forward()
        labels = blobs["label"].astype(int)
        assert len(set(labels)) == 100
        np.testing.assert_array_equal(blobs["data"], images[labels, :, 1:3, 1:3])


def test_other_types_are_refused(images, tmp_path):
    with pytest.raises(TypeError, match="not float64"):
        database.write(tmp_path / "db", images.astype(np.float64), LABELS)
    assert not any(tmp_path.iterdir())


def test_existing_folder_is_left_alone(images, tmp_path):
    (tmp_path / "db").mkdir()
    with pytest.raises(UserError, match="exists already"):
        database.write(tmp_path / "db", images, LABELS)
    assert not any((tmp_path / "db").iterdir())


def test_full_map_is_a_clear_error(images, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "space_needed", lambda *_: 2**17)
    with pytest.raises(UserError, match="cannot write db .*MAP_FULL.*free some space"):
        database.write(tmp_path / "db", images, LABELS)
    assert not any(tmp_path.iterdir())


def test_disk_that_takes_no_more_is_a_clear_error(root, tmp_path):
    """A limit on the size of files stands in for the full disk: the same write fails."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(root / "python")!r})
import numpy as np
from active_convolution.data import database
from active_convolution.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (2 ** 18, 2 ** 18))
try:
    database.write({str(tmp_path / "db")!r}, np.zeros(({COUNT}, 3, 16, 16), np.float32), np.zeros({COUNT}))
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "cannot write db" in result.stdout and "free some space" in result.stdout, result.stderr
    assert not any(tmp_path.iterdir())


def test_interrupt_leaves_nothing(images, tmp_path, monkeypatch):
    written = []

    def interrupted(image, label, datum=database._datum):
        written.append(label)
        if len(written) == COUNT // 2:
            raise KeyboardInterrupt
        return datum(image, label)

    monkeypatch.setattr(database, "_datum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        database.write(tmp_path / "db", images, LABELS)
    assert not any(tmp_path.iterdir())
