"""Caffe as the reader: images and labels of its four kinds of data layer, as training sees them."""

import os
import subprocess

import cv2
import h5py
import numpy as np
import pytest
from active_convolution.caffe import locate, reading
from active_convolution.errors import UserError

IMAGES = np.random.RandomState(0).randint(0, 256, (7, 3, 6, 8)).astype(np.float32)  # BGR, as stored
LABELS = np.arange(7) % 3
BACKENDS = ["LMDB", "LEVELDB", "HDF5", "IMAGES"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """{backend: the same seven images}"""
    folder = tmp_path_factory.mktemp("sources")
    lines = []
    for index, (image, label) in enumerate(zip(IMAGES, LABELS)):
        name = folder / f"an image {index}.png"
        cv2.imwrite(str(name), image.transpose(1, 2, 0))
        lines.append(f"{name} {label}\n")
    (folder / "IMAGES").write_text("".join(lines))
    relative = [line.replace(f"{folder}/", "") for line in lines]
    (folder / "relative").write_text("".join(relative))
    for backend in ("lmdb", "leveldb"):
        tool = locate.BUILD / "out/tools/convert_imageset"
        made = folder / backend.upper()
        subprocess.run(
            [tool, f"-backend={backend}", f"{folder}/", folder / "relative", made],
            check=True,
            capture_output=True,
        )
    for name, part in (("a", slice(0, 4)), ("b", slice(4, 7))):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["data"], file["label"] = IMAGES[part], LABELS[part].astype(np.float32)
    (folder / "HDF5").write_text(f"{folder}/a.h5\n{folder}/b.h5\n")
    return {backend: folder / backend for backend in BACKENDS}


def read(layer, **options):
    """(images, labels)"""
    batches = list(reading.batches(layer, **options))
    return [np.concatenate([batch[top] for batch in batches]) for top in ("data", "label")]


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_record_comes_once_and_in_order(sources, backend, size):
    layer = reading.layer(sources[backend], backend)
    assert reading.count(layer) == 7
    images, labels = read(layer, size=size)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels.ravel(), LABELS)


@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB", "IMAGES"])
def test_mean_scale_and_crop_are_caffe_s(sources, backend, tmp_path):
    pb2 = locate.caffe_pb2()
    mean = np.random.RandomState(1).rand(3, 6, 8).astype(np.float32) * 100
    blob = pb2.BlobProto(num=1, channels=3, height=6, width=8)
    blob.data.extend(mean.ravel())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    transform = pb2.TransformationParameter(
        scale=0.5, crop_size=4, mean_file=str(tmp_path / "mean.binaryproto")
    )
    images, _ = read(reading.layer(sources[backend], backend, transform))
    np.testing.assert_array_equal(images, ((IMAGES - mean) / 2)[:, :, 1:5, 2:6])
    transform = pb2.TransformationParameter(mean_value=[1, 2, 3])
    images, _ = read(reading.layer(sources[backend], backend, transform))
    np.testing.assert_array_equal(images, IMAGES - [[[1]], [[2]], [[3]]])


def test_training_crops_anywhere(sources):
    """... and testing in the middle."""
    transform = locate.caffe_pb2().TransformationParameter(crop_size=4)
    layer = reading.layer(sources["LMDB"], transform=transform)
    middle = read(layer)[0]
    assert (middle == IMAGES[:, :, 1:5, 2:6]).all()
    assert any((read(layer, phase="TRAIN")[0] != middle).any() for _ in range(5))


def test_the_layer_of_a_network_is_read_from_its_first_record(sources):
    """Whatever its phase, batch and shuffling."""
    layer = reading.layer(sources["IMAGES"], "IMAGES", batch_size=2, shuffle=True, rand_skip=3)
    layer.include.add(phase=locate.caffe_pb2().TRAIN)
    np.testing.assert_array_equal(read(layer)[0], IMAGES)


def test_images_are_resized_and_found_below_their_folder(sources, tmp_path):
    folder = os.path.dirname(sources["IMAGES"])
    layer = reading.layer(
        f"{folder}/relative", "IMAGES", root_folder=f"{folder}/", new_height=3, new_width=4
    )
    assert read(layer)[0].shape == (7, 3, 3, 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_missing_is_named(backend, tmp_path):
    with pytest.raises(UserError, match=f"there is no {tmp_path}/nothing"):
        list(reading.batches(reading.layer(tmp_path / "nothing", backend)))


@pytest.mark.parametrize("backend, file", [("LMDB", "data.mdb"), ("LEVELDB", "CURRENT")])
def test_a_folder_of_something_else_is_no_database(backend, file, tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} is not an? .*{file}"):
        list(reading.batches(reading.layer(tmp_path, backend)))


@pytest.mark.parametrize("backend", ["HDF5", "IMAGES"])
def test_an_empty_list_is_empty(backend, tmp_path):
    (tmp_path / "list").touch()
    with pytest.raises(UserError, match="is empty"):
        list(reading.batches(reading.layer(tmp_path / "list", backend)))
