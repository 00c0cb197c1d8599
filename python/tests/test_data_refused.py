"""What may mean something else than it seems is refused, with what was seen and what to give."""

import re

import pytest
from active_convolution.data.manifest import read_manifest
from active_convolution.errors import UserError
from data_samples import acu_data, per_class, picture, tables, write


def assert_refused(said, source, *options):
    """``acu data images`` says a line with ``said``, a pattern, instead of making a data set."""
    with pytest.raises(UserError) as error:
        acu_data("images", "--source", source, *options, "--output", "out")
    assert re.search(said, str(error.value)) and "\n" not in str(error.value), error.value


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nothing(tmp_path):
    """Nothing is made."""
    yield
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "case, said",
    [
        ("21-part-folders", "look like parts of a data set.*seg_pred, seg_test.*--label-names"),
        ("22-table-ignored", "trainLabels.csv lists the images in .*--list"),
        ("24-two-rows-of-an-image", "train_labels.csv lists the images"),
        ("25-folds", r"look like parts of a data set.*\(fold_0, fold_1\)"),
        ("26-cat.0", "train has 8 images in no class's folder.*--list"),
        ("27-class-then-part", r"test, train below cats, dogs: these may be"),
        ("28-gtsrb", "Test.csv lists the images"),
        ("10-c_kaggle", "trainLabels.csv lists the images in .*--list"),
        ("10-d_darknet", "train has 30 images in no class's folder"),
        ("10-j_zip/j_macos.zip", "is not a folder: unpack it"),
    ],
)
def test_cases(shared_cases, nothing, case, said):
    assert_refused(said, shared_cases / case, "--test-fraction", 0.25)


@pytest.mark.parametrize(
    "list_, said",
    [
        ("negative", "gives .*p0.png the label -1: labels are integers from 0 on, or names"),
        ("float", "gives .*p0.png the label 2.5: labels are integers from 0 on, or names"),
        ("several", "gives .*p0.png several labels: give each image one"),
    ],
)
def test_labels(shared_cases, nothing, list_, said):
    folder = shared_cases / "29-labels-of-lists"
    options = "--list", folder / f"{list_}.txt", "--test-fraction", 0.5
    assert_refused(said, folder / "im", *options)


def test_several_rows_for_an_image(shared_cases, nothing):
    folder = shared_cases / "24-two-rows-of-an-image"
    options = "--list", folder / "train_labels.csv", "--test-fraction", 0.5
    assert_refused("columns filename, width, .*: name the one", folder / "images", *options)
    options += "--columns", "filename,class"
    assert_refused("has 2 rows for .*p1.png: give one", folder / "images", *options)


@pytest.mark.parametrize(
    "case, options, classes, counts",
    [
        ("28-gtsrb", ["--val-list", "Test.csv", "--columns", "Path,ClassId"], 2, [6, 2]),
        (
            "28-gtsrb",
            ["--source", "Train", "--val-source", "", "--val-list", "Test.csv"]
            + ["--columns", "Path,ClassId"],
            2,
            [6, 2],
        ),
        ("10-c_kaggle", ["--source", "train", "--list", "trainLabels.csv"], 10, [20, 10]),
        ("10-e_bmp", [], 10, [30, 20]),
        ("10-f_upper_folders", [], 10, [30, 20]),
        ("10-h_jupyter", [], 10, [30, 20]),
    ],
)
def test_cases_that_are_taken(shared_cases, case, options, classes, counts):
    folder = shared_cases / case
    options = [
        folder / value if name in ("--source", "--list", "--val-source", "--val-list") else value
        for name, value in zip(["", *options], options)
    ]
    if case == "10-c_kaggle":
        options += ["--test-fraction", 0.3]
    acu_data("images", "--source", folder, *options, "--output", "out")
    manifest = read_manifest("out")
    assert manifest.classes == classes and len(manifest.label_names) == classes
    assert [manifest.train.images, manifest.test.images] == counts


def test_a_class_without_images_is_said(shared_cases, tmp_path, capsys):
    folder = shared_cases / "29-labels-of-lists"
    options = "--list", folder / "from-one.txt", "--test-fraction", 0.5
    acu_data("images", "--source", folder / "im", *options, "--output", "out")
    assert "note: no train image has the label 0\n" in capsys.readouterr().out
    per_class(tmp_path / "source")
    (tmp_path / "source/train/dog").mkdir()
    acu_data("images", "--source", "source", "--output", "out2")
    assert "note: source/train/dog has no images\n" in capsys.readouterr().out


# ---- Others of the kind


@pytest.mark.parametrize(
    "names, said",
    [
        (["Training/a", "Training/b", "Testing/a"], "look like parts.*Testing, Training"),
        (["trainA", "trainB", "other"], "look like parts.*trainA, trainB"),
        (["query", "gallery", "cat"], "look like parts.*gallery, query"),
        (["cats/val", "dogs/val2"], "val, val2 below cats: these may be"),
        (["1/left", "1/right", "2/left", "2/right"], "left, right below 1, 2: these may be"),
        (["train/a", "train/b", "test"], "test has no folders of classes.*--val-list"),
        (["train/a", "train/b", "test/a", "test/b", "x"], "has images in x beside source/train"),
        (["train/a", "train/b", "test/a", "test/c"], "is of the class c, and the classes .*a, b"),
        (
            ["flowers/a", "flowers/b"],
            "one folder of images, flowers: give the folder above the classes",
        ),
        (["a", "b", "."], "1 images in no class's folder"),
        (["a", "b"], "has no images to test on: give --val-source.*--test-fraction"),
        ([], "source does not exist: give the folder"),
    ],
)
def test_folders(tmp_path, nothing, names, said):
    for number, name in enumerate(names):
        write(tmp_path / "source" / name / f"{number}.png", picture(number))
    assert_refused(said, "source")


def test_few_of_many_classes_may_be_called_as_parts(tmp_path):
    for name in ("bullet_train", "tram", "bus", "car", "van", "ship"):
        for number in range(2):
            write(tmp_path / "source" / name / f"{number}.png", picture(number))
    acu_data("images", "--source", "source", "--test-fraction", 0.5, "--output", "out")
    assert "bullet_train" in read_manifest("out").label_names


def test_what_the_user_names_is_a_class(tmp_path):
    for name in ("train", "query"):
        for number in range(2):
            write(tmp_path / "source" / name / f"{number}.png", picture(number))
    (tmp_path / "names").write_text("train\nquery\n")
    options = "--test-fraction", 0.5, "--label-names", "names", "--output", "out"
    acu_data("images", "--source", "source", *options)
    assert read_manifest("out").label_names == ["train", "query"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "lists no images"),
        ("train/0.png\n", "has the line 'train/0.png': give an image and its label"),
        ("nowhere/0.png 0\n", "lacks 1 of the 1 images.*nowhere/0.png first: give the folder"),
        ("train/0.png 0\ntrain/1.png 70000\n", "labels up to 70000, of 65536 classes"),
        ("train/0.png 0\ntrain/1.png 0\n", "labels up to 0, of 1 classes: give 2"),
    ],
)
def test_lists(tmp_path, nothing, text, said):
    tables(tmp_path)
    (tmp_path / "list.txt").write_text(text)
    assert_refused(said, ".", "--list", "list.txt", "--test-fraction", 0.5)


@pytest.mark.parametrize(
    "text, said",
    [
        ("train/0.png,ant\ntrain/1.png,bee\n", "has no heading: add one"),
        ("id,label\ntrain/0.png\n", "has the row train/0.png,None: give it 2 cells"),
        ("id,label\ntrain/0.png,-1\n", "the label -1: labels are integers"),
        ("id\xff".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_tables(tmp_path, nothing, text, said):
    tables(tmp_path)
    (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(said, ".", "--list", "list.csv", "--test-fraction", 0.5)


def test_options_that_do_not_fit(tmp_path, nothing):
    per_class(tmp_path / "source")
    assert_refused("--test-fraction is for images without", "source", "--test-fraction", 0.5)
    assert_refused("is there to train on and to test on", "source", "--val-source", "source/train")


def test_images_of_several_sizes(tmp_path):
    per_class(tmp_path / "source")
    write(tmp_path / "source/train/ant/large.png", picture(0, 20, 20))
    said = r"large.png: (20x20|16x12) pixels, not (16x12|20x20): give a --size"
    assert_refused(said, "source", "--max-unreadable", 0)
    for path in (tmp_path / "source").rglob("*.png"):
        path.write_bytes(b"none")
    assert_refused("none of the images can be read", "source")
