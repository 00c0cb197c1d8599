"""CIFAR from every accepted form, against the arrays it was made from; and from every kind of damaged one."""

import os
import pickle
import re
import shutil
import tarfile

import data_samples as samples
import numpy as np
import pytest
from active_convolution.data import cifar
from active_convolution.errors import UserError

WRITERS = {
    "python": samples.write_python,
    "binary": samples.write_binary,
    "tree": samples.write_tree,
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "above" / "set"
    path.mkdir(parents=True)
    return path


def assert_is_sample(data, dataset):
    for part, (images, labels) in zip((data.train, data.test), samples.sample(dataset)):
        assert part.images.dtype == np.uint8
        np.testing.assert_array_equal(part.images, images)
        np.testing.assert_array_equal(part.labels, labels)


@pytest.mark.parametrize("packing", ["", ".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_reads_what_was_written(folder, dataset, form, packing):
    WRITERS[form](folder, dataset)
    data = cifar.read(dataset, samples.packed(folder, packing))
    assert_is_sample(data, dataset)
    assert data.classes == samples.CLASSES[dataset]
    assert data.source.endswith("in a tar archive" if packing else "in a folder")


@pytest.mark.parametrize("form", WRITERS)
def test_reads_from_the_folder_above(folder, form):
    WRITERS[form](folder, "cifar10")
    assert_is_sample(cifar.read("cifar10", folder.parent), "cifar10")


def test_both_sets_may_lie_side_by_side(folder):
    for dataset in samples.CLASSES:
        (folder / dataset).mkdir()
        samples.write_python(folder / dataset, dataset)
    for dataset in samples.CLASSES:
        assert_is_sample(cifar.read(dataset, folder), dataset)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_batches_pickled_again_by_python_3(folder, protocol):
    samples.write_python(folder, "cifar10", lambda batch: pickle.dumps(batch, protocol))
    assert_is_sample(cifar.read("cifar10", folder), "cifar10")


def test_jpeg_channels_are_red_green_blue(folder):
    samples.write_tree(folder, "cifar10", ".jpg")
    colour = np.array([200, 100, 20], np.uint8)
    samples.write_image(
        folder / "train" / "airplane" / "0000.jpg", np.tile(colour[:, None, None], (1, 32, 32))
    )
    image = cifar.read("cifar10", folder).train.images[0]
    np.testing.assert_allclose(image.mean(axis=(1, 2)), colour, atol=4)


def test_hidden_files_are_passed_over(folder):
    samples.write_tree(folder, "cifar10")
    (folder / "train" / "airplane" / "._0000.png").write_bytes(b"a Finder's note")
    assert_is_sample(cifar.read("cifar10", samples.packed(folder, ".tar")), "cifar10")
    assert_is_sample(cifar.read("cifar10", folder), "cifar10")


def write_npz(path, dataset):
    (X, Y), (xt, yt) = samples.sample(dataset)
    np.savez(path, X=X, Y=Y, xt=xt, yt=yt)
    return path


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_reads_arrays(tmp_path, dataset):
    assert_is_sample(cifar.read(dataset, write_npz(tmp_path / "set.npz", dataset)), dataset)


def test_arrays_of_fewer_classes_are_refused(tmp_path):
    assert_refused(
        "cifar100",
        write_npz(tmp_path / "set.npz", "cifar10"),
        "set.npz: Y has no training images of 90 of the 100 classes, 10 first",
    )


@pytest.mark.slow
def test_reads_the_whole_jpeg_set(shared_data):
    data = cifar.read("cifar10", shared_data / "cifar10-jpeg.tar.xz")
    assert data.train.images.shape == (50000, 3, 32, 32)
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10


# Damage. Each function spoils the made set in ``folder`` (in the form named) and returns what the error must match.


def truncated_pickle(folder):
    _cut(folder / "data_batch_2", 0.5)
    return "data_batch_2 is not a whole python batch"


def malicious_pickle(folder):
    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(folder / "executed"),)

    (folder / "test_batch").write_bytes(pickle.dumps({"data": Malice()}))
    return "test_batch .* which image data does not need"


def pickle_without_labels(folder):
    _repickle(folder, lambda batch: batch.pop("labels"))
    return "data_batch_1 .*KeyError: 'labels'"


def fewer_labels_than_images(folder):
    _repickle(folder, lambda batch: batch["labels"].pop())
    return "data_batch_1 holds 4 images but 3 integer labels"


def label_that_is_no_integer(folder):
    _repickle(folder, lambda batch: batch.update(labels=[0.5] * 4))
    return "data_batch_1 holds 4 images but 4 integer labels"


def python_label_out_of_range(folder):
    _repickle(folder, lambda batch: batch.update(labels=[0, 1, -1, 3]))
    return "data_batch_1: image 2 has label -1"


def pixels_of_another_size(folder):
    _repickle(folder, lambda batch: batch.update(data=np.zeros((4, 3071), np.uint8)))
    return r"data_batch_1 holds uint8 data of shape \(4, 3071\)"


def empty_python_batch(folder):
    _repickle(
        folder,
        lambda batch: batch.update(data=np.zeros((0, 3072), np.uint8), labels=np.zeros(0, int)),
    )
    return "data_batch_1 holds no images"


def pixels_of_no_strides(folder):
    return _repickle_as(
        folder, data=np.broadcast_to(np.zeros(1, np.uint8), (500_000, 3072)), labels=[0] * 500_000
    )


def labels_of_no_strides(folder):
    return _repickle_as(folder, labels=np.broadcast_to(np.zeros(1, np.int64), 10**9))


def lists_of_the_same_list(folder):
    labels = [0]
    for _ in range(40):
        labels = [labels] * 10
    _repickle_as(folder, labels=labels)
    return r"data_batch_1 is not a whole python batch of CIFAR \(ValueError: it holds lists of other things than numbers\)"


def _repickle_as(folder, **entries):
    """As the reader would see what a pickle makes of little: pickle.dumps would write out an array without strides."""
    _repickle(
        folder,
        lambda batch: batch.update(
            {
                key: _Strides(value.shape, value.dtype.str)
                if isinstance(value, np.ndarray)
                else value
                for key, value in entries.items()
            }
        ),
    )
    return r"data_batch_1 is not a whole python batch of CIFAR \(ValueError: it asks for \d+ bytes and has \d+\)"


class _Strides:
    def __init__(self, shape, kind):
        self._arguments = shape, np.dtype(kind), b"\0" * 8, 0, (0,) * len(shape)

    def __reduce__(self):
        return np.ndarray, self._arguments


def missing_python_batch(folder):
    (folder / "data_batch_3").unlink()
    return "lacks .*data_batch_3"


def missing_binary_batch(folder):
    (folder / "test_batch.bin").unlink()
    return "lacks .*test_batch.bin"


def truncated_binary_batch(folder):
    _cut(folder / "data_batch_4.bin", 0.9)
    return "data_batch_4.bin is .* bytes long, not a multiple of 3073"


def binary_label_out_of_range(folder):
    path = folder / "data_batch_1.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    return "data_batch_1.bin: image 0 has label 10, but there are only 10"


def unreadable_image(folder):
    (folder / "train" / "cat" / "0006.png").write_bytes(b"no image")
    return "train/cat/0006.png is not a readable image"


def empty_image(folder):
    (folder / "test" / "cat" / "0003.png").write_bytes(b"")
    return "test/cat/0003.png is not a readable image"


def truncated_png(folder):
    _cut(folder / "train" / "cat" / "0006.png", 0.8)
    return "train/cat/0006.png is not a readable image"


def truncated_jpeg(folder):
    path = folder / "train" / "cat" / "extra.jpg"
    samples.write_image(path, samples.sample("cifar10")[0][0][0])
    _cut(path, 0.95)
    return "train/cat/extra.jpg is not a readable image"


def image_of_another_size(folder):
    samples.write_image(folder / "train" / "cat" / "0006.png", np.zeros((3, 32, 31), np.uint8))
    return "train/cat/0006.png is 31x32 pixels, not 32x32"


def class_without_test_images(folder):
    shutil.rmtree(folder / "test" / "frog")
    return "no images of test/frog"


def unknown_class(folder):
    (folder / "train" / "boat").mkdir()
    shutil.copy(folder / "train" / "ship" / "0016.png", folder / "train" / "boat")
    return "images of train/boat, which is no class"


def two_sets(folder):
    shutil.copytree(folder, folder / "copy")
    return "holds more than one CIFAR-10 .*copy"


def nothing_of_the_set(folder):
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    return "holds no CIFAR-10: give cifar-10-python.tar.gz"


DAMAGE = {
    "python": [
        truncated_pickle,
        malicious_pickle,
        pickle_without_labels,
        fewer_labels_than_images,
        label_that_is_no_integer,
        pixels_of_no_strides,
        labels_of_no_strides,
        lists_of_the_same_list,
        python_label_out_of_range,
        pixels_of_another_size,
        empty_python_batch,
        missing_python_batch,
    ],
    "binary": [missing_binary_batch, truncated_binary_batch, binary_label_out_of_range],
    "tree": [
        unreadable_image,
        empty_image,
        truncated_png,
        truncated_jpeg,
        image_of_another_size,
        class_without_test_images,
        unknown_class,
        two_sets,
        nothing_of_the_set,
    ],
}


@pytest.mark.parametrize(
    "form, damage", [(form, damage) for form, all_of_it in DAMAGE.items() for damage in all_of_it]
)
def test_damage_is_named(folder, form, damage):
    WRITERS[form](folder, "cifar10")
    expected = damage(folder)
    assert_refused("cifar10", folder, expected)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("packing", [".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.4, 0.9])
def test_truncated_archive(folder, packing, kept):
    samples.write_tree(folder, "cifar10")
    archive = samples.packed(folder, packing)
    _cut(archive, kept)
    assert_refused("cifar10", archive, "truncated, damaged")


def test_tar_cut_between_two_files(folder):
    """tarfile itself takes such an archive for a whole one."""
    samples.write_tree(folder, "cifar10")
    archive = samples.packed(folder, ".tar")
    with tarfile.open(archive) as whole:
        end = whole.getmember("set/train/truck/0019.png").offset
    os.truncate(archive, end)
    assert_refused("cifar10", archive, "no end-of-archive mark.* truncated, damaged")


def test_tar_with_a_flipped_bit(folder):
    samples.write_binary(folder, "cifar10")
    archive = samples.packed(folder, ".tar.gz")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    assert_refused("cifar10", archive, "truncated, damaged")


def test_cifar100_tree_needs_100_classes(folder):
    samples.write_tree(folder, "cifar100")
    for split in ("train", "test"):
        shutil.rmtree(folder / split / "kind_42")
    assert_refused("cifar100", folder, "of 99 classes, not 100")


def test_cifar100_label_out_of_range(folder):
    samples.write_binary(folder, "cifar100")
    path = folder / "train.bin"
    path.write_bytes(b"\x00\x64" + path.read_bytes()[2:])
    assert_refused("cifar100", folder, "train.bin: image 0 has label 100")


def test_missing_path(tmp_path):
    assert_refused("cifar10", tmp_path / "nowhere", "nowhere does not exist")


def assert_refused(dataset, path, expected):
    with pytest.raises(UserError) as refusal:
        cifar.read(dataset, path)
    message = str(refusal.value)
    assert re.search(expected, message), message
    assert "\n" not in message


def _cut(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])


def _repickle(folder, change):
    path = folder / "data_batch_1"
    batch = {
        key.decode(): value
        for key, value in pickle.loads(path.read_bytes(), encoding="bytes").items()
    }
    change(batch)
    path.write_bytes(pickle.dumps(batch))
