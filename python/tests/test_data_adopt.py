"""acu data adopt: databases that Caffe's own tools make, read whole by Caffe, and described."""

import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from active_convolution.caffe import locate, reading
from active_convolution.data import adopt as adopting
from active_convolution.data.adopt import adopt
from active_convolution.data.manifest import read_manifest
from active_convolution.errors import BadValue, UserError
from data_samples import acu_data, picture

pytestmark = pytest.mark.slow

SHAPE, CLASSES = [3, 12, 16], 4
COUNTS = {"train": 24, "val": 9}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with images, the lists train.txt and val.txt, and what convert_imageset makes of
    them in every form."""
    folder = tmp_path_factory.mktemp("made")
    tool = locate.BUILD / "out/tools/convert_imageset"
    for part, count in COUNTS.items():
        lines = []
        for number in range(count):
            name = f"{part}_{number}.png"
            cv2.imwrite(str(folder / name), picture(number + 100 * (part == "val")))
            lines.append(f"{name} {number % CLASSES}\n")
        (folder / f"{part}.txt").write_text("".join(lines))
        for kind, *options in (
            ("lmdb",),
            ("encoded", "--encoded", "--encode_type=png"),
            ("leveldb", "--backend=leveldb"),
        ):
            command = [
                tool,
                *options,
                f"{folder}/",
                folder / f"{part}.txt",
                folder / f"{part}_{kind}",
            ]
            subprocess.run(command, check=True, capture_output=True)
    return folder


def images(part):
    numbers = np.arange(COUNTS[part]) + 100 * (part == "val")
    return np.array([picture(number).transpose(2, 0, 1) for number in numbers])


def alone(made, kind, folder):
    """``folder`` with the sources of one kind."""
    folder.mkdir()
    for path in made.glob("*.png") if kind == "images" else ():
        shutil.copy(path, folder)
    for part, count in COUNTS.items():
        if kind == "hdf5":
            with pytest.importorskip("h5py").File(folder / f"{part}.h5", "w") as file:
                file["data"] = images(part).astype(np.float32)
                file["label"] = np.arange(count, dtype=np.float32) % CLASSES
        elif kind == "images":
            shutil.copy(made / f"{part}.txt", folder)
        else:
            shutil.copytree(made / f"{part}_{kind}", folder / f"{part}_{kind}")
    return folder


BACKENDS = {
    "lmdb": "LMDB",
    "encoded": "LMDB",
    "leveldb": "LEVELDB",
    "hdf5": "HDF5",
    "images": "IMAGES",
}


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_convert_imageset_makes(made, tmp_path, kind, capsys):
    folder = alone(made, kind, tmp_path / "mine")
    before = {path: path.read_bytes() for path in folder.rglob("data.mdb")}
    acu_data("adopt", folder)
    assert "adopt: 24 training and 9 test images" in capsys.readouterr().out
    manifest = read_manifest(folder)
    assert manifest.adopted and manifest.classes == CLASSES and manifest.label_names is None
    for part, name in ((manifest.train, "train"), (manifest.test, "val")):
        assert (part.images, part.shape, part.backend) == (COUNTS[name], SHAPE, BACKENDS[kind])
        assert part.images_per_class == np.bincount(np.arange(COUNTS[name]) % CLASSES).tolist()
        layer = reading.layer(part.path, part.backend, **part.image_data)
        tops = next(reading.batches(layer, part.images))
        np.testing.assert_array_equal(tops["data"], images(name))
        assert tops["label"].ravel().tolist() == [n % CLASSES for n in range(COUNTS[name])]
    assert manifest.channel_order == (None if kind == "hdf5" else "BGR")
    assert manifest.value_range == (None if kind == "hdf5" else [0, 255])
    assert {path: path.read_bytes() for path in folder.rglob("data.mdb")} == before
    adopt(folder)  # once more: it is ours to replace


def test_lists_of_images_that_caffe_resizes(made, tmp_path):
    folder = alone(made, "images", tmp_path / "mine")
    assert adopt(folder, size=(8, 6)).test.shape == [3, 6, 8]
    assert read_manifest(folder).test.image_data == {
        "root_folder": f"{folder}/",
        "new_width": 8,
        "new_height": 6,
    }


def test_names_and_places_of_ones_own(made, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copytree(made / "train_lmdb", folder / "a")
    (tmp_path / "names").write_text("\n".join(["one", "two", "three", "four", "five"]))
    options = dict(source=folder / "a", output=tmp_path / "out", label_names=tmp_path / "names")
    manifest = adopt(folder, **options)
    assert manifest.classes == 5 and manifest.test is None
    found = read_manifest(tmp_path / "out", ["train"])
    assert found.train.path == str(folder / "a") and found.label_names[4] == "five"
    assert found.train.images_per_class == [6, 6, 6, 6, 0]
    with pytest.raises(UserError, match="has no test images"):
        read_manifest(tmp_path / "out")
    (tmp_path / "names").write_text("one\ntwo")
    with pytest.raises(UserError, match="there are 4 classes: name them all"):
        adopt(folder, **options)


def test_what_cannot_be_told_is_refused(made, tmp_path, digits_data):
    with pytest.raises(UserError, match="is not a folder of databases"):
        adopt(made / "train_lmdb")
    with pytest.raises(UserError, match="holds train.txt and train_encoded: name one"):
        adopt(made)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds none: give an LMDB"):
        adopt(tmp_path / "empty")
    with pytest.raises(UserError, match="names.png is not one of Caffe's databases"):
        adopt(tmp_path, source=tmp_path / "names.png")
    with pytest.raises(BadValue, match="--size is for lists of images"):
        adopt(made, source=made / "train_lmdb", size=(8, 8), output=tmp_path)
    with pytest.raises(UserError, match="is a data set already"):
        adopt(digits_data)


def acu(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "active_convolution", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_16_bits(shared_cases, tmp_path):
    shutil.copy(shared_cases / "38-16-bit/make.py", tmp_path)
    python = os.pathsep.join([str(locate.BUILD / "fork/python"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": python}
    subprocess.run([sys.executable, "make.py"], cwd=tmp_path, env=environment, check=True)
    done = acu(tmp_path, "data", "adopt", ".")
    assert done.returncode == 1 and not (tmp_path / "manifest.json").exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.search("train_lmdb.*8 bits", line), line


def test_labels_that_are_none(made, tmp_path):
    folder = alone(made, "hdf5", tmp_path / "mine")
    with pytest.importorskip("h5py").File(folder / "train.h5", "a") as file:
        file["label"][3] = -1
    with pytest.raises(UserError, match="an integer from 0 on"):
        adopt(folder)


@pytest.mark.parametrize(
    "kind, file", [("lmdb", "data.mdb"), ("leveldb", "MANIFEST-*"), ("hdf5", "*.h5")]
)
def test_a_damaged_database_is_a_line(made, tmp_path, kind, file):
    folder = alone(made, kind, tmp_path / "mine")
    for path in folder.rglob(file):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = acu(folder, "data", "adopt", folder)
    assert done.returncode == 1 and not (folder / "manifest.json").exists()
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_hdf5_is_listed_where_the_manifest_lies(made, tmp_path):
    folder = alone(made, "hdf5", tmp_path / "mine")
    adopt(folder, output=tmp_path / "out")
    listed = tmp_path / "out" / adopting._LISTED.format("train")
    assert listed.read_text() == f"{folder / 'train.h5'}\n"
