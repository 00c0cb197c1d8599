"""acu data images: the layouts and lists that it takes, and what comes of the images."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from active_convolution import cli
from active_convolution.caffe import locate
from active_convolution.data import database, datum
from active_convolution.data.images import Files, Options, create
from active_convolution.data.manifest import read_manifest
from active_convolution.errors import BadValue, UserError
from data_samples import (
    KINDS,
    acu_data,
    content,
    everything,
    expected,
    per_class,
    picture,
    pixels,
    records,
    tables,
    write,
)


def make(source, *options, out="out"):
    """The Manifest of ``acu data images`` in a new folder beside ``source``."""
    acu_data("images", "--source", source, "--encode", "png", *options, "--output", out)
    return read_manifest(out)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def assert_made():
    for split in ("train", "test"):
        assert content(Path("out"), split) == expected(split)


# ---- Where the images lie


@pytest.mark.parametrize(
    "train, test, suffix, below",
    [
        ("train", "test", ".png", ""),
        ("TRAIN", "Test", ".PNG", ""),
        ("train", "val", ".bmp", ""),
        ("Train", "valid", ".png", "images"),
        ("train", "Validation", ".png", "a/b"),
    ],
)
def test_folders_of_classes(tmp_path, train, test, suffix, below):
    per_class(tmp_path / "source", train, test, suffix, below)
    (tmp_path / "source" / train / ".ipynb_checkpoints").mkdir()
    write(tmp_path / "source/.hidden/1.png", picture(0))
    write(tmp_path / "source/__MACOSX/1.png", picture(0))
    manifest = make("source")
    assert manifest.label_names == KINDS and manifest.classes == 3
    assert_made()


def test_two_trees(tmp_path):
    per_class(tmp_path / "source", "a", "b")
    make("source/a", "--val-source", "source/b")
    assert_made()


def test_a_test_part_comes_before_a_validation_part(tmp_path, capsys):
    per_class(tmp_path / "source")
    write(tmp_path / "source/val/ant/900.png", picture(900))
    write(tmp_path / "source/val/bee/901.png", picture(901))
    make("source")
    assert content(tmp_path / "out", "test") == expected("test")
    assert "note: source/val is left out, beside source/test\n" in capsys.readouterr().out


def test_cifar_100_has_a_class_called_train(tmp_path):
    for part in ("train", "test"):
        for number, label in enumerate(("tank", "train", "tractor")):
            write(tmp_path / f"source/{part}/{label}/{number}.png", picture(number))
    assert make("source").label_names == ["tank", "tractor", "train"]
    (tmp_path / "names").write_text("train\ntank\ntractor\n")
    named = make("source", "--label-names", "names", out="named")
    assert named.label_names == ["train", "tank", "tractor"]


@pytest.mark.parametrize("ending", [".png", ""])
def test_tables(tmp_path, ending):
    tables(tmp_path, ending)
    manifest = make(".", "--list", "train.csv", "--val-list", "test.csv")
    assert manifest.label_names == KINDS
    assert_made()


def test_columns_are_named_where_there_are_more(tmp_path):
    tables(tmp_path)
    for split in ("train", "test"):
        lines = (tmp_path / f"{split}.csv").read_text("utf-8-sig").splitlines()
        rows = [line.split(",") for line in lines]
        text = "\n".join(f"{row[1]};1;{row[0]}" for row in rows)
        (tmp_path / f"{split}.csv").write_text(text)
    with pytest.raises(UserError, match="has the columns label, 1, id: name the one .* --columns"):
        make(".", "--list", "train.csv", "--val-list", "test.csv")
    with pytest.raises(BadValue, match="has the columns label, 1, id: name"):
        make(".", "--list", "train.csv", "--test-fraction", "0.5", "--columns", "file,label")
    make(".", "--list", "train.csv", "--val-list", "test.csv", "--columns", "id,label")
    assert content(tmp_path / "out", "test") == expected("test")


@pytest.mark.parametrize("way", ["", "/", "./", "absolute", "names"])
def test_lists_as_convert_imageset_takes_them(tmp_path, way):
    tables(tmp_path)
    start = {"absolute": f"{tmp_path}/", "names": ""}.get(way, way)
    for split in ("train", "test"):
        lines = ""
        for label, number in everything(split):
            label = label if way == "names" else KINDS.index(label)
            lines += f"{start}{split}/{number}.png {label}\n"
        (tmp_path / f"{split}.txt").write_text(lines)
    source = "/" if way == "absolute" else "."
    manifest = make(source, "--list", "train.txt", "--val-list", "test.txt")
    assert manifest.classes == 3 and manifest.label_names == (KINDS if way == "names" else None)
    assert_made()


def test_a_fraction_is_drawn_of_every_class_by_the_seed(tmp_path):
    per_class(tmp_path / "source", ".", None)
    drawn = []
    for out, *seed in (("a",), ("b",), ("c", "--seed", 1)):
        manifest = make("source", "--test-fraction", 0.25, *seed, out=out)
        assert manifest.train.images_per_class == [3] * 3
        assert manifest.test.images_per_class == [1] * 3
        drawn.append(content(tmp_path / out, "test"))
        assert {**drawn[-1], **content(tmp_path / out, "train")} == expected("train")
    assert drawn[0] == drawn[1] != drawn[2]


def test_names_give_the_order_and_words(tmp_path, capsys):
    per_class(tmp_path / "source")
    (tmp_path / "names").write_text("cat\nbee\nant\ndog\n")
    manifest = make("source", "--label-names", "names")
    assert manifest.label_names == ["cat", "bee", "ant", "dog"]
    assert content(tmp_path / "out", "train") == expected("train", manifest.label_names)
    assert "note: no train image has the label 3 (dog)\n" in capsys.readouterr().out
    (tmp_path / "words").write_text("bee busy bee\nant an ant\ncat house cat\n")
    manifest = make("source", "--label-names", "words", out="words_too")
    assert manifest.label_names == ["busy bee", "an ant", "house cat"]
    (tmp_path / "names").write_text("cat\nbee\n")
    with pytest.raises(UserError, match="names names no class ant: begin a line with it"):
        make("source", "--label-names", "names", out="less")


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    for number in (10, 9, 2):
        write(tmp_path / f"source/train/{number}/a.png", picture(number))
        write(tmp_path / f"source/test/{number}/b.png", picture(number))
    assert make("source").label_names == ["2", "9", "10"]


def test_the_command_says_what_it_made_and_what_is_next(tmp_path, capsys):
    per_class(tmp_path / "source")
    make("source")
    assert capsys.readouterr().out.splitlines() == [
        "3 classes: ant, bee, cat",
        "images: 12 training and 6 test images, 0 MB, in out",
        "next: acu models new models/out --like cifar10/plain --data out",
    ]
    cli.parser("models").parse_args("new models/out --like cifar10/plain --data out".split())


# ---- What is made of an image


def encoded(suffix, image, *parameters):
    return cv2.imencode(suffix, image, parameters)[1].tobytes()


def stored(data, tmp_path):
    """The pixels (H, W, 3) that are stored of the image file ``data``."""
    (tmp_path / "file").write_bytes(data)
    record = datum.from_file(tmp_path / "file", 0, datum.Recipe(16, 12, None, "png"))
    assert isinstance(record, bytes), record
    return pixels(locate.caffe_pb2().Datum.FromString(record)).transpose(1, 2, 0)


def pillow(image, mode, **options):
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").fromarray(image[:, :, ::-1]).convert(mode).save(
        file, **options
    )
    return file.getvalue()


def test_kinds_of_files(tmp_path):
    image, grey = picture(3), picture(4)[:, :, 0]
    three = grey[:, :, None].repeat(3, axis=2)
    few = image // 128 * 255  # colours, for a palette
    for data, wanted in (
        (encoded(".png", image), image),
        (encoded(".bmp", image), image),
        (encoded(".tif", image), image),
        (encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101), image),
        (encoded(".png", grey), three),
        (encoded(".png", np.dstack([image, grey])), image),
        (encoded(".png", image.astype(np.uint16) * 257), image),
        (pillow(few, "P", format="PNG"), few),
    ):
        np.testing.assert_array_equal(stored(data, tmp_path), wanted)
    colour = np.zeros((12, 16, 3), np.uint8) + np.array([20, 60, 200], np.uint8)
    found = stored(pillow(colour, "CMYK", format="JPEG", quality=95), tmp_path)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), [20, 60, 200], atol=8)


def exif(orientation):
    """A JPEG segment with one EXIF entry, the orientation, and a thumbnail's end."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + b"\x00\x00"
    body = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01" + entry + b"\0\0\0\0" + b"\xff\xd8\xff\xda\0\xff\xd9"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(tmp_path, orientation):
    """By the definition of EXIF: what the sensor's first row and column are in the upright."""
    grey = picture(5, 3, 4)[:, :, :1].repeat(3, axis=2)  # JPEG stores colours coarsely
    upright = cv2.resize(grey, (16, 12), interpolation=cv2.INTER_NEAREST)
    sensor = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    data = encoded(".jpg", np.ascontiguousarray(sensor), cv2.IMWRITE_JPEG_QUALITY, 100)
    found = stored(data[:2] + exif(orientation) + data[2:], tmp_path)
    assert np.abs(found.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_a_truncated_file_is_no_image(tmp_path, suffix, kept):
    data = encoded(suffix, picture(0))
    data = data[:2] + (exif(1) if suffix == ".jpg" else b"") + data[2:]
    (tmp_path / "file").write_bytes(data[: int(kept * len(data))])
    recipe = datum.Recipe(16, 12)
    assert datum.from_file(tmp_path / "file", 0, recipe) == "no whole image"


@pytest.mark.parametrize("encode, start", [("jpeg", b"\xff\xd8"), ("png", b"\x89P"), ("raw", None)])
def test_what_is_stored(tmp_path, encode, start):
    per_class(tmp_path / "source")
    for out, size in (("same", (16, 12)), ("small", (8, 6))):
        options = Options(size=size, encode=encode)
        create(out, Files("source"), options=options)
    assert content(tmp_path / "same", "train") == expected("train")  # of PNG files, as they are
    starts = {record.data[:2] for _, record in records(tmp_path / "small/train_lmdb")}
    assert starts == {start} if start else len(starts) > 3


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("width, height", [(8, 8), (40, 20), (16, 12), (5, 12), (1, 1), (3, 64)])
def test_resizing(resize, width, height):
    image = np.full((12, 16, 3), 200, np.uint8)
    found = datum.resized(image, datum.Recipe(width, height, resize, "raw", smooth=True))
    assert found.shape == (height, width, 3) and set(np.unique(found)) <= {0, 200}
    covered = found[:, :, 0] == 200
    rows, columns = covered.any(axis=1).sum(), covered.any(axis=0).sum()
    if resize == "pad":
        assert rows == height or columns == width
        assert abs(rows - 12 * columns / 16) <= 1 or min(rows, columns) == 1
    else:
        assert covered.all()


def test_cropping_takes_the_middle():
    image, recipe = picture(0), datum.Recipe(12, 12, "crop")
    np.testing.assert_array_equal(datum.resized(image, recipe), image[:, 2:14])


def test_the_mean(tmp_path):
    per_class(tmp_path / "source")
    manifest = make("source", "--mean")
    mean = np.mean([picture(number) for _, number in everything("train")], axis=0)
    np.testing.assert_allclose(manifest.preprocessing.mean_value, mean.mean(axis=(0, 1)), atol=1e-3)
    stored = (tmp_path / "out/mean.binaryproto").read_bytes()
    blob = locate.caffe_pb2().BlobProto.FromString(stored)
    found = np.reshape(blob.data, (blob.channels, blob.height, blob.width))
    np.testing.assert_allclose(found.transpose(1, 2, 0), mean, atol=1e-3)
    with pytest.raises(BadValue, match="--mean and --whiten exclude"):
        make("source", "--mean", "--whiten", out="both")


def test_the_manifest_says_what_an_image_has_to_become(tmp_path):
    per_class(tmp_path / "source")
    manifest = make("source", "--size", "8x6", "--resize", "crop")
    assert (manifest.channel_order, manifest.value_range) == ("BGR", [0, 255])
    assert (manifest.preprocessing.resize, manifest.preprocessing.smooth) == ("crop", True)
    assert manifest.test.shape == [3, 6, 8] and manifest.test.sha256 == database.checksum(
        "out/test_lmdb"
    )
    for split, part in manifest.parts.items():
        assert part.path == str(tmp_path / f"out/{split}_lmdb")


# ---- Interruptions


def test_a_killed_run_goes_on(tmp_path):
    """Whenever it was killed, the same command comes to the same, and does nothing twice."""
    per_class(tmp_path / "source")
    make("source", out="whole")
    for number in (1, 7, 13, 18):
        program = f"""
import os, signal
from active_convolution import cli
from active_convolution.data import database, datum
made, database._BATCH = datum.from_file, 2
def from_file(*arguments, count=[]):
    count.append(1)
    if len(count) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(*arguments)
datum.from_file = from_file
cli.data.run(cli.parser("data").parse_args())
"""
        command = "images --source source --encode png --jobs 1 --output out".split()
        done = subprocess.run(
            [sys.executable, "-c", f"import active_convolution.cli.data\n{program}", *command],
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (tmp_path / "out").exists()
        there = [len(records(path)) for path in tmp_path.glob("out.*.partial/*_lmdb")]
        assert sum(there) >= number - 3
        assert make("source").train.sha256 == read_manifest("whole").train.sha256
        for path in (tmp_path / "out").rglob("*"):
            path.is_file() and path.unlink()
        os.rename("out", f"done_{number}")


def test_unreadable_images_are_left_out_and_named(tmp_path, capsys):
    per_class(tmp_path / "source")
    for number in (0, 4):
        path = next((tmp_path / "source/train").rglob(f"{number}.png"))
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match="2 train images cannot be used .*--max-unreadable"):
        make("source", "--max-unreadable", 1)
    manifest = make("source", "--max-unreadable", 2)
    assert manifest.train.images == 10
    assert "note: 2 train images cannot be used" in capsys.readouterr().out
    said = (tmp_path / "out/train_unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[1] for line in said] == ["no whole image"] * 2
    assert content(tmp_path / "out", "train").items() < expected("train").items()


def test_a_data_set_that_is_not_whole_is_refused(tmp_path):
    per_class(tmp_path / "source")
    make("source")
    with open("out/train_lmdb/data.mdb", "ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="train_lmdb is missing or not whole: make out anew"):
        read_manifest("out")
    text = (tmp_path / "out/manifest.json").read_text()
    (tmp_path / "out/manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match="manifest.json is damaged"):
        read_manifest("out")
    with pytest.raises(UserError, match="source is not a data set.*acu data adopt source"):
        read_manifest("source")
