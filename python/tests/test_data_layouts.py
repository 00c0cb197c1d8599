"""CIFAR-10 and CIFAR-100 in the ways in which people keep them, of small sets of real images: read, or refused in one line
that says what is unclear."""

import shutil
import zipfile

import cv2
import numpy as np
import pytest
from active_convolution.data import cifar
from active_convolution.errors import UserError

NAMES = cifar.CIFAR10_CLASSES
FINE = [
    f"kind_{label:02d}" for label in range(100)
]  # in this order as in the alphabet's, as CIFAR-100's are


@pytest.fixture(scope="module")
def images(shared_cases):
    """{part: [(class, image)]}, three images of each of CIFAR-10's classes to train and two to test; BGR, as cv2 has them."""
    found = {
        part: [
            (path.parent.name, cv2.imread(str(path)))
            for path in sorted(
                (shared_cases / "10-f_upper_folders").glob(f"{part.upper()}/*/*.png")
            )
        ]
        for part in ("train", "test")
    }
    assert {part: len(entries) for part, entries in found.items()} == {"train": 30, "test": 20}
    return found


def fine(images):
    """As many images of each of 100 classes: the same ones, darker and darker."""
    return {
        part: [
            (FINE[10 * times + NAMES.index(name)], np.uint8(image * (1 - times / 20)))
            for times in range(10)
            for name, image in entries
        ]
        for part, entries in images.items()
    }


def counted(entries):
    """(class, image) as a sorted list that can be compared: classes as numbers, pixels as CIFAR's own planes."""
    return sorted((label, np.ascontiguousarray(image).tobytes()) for label, image in entries)


def expected(entries, names):
    return counted(
        (names.index(name), image[:, :, ::-1].transpose(2, 0, 1)) for name, image in entries
    )


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def tree(folder, images, train="train", test="test", suffix="png", name_of=str):
    for part, entries in images.items():
        for number, (name, image) in enumerate(entries):
            write(
                folder
                / (train if part == "train" else test)
                / name_of(name)
                / f"{number}.{suffix}",
                image,
            )


# ---- One function for each layout


def valid(folder, images):
    tree(folder, images, test="valid")


def validation(folder, images):
    tree(folder, images, "Training", "validation")


def val(folder, images):
    tree(folder, images, test="Val")


def upper(folder, images):
    tree(folder, images, "TRAIN", "TEST", "PNG")


def bitmaps(folder, images):
    tree(folder, images, suffix="bmp")


def short_names(folder, images):
    short = {"airplane": "plane", "automobile": "car"}
    tree(folder, images, name_of=lambda name: short.get(name, name))


def capital_names(folder, images):
    tree(folder, images, name_of=str.capitalize)


def numbers_for_names(folder, images):
    tree(folder, images, name_of=lambda name: str(NAMES.index(name)))


def checkpoints(folder, images):
    tree(folder, images)
    for place in (".", "train", "test", "train/cat"):
        write(folder / place / ".ipynb_checkpoints" / "0-checkpoint.png", images["train"][0][1])


def darknet(folder, images):
    for part, entries in images.items():
        for number, (name, image) in enumerate(entries):
            write(folder / part / f"{number}_{name}.png", image)
    (folder / "labels.txt").write_text("\n".join(NAMES))


def two_tables(folder, images):
    for part, entries in images.items():
        for number, (_, image) in enumerate(entries):
            write(folder / part / f"{number}.png", image)
        (folder / f"{part}.csv").write_text(
            "".join(
                f"{number}.png,{name}\r\n"
                for number, (name, _) in enumerate([("label", None), *entries], -1)
            ).replace("-1.png", "file")
        )


LAYOUTS = [
    valid,
    validation,
    val,
    upper,
    bitmaps,
    short_names,
    capital_names,
    numbers_for_names,
    checkpoints,
    darknet,
    two_tables,
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cifar10(images, tmp_path, layout, packed):
    layout(tmp_path / "set", images)
    assert_read("cifar10", zipped(tmp_path / "set") if packed else tmp_path / "set", images, NAMES)


def zipped(folder):
    """As a Mac packs a folder."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
            if file.is_file():
                archive.writestr(
                    f"__MACOSX/{folder.name}/{file.parent.relative_to(folder)}/._{file.name}",
                    b"Finder's",
                )
    return path


def assert_read(dataset, path, images, names):
    read = cifar.read(dataset, path)
    for part, entries in (("train", read.train), ("test", read.test)):
        assert counted(zip(entries.labels.tolist(), entries.images)) == expected(
            images[part], names
        )


@pytest.mark.parametrize("test", ["test", "val"])
def test_cifar100_below_its_superclasses(images, tmp_path, test):
    """Twenty folders of superclasses, of five classes each: 100 classes, in the order of their own names."""
    hundred = fine(images)
    tree(
        tmp_path / "set",
        hundred,
        test=test,
        name_of=lambda name: f"super_{int(name[-2:]) % 20}/{name}",
    )
    assert_read("cifar100", tmp_path / "set", hundred, FINE)


@pytest.mark.parametrize("layout", [valid, upper, bitmaps, checkpoints, darknet])
def test_cifar100(images, tmp_path, layout):
    hundred = fine(images)
    layout(tmp_path / "set", hundred)
    assert_read("cifar100", tmp_path / "set", hundred, FINE)


@pytest.mark.parametrize("table", ["trainLabels.csv", "train_labels.csv", "labels.csv"])
def test_kaggle_has_no_classes_of_its_test_images(images, tmp_path, capsys, table):
    """A fifth is drawn; of a class's three images, one."""
    for part, entries in images.items():
        for number, (_, image) in enumerate(entries, 1):
            write(tmp_path / part / f"{number}.png", image)
    rows = "".join(f"{number},{name}\n" for number, (name, _) in enumerate(images["train"], 1))
    (tmp_path / table).write_text(f"id,label\n{rows}")
    (tmp_path / "sampleSubmission.csv").write_text(
        "id,label\n" + "".join(f"{number},cat\n" for number in range(1, 21))
    )
    read = cifar.read("cifar10", tmp_path)
    assert (
        "no test images with classes: a fifth of each class's images, drawn, are the test set"
        in capsys.readouterr().err
    )
    assert (
        np.bincount(read.test.labels).tolist() == [1] * 10
        and np.bincount(read.train.labels).tolist() == [2] * 10
    )
    both = [
        *zip(read.train.labels.tolist(), read.train.images),
        *zip(read.test.labels.tolist(), read.test.images),
    ]
    assert counted(both) == expected(images["train"], NAMES)


@pytest.mark.parametrize(
    "case",
    [
        "10-c_kaggle",
        "10-d_darknet",
        "10-e_bmp",
        "10-f_upper_folders",
        "10-h_jupyter",
        "10-j_zip/j_macos.zip",
    ],
)
def test_cases(shared_cases, case):
    read = cifar.read("cifar10", shared_cases / case)
    assert np.bincount(read.train.labels).tolist() == [2 if "kaggle" in case else 3] * 10
    assert np.bincount(read.test.labels).tolist() in ([1] * 10, [2] * 10)


# ---- What is unclear


def strange_class(folder, images):
    tree(folder, images)
    write(folder / "train" / "zebra" / "0.png", images["train"][0][1])
    return "images of train/zebra, which is no class of this set: rename it"


def missing_class(folder, images):
    tree(folder, images)
    shutil.rmtree(folder / "test" / "frog")
    return "no images of test/frog: every class needs some"


def two_sets(folder, images):
    tree(folder / "a", images)
    tree(folder / "b", images)
    return "more than one CIFAR-10 .*: name the one to read"


def two_test_parts(folder, images):
    tree(folder, images, test="val")
    tree(folder, {"test": images["test"]}, test="valid")
    return "two folders for val, .*: leave one"


def other_size(folder, images):
    tree(folder, images)
    write(folder / "train" / "cat" / "large.png", np.zeros((64, 48, 3), np.uint8))
    return "large.png is 48x64 pixels, not 32x32: resize or remove it"


def no_classes(folder, images):
    for number, (_, image) in enumerate(images["train"]):
        write(folder / "train" / f"{number}.png", image)
    return "holds no CIFAR-10: give cifar-10-python.tar.gz, "


@pytest.mark.parametrize(
    "spoil", [strange_class, missing_class, two_sets, two_test_parts, other_size, no_classes]
)
def test_what_is_unclear_is_named(images, tmp_path, spoil):
    message = spoil(tmp_path / "set", images)
    with pytest.raises(UserError, match=message) as error:
        cifar.read("cifar10", tmp_path / "set")
    assert "\n" not in str(error.value)
