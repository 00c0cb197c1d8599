"""acu data places365, from a made tree of images: against Caffe's own convert_imageset."""

import subprocess

import cv2
import numpy as np
import pytest
from active_convolution.caffe import locate, reading
from active_convolution.data.manifest import read_manifest
from active_convolution.errors import UserError
from data_samples import acu_data, pixels, records
from test_data_images import exif

TRAIN, VAL = 40, 12  # images; each has a label of its own, which says which image a record is
ODD = {3: (200, 300), 4: (256, 300), 5: (97, 31)}  # images that are not 256x256: height, width
GREY, TURNED, TURNED_SQUARE, PNG = 6, 7, 8, 9


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The layout of Places365: data_256, val_256 and their lists (Path)."""
    folder = tmp_path_factory.mktemp("places")
    train = [f"{'abz'[label % 3]}/scene_{label % 7}/{label:08d}.jpg" for label in range(TRAIN)]
    val = [f"Places365_val_{label + 1:08d}.jpg" for label in range(VAL)]
    for part, names, slash in (("data", train, "/"), ("val", val, "")):
        for label, name in enumerate(names):
            _write_image(folder / f"{part}_256" / name, label)
        (folder / f"{part}.txt").write_text(
            "".join(f"{slash}{name} {label}\n" for label, name in enumerate(names))
        )
    return folder


def _write_image(path, label):
    random = np.random.RandomState(label)
    height, width = ODD.get(label, (200, 280) if label == TURNED else (256, 256))
    image = random.randint(0, 256, (9, 12, 3), np.uint8)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if label == GREY else image
    data = cv2.imencode(".png" if label == PNG else ".jpg", image)[1].tobytes()
    if label in (TURNED, TURNED_SQUARE):
        data = data[:2] + exif(orientation=6) + data[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make(tree, output, *options):
    train = "--source", tree / "data_256", "--list", tree / "data.txt"
    val = "--val-source", tree / "val_256", "--val-list", tree / "val.txt"
    acu_data("places365", *train, *val, "--output", output, *options)
    return output


@pytest.fixture(scope="module")
def encoded(tree, tmp_path_factory):
    return make(tree, tmp_path_factory.mktemp("data") / "encoded", "--jobs", 1)


@pytest.fixture(scope="module")
def raw(tree, tmp_path_factory):
    return make(tree, tmp_path_factory.mktemp("data") / "raw", "--encode", "raw", "--jobs", 3)


@pytest.fixture(scope="module")
def expected(tree, tmp_path_factory):
    """What convert_imageset makes of both lists: {split: (N, 3, 256, 256)}, by label."""
    tool = locate.BUILD / "out/tools/convert_imageset"
    result = {}
    for split, part in (("train", "data"), ("test", "val")):
        path = tmp_path_factory.mktemp("caffe") / "db"
        size = "--resize_width=256", "--resize_height=256"
        images = f"{tree / part}_256/", tree / f"{part}.txt"
        subprocess.run([tool, *size, *images, path], check=True, capture_output=True)
        result[split] = np.array([pixels(record) for _, record in records(path)])
    return result


def by_label(folder, split):
    found = [record for _, record in records(folder / f"{split}_lmdb")]
    return sorted(found, key=lambda record: record.label)


def test_raw_records_are_those_of_convert_imageset(raw, expected):
    for split, images in expected.items():
        written = by_label(raw, split)
        assert len(written) == len(images) and not any(record.encoded for record in written)
        for record, image in zip(written, images):
            np.testing.assert_array_equal(pixels(record), image)


def test_files_of_the_right_size_are_kept_as_they_are(tree, encoded):
    written = by_label(encoded, "train")
    names = [line.split()[0] for line in (tree / "data.txt").read_text().splitlines()]
    files = [(tree / f"data_256{name}").read_bytes() for name in names]
    kept = {label for label in range(TRAIN) if files[label] == written[label].data}
    assert {*range(TRAIN)} - kept == {*ODD, GREY, TURNED, TURNED_SQUARE}
    assert all(record.encoded and record.channels == 3 for record in written)


@pytest.mark.parametrize("split", ["train", "test"])
def test_caffe_reads_both_forms(raw, encoded, expected, split):
    """And they are the same images but for those that became JPEG once more."""
    for folder, close in ((raw, 0), (encoded, 12)):
        part = getattr(read_manifest(folder), split)
        for tops in reading.batches(reading.layer(part.path), 50):
            wanted = expected[split][tops["label"].astype(int)]
            assert np.abs(tops["data"] - wanted).mean(axis=(1, 2, 3)).max() <= close


def test_what_the_manifest_says(encoded):
    manifest = read_manifest(encoded)
    assert (manifest.dataset, manifest.classes) == ("places365", TRAIN)
    assert manifest.test.images_per_class == [1] * VAL + [0] * (TRAIN - VAL)
    assert manifest.preprocessing.resize == "stretch" and not manifest.preprocessing.smooth


def test_another_folder_is_said_before_the_work(tree, tmp_path):
    with pytest.raises(UserError, match="lacks 40 of the 40 images in .*data.txt"):
        acu_data(
            *("places365", "--source", tree / "val_256", "--list", tree / "data.txt"),
            *("--val-source", tree / "val_256", "--val-list", tree / "val.txt"),
            *("--output", tmp_path / "out"),
        )
    assert not any(tmp_path.iterdir())
