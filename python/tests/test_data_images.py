"""acu data images: every layout, kind of file and size that people have, against the pixels they were made from."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import data_samples as samples
import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.data import annotations, building, datum, images, layouts
from active_convolution.data.folder import check_manifest
from active_convolution.data.images import Files, ImageOptions
from active_convolution.errors import BadValue, UserError
from limits import at_once
from test_data_database import records
from test_data_places import _exif

pytestmark = pytest.mark.slow

CLASSES = ["ant", "bee", "cat"]
TRAIN, TEST = 4, 2  # images of each class


def picture(number, height=12, width=16):
    """(H, W, 3) uint8, BGR, another one for each number."""
    return np.random.RandomState(number).randint(0, 256, (height, width, 3), np.uint8)


def everything():
    """(part, class, number within the part, the picture's number) of the made set."""
    return [
        (
            part,
            label,
            index * len(CLASSES) + place,
            100 * (part == "test") + index * len(CLASSES) + place,
        )
        for part, count in (("train", TRAIN), ("test", TEST))
        for index in range(count)
        for place, label in enumerate(CLASSES)
    ]


def write(path, image, *parameters):
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix.lower(), image, parameters)
    assert done
    path.write_bytes(data.tobytes())


def make(output, source, list=None, val_source=None, val_list=None, **options):
    val = Files(val_source or source, val_list) if val_source or val_list else None
    return images.create(
        output, Files(source, list), val, ImageOptions(**{"jobs": 1, "encode": "png", **options})
    )


def content(folder, split):
    """{pixels: label} of one part."""
    return {
        datum.pixels(record).tobytes(): record.label
        for _, record in records(folder / f"{split}_lmdb")
    }


def expected(part, of=CLASSES):
    return {
        picture(number).transpose(2, 0, 1).tobytes(): of.index(label)
        for where, label, _, number in everything()
        if where == part
    }


def assert_is_sample(folder):
    manifest = check_manifest(folder)
    for part in ("train", "test"):
        assert content(folder, part) == expected(part)
        assert manifest[part]["shape"] == [3, 12, 16]
    assert (
        manifest["train"]["images_per_class"] == [TRAIN] * 3
        and manifest["test"]["images_per_class"] == [TEST] * 3
    )
    assert manifest["classes"] == 3
    return manifest


# ---- Layouts


def per_class(folder, train="train", test="test", suffix=".png", below=""):
    for part, label, index, number in everything():
        write(
            folder / (train if part == "train" else test) / label / below / f"{index}{suffix}",
            picture(number),
        )
    return folder


def kaggle(folder, heading=("id", "label"), suffix="", separator=","):
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        rows = []
        for where, label, index, number in everything():
            if where == part:
                write(folder / part / f"{index}.png", picture(number))
                rows.append((f"{index}{suffix}", label))
        with open(folder / f"{part}Labels.csv", "w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, delimiter=separator).writerows(([heading] if heading else []) + rows)
    (folder / "sampleSubmission.csv").write_text(
        "id,label\n" + "".join(f"{number},cat\n" for number in range(6))
    )
    return folder


def unpacked(folder):
    """As archives unpack that are called as the folder in them."""
    kaggle(folder)
    for part in ("train", "test"):
        (folder / part).rename(folder / "moved")
        (folder / part).mkdir()
        (folder / "moved").rename(folder / part / part)
    return folder


def tables_apart(folder):
    """The tables in a folder of their own."""
    kaggle(folder)
    (folder / "labels").mkdir()
    for table in folder.glob("*.csv"):
        table.rename(folder / "labels" / table.name)
    return folder


def darknet(folder):
    for part, label, index, number in everything():
        write(folder / part / f"{index}_{label}.png", picture(number))
    return folder


def tiny_imagenet(folder):
    annotations = []
    for part, label, index, number in everything():
        if part == "train":
            write(folder / "train" / label / "images" / f"{label}_{index}.png", picture(number))
        else:
            write(folder / "val" / "images" / f"val_{index}.png", picture(number))
            write(folder / "test" / "images" / f"test_{index}.png", picture(number + 500))
            annotations.append(f"val_{index}.png\t{label}\t0\t0\t10\t10\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    (folder / "wnids.txt").write_text("\n".join(CLASSES))
    return folder


LAYOUTS = {
    "per_class": per_class,
    "upper": lambda folder: per_class(folder, "TRAIN", "Test", ".PNG"),
    "val": lambda folder: per_class(folder, "training", "val"),
    "valid": lambda folder: per_class(folder, "train", "valid"),
    "validation": lambda folder: per_class(folder, "Train", "Validation"),
    "bmp": lambda folder: per_class(folder, suffix=".bmp"),
    "deeper": lambda folder: per_class(folder, below="a/b"),
    "below": lambda folder: per_class(folder / "set" / "of mine").parents[1],
    "kaggle": kaggle,
    "kaggle with names": lambda folder: kaggle(folder, ("Image", "Category"), ".png", ";"),
    "kaggle without a heading": lambda folder: kaggle(folder, None),
    "kaggle unpacked": unpacked,
    "kaggle with tables apart": tables_apart,
    "unpacked": lambda folder: per_class(folder, "train/train", "test/test"),
    "darknet": darknet,
    "tiny_imagenet": tiny_imagenet,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    LAYOUTS[layout](tmp_path / "source")
    make(tmp_path / "out", tmp_path / "source")
    assert assert_is_sample(tmp_path / "out")["label_names"] == CLASSES


@pytest.mark.parametrize("packing", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
@pytest.mark.parametrize("layout", ["per_class", "kaggle", "tiny_imagenet"])
def test_archives(tmp_path, layout, packing):
    folder = LAYOUTS[layout](tmp_path / "source")
    archive = zipped(folder) if packing == ".zip" else samples.packed(folder, packing)
    make(tmp_path / "out", archive)
    assert_is_sample(tmp_path / "out")


def zipped(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


@pytest.mark.quick
def test_two_trees(tmp_path):
    per_class(tmp_path)
    make(tmp_path / "out", tmp_path / "train", val_source=tmp_path / "test")
    assert_is_sample(tmp_path / "out")


def write_lists(folder, slash="", mark=b""):
    for part in ("train", "test"):
        lines = [
            f"{slash}{part}/{label}/{index}.png {CLASSES.index(label)}\n"
            for where, label, index, _ in everything()
            if where == part
        ]
        (folder / f"{part}.txt").write_bytes(mark + "".join(lines).encode())


@pytest.mark.parametrize("slash, mark", [("", b""), ("/", b""), ("", b"\xef\xbb\xbf")])
def test_lists_of_convert_imageset(tmp_path, slash, mark):
    write_lists(per_class(tmp_path), slash, mark)
    (tmp_path / "names.txt").write_text("Ant\nHoney bee\nCat\n")
    make(
        tmp_path / "out",
        tmp_path,
        tmp_path / "train.txt",
        val_list=tmp_path / "test.txt",
        label_names=tmp_path / "names.txt",
    )
    assert assert_is_sample(tmp_path / "out")["label_names"] == ["Ant", "Honey bee", "Cat"]


LISTED = {  # how an image of the folder {root} is called in a list or a table, and the table's heading
    "with a dot": ("./{name}", "file,class"),
    "absolute": ("{root}/{name}", "filename,label"),
    "Windows'": ("{back}", "image,category"),
    "dot of Windows'": (".\\{back}", "image,category"),
    "UTF-16": ("{name}", "fname,class_id"),
    "unknown heading": ("{name}", "picture,what"),
    "no heading": ("{name}", None),
    "numbered": ("{name}", ",filename,label"),
}


@pytest.mark.parametrize("as_table", [False, True])
@pytest.mark.parametrize("way", LISTED)
def test_lists_as_people_write_them(tmp_path, way, as_table):
    source, (form, heading) = per_class(tmp_path / "source"), LISTED[way]
    files = {}
    for part in ("train", "test"):
        entries = [
            (
                form.format(
                    root=source,
                    name=f"{part}/{label}/{index}.png",
                    back=f"{part}\\{label}\\{index}.png",
                ),
                label,
            )
            for where, label, index, _ in everything()
            if where == part
        ]
        files[part] = tmp_path / f"{part}{'.csv' if as_table else '.txt'}"
        if as_table:
            numbered = heading is not None and heading.startswith(",")
            lines = ([heading] if heading else []) + [
                f"{f'{number},' if numbered else ''}{name},{label}"
                for number, (name, label) in enumerate(entries)
            ]
        else:
            lines = [f"{name} {CLASSES.index(label)}" for name, label in entries]
        files[part].write_text(
            "\r\n".join(lines) + "\n", encoding="utf-16" if way == "UTF-16" else None, newline=""
        )
    _, left = make(tmp_path / "out", source, files["train"], val_list=files["test"])
    assert_is_sample(tmp_path / "out")
    assert left == {}


def test_a_list_of_absolute_paths_starts_from_the_root(tmp_path):
    """As convert_imageset takes it, whose root folder is then /; which is not walked through."""
    source = per_class(tmp_path / "a/b/c/d/e/f/g")
    write_lists(source, slash=f"{source}/")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="lacks .*: give /$"):
        make(
            tmp_path / "out", tmp_path / "other", source / "train.txt", val_list=source / "test.txt"
        )
    make(tmp_path / "out", Path("/"), source / "train.txt", val_list=source / "test.txt")
    assert_is_sample(tmp_path / "out")


def test_lists_of_an_archives_images(tmp_path):
    source = per_class(tmp_path / "source")
    write_lists(source)
    lists = [shutil.copy(source / f"{part}.txt", tmp_path) for part in ("train", "test")]
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in source.rglob("*.png"):
            archive.write(file, file.relative_to(source))
    make(
        tmp_path / "out",
        tmp_path / "set.zip",
        tmp_path / "train.txt",
        val_list=tmp_path / "test.txt",
    )
    assert lists and assert_is_sample(tmp_path / "out")["label_names"] is None


def test_a_table_that_is_named(tmp_path):
    kaggle(tmp_path / "source")
    for part in ("train", "test"):
        (tmp_path / "source" / f"{part}Labels.csv").rename(tmp_path / f"{part}.csv")
    make(
        tmp_path / "out",
        tmp_path / "source" / "train",
        tmp_path / "train.csv",
        tmp_path / "source" / "test",
        tmp_path / "test.csv",
    )
    assert_is_sample(tmp_path / "out")


@pytest.mark.parametrize(
    "row, message",
    [
        ("train/cat/\0.png,cat", "row 7 is .*should have a file and its class"),
        ("train/cat/0.png,c\0t", "row 7 is .*should have a file and its class"),
        ("../outside.png,cat", "lists '../outside.png', which leads out of the folder of images"),
        (
            r"train\..\..\outside.png,cat",
            "lists 'train/../../outside.png', which leads out of the folder of images",
        ),
    ],
)
def test_a_table_of_names_that_no_image_has(tmp_path, row, message):
    source = per_class(tmp_path / "source")
    write(tmp_path / "outside.png", picture(0))
    rows = [f"{part}/{label}/{index}.png,{label}" for part, label, index, _ in everything()][:6]
    (tmp_path / "table.csv").write_text("\n".join(["file,class", *rows, row]))
    with pytest.raises(UserError, match=message):
        make(tmp_path / "out", source, tmp_path / "table.csv", test_share=0.5)
    assert not (tmp_path / "out").exists()


def test_a_share_is_drawn_of_every_class_by_the_seed(tmp_path):
    per_class(tmp_path)
    every = {**expected("train")}
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        manifest, _ = make(tmp_path / name, tmp_path / "train", test_share=0.3, seed=seed)
        assert (
            manifest["test"]["images_per_class"] == [1] * 3
            and manifest["train"]["images_per_class"] == [3] * 3
        )
        assert {**content(tmp_path / name, "train"), **content(tmp_path / name, "test")} == every
        found.append(content(tmp_path / name, "test"))
    assert found[0] == found[1] != found[2]


def test_what_is_passed_over_is_counted(tmp_path):
    source = per_class(tmp_path / "source", test="valid")
    write(source / "train" / ".ipynb_checkpoints" / "0-checkpoint.png", picture(1))
    write(source / "train" / "ant" / "._0.png", picture(1))
    write(source / "__MACOSX" / "train" / "ant" / "0.png", picture(1))
    write(source / "test" / "0.png", picture(1))
    write(source / "figures" / "a.png", picture(1))
    (source / "train" / "ant" / "Thumbs.db").write_bytes(b"")
    os.mkfifo(source / "train" / "ant" / "pipe.png")
    _, left = make(tmp_path / "out", source)
    assert_is_sample(tmp_path / "out")
    assert left == {
        "hidden": 3,
        "that are no images": 1,
        "that are no regular files": 1,
        "outside of train and test": 1,
        "in test, which says nothing of their classes": 1,
    }


# ---- Files


def written(tmp_path, *files, **options):
    """The pixels (N, 3, H, W) of the images ``files``, bytes, in their order, after a class of others."""
    for index, data in enumerate(files):
        path = tmp_path / "source" / "a" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for index in range(2):
        write(tmp_path / "source" / "b" / f"{index}.png", picture(index))
    make(
        tmp_path / "out",
        tmp_path / "source",
        val_source=tmp_path / "source" / ".." / "source",
        **options,
    )
    names = sorted(f"a/{index}.png" for index in range(len(files)))
    by_name = {}
    order = np.random.RandomState(0).permutation(len(files) + 2)
    for key, record in records(tmp_path / "out" / "train_lmdb"):
        by_name[order[int(key)]] = datum.pixels(record)
    return [by_name[names.index(f"a/{index}.png")] for index in range(len(files))]


def encoded(suffix, image, *parameters):
    return cv2.imencode(suffix, image, parameters)[1].tobytes()


@pytest.mark.quick
def test_kinds_of_files(tmp_path):
    import io

    from PIL import Image

    image, grey = picture(3), picture(4)[:, :, 0]

    def pillow(mode, **options):
        file = io.BytesIO()
        Image.fromarray(image[:, :, ::-1]).convert(mode).save(file, **options)
        return file.getvalue()

    palette = np.array(Image.open(io.BytesIO(pillow("P", format="PNG"))).convert("RGB"))[:, :, ::-1]
    kinds = [
        (encoded(".png", image), image),
        (encoded(".bmp", image), image),
        (encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101), image),
        (encoded(".png", grey), grey[:, :, None].repeat(3, axis=2)),
        (encoded(".png", np.dstack([image, grey])), image),
        (encoded(".png", image.astype(np.uint16) * 257), image),
        (pillow("P", format="PNG"), palette),
    ]
    for found, (_, wanted) in zip(written(tmp_path, *(data for data, _ in kinds)), kinds):
        np.testing.assert_array_equal(found.transpose(1, 2, 0), wanted)


def test_cmyk_looks_as_it_should(tmp_path):
    import io

    from PIL import Image

    file = io.BytesIO()
    colour = np.zeros((12, 16, 3), np.uint8) + np.array([200, 60, 20], np.uint8)  # red, green, blue
    Image.fromarray(colour).convert("CMYK").save(file, format="JPEG", quality=95)
    (found,) = written(tmp_path, file.getvalue())
    np.testing.assert_allclose(found.mean(axis=(1, 2)), [20, 60, 200], atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(tmp_path, orientation):
    """By the definition of EXIF: what the sensor's first row and column are in the upright image."""
    grey = picture(5, 3, 4)[:, :, :1].repeat(3, axis=2)  # JPEG stores colours coarsely
    upright = cv2.resize(grey, (16, 12), interpolation=cv2.INTER_NEAREST)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    data = encoded(".jpg", np.ascontiguousarray(stored), cv2.IMWRITE_JPEG_QUALITY, 100)
    (found,) = written(tmp_path, data[:2] + _exif(orientation) + data[2:])
    assert np.abs(found.transpose(1, 2, 0).astype(int) - upright).mean() < 3


@pytest.mark.parametrize("encode", ["jpeg", "png", "raw"])
def test_what_is_stored(tmp_path, encode):
    per_class(tmp_path)
    manifest, _ = make(tmp_path / "out", tmp_path, encode=encode, size=(16, 12))
    assert content(tmp_path / "out", "train") == expected(
        "train"
    )  # PNG files of that size stay, or are their pixels
    make(tmp_path / "small", tmp_path, encode=encode, size=(8, 6))
    starts = {record.data[:2] for _, record in records(tmp_path / "small" / "train_lmdb")}
    assert (
        starts == {b"\xff\xd8"}
        if encode == "jpeg"
        else starts == {b"\x89P"}
        if encode == "png"
        else len(starts) > 3
    )
    assert manifest["train"]["images"] == 12


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("width, height", [(8, 8), (40, 20), (16, 12), (5, 12), (1, 1), (3, 64)])
def test_resizing(resize, width, height):
    image = np.full((12, 16, 3), 200, np.uint8)
    recipe = datum.Recipe(width, height, resize, "raw", smooth=True)
    found = datum.resized(image, recipe)
    assert found.shape == (height, width, 3) and set(np.unique(found)) <= {0, 200}
    covered = found[:, :, 0] == 200
    if resize != "pad":
        assert covered.all()
    else:
        rows, columns = covered.any(axis=1).sum(), covered.any(axis=0).sum()
        assert rows == height or columns == width
        assert abs(rows - 12 * columns / 16) <= 1 or min(rows, columns) == 1
        assert (
            np.array_equal(covered, covered[::-1, ::-1])
            or (height - rows) % 2
            or (width - columns) % 2
        )


@pytest.mark.quick
def test_cropping_takes_the_middle():
    image = picture(0)
    np.testing.assert_array_equal(
        datum.resized(image, datum.Recipe(12, 12, "crop")), image[:, 2:14]
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    "width, height, recipe, expected",
    [
        (
            1,
            20_000,
            datum.Recipe(4096, 4096, "crop"),
            "1x20000 pixels, too narrow to be cropped to 4096x4096",
        ),
        (70_000, 2, datum.Recipe(70_000, 2, None), "70000x2 pixels, more than a JPEG can have"),
    ],
)
def test_an_image_of_an_impossible_shape_is_passed_over(width, height, recipe, expected):
    bitmap = cv2.imencode(".bmp", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    assert datum.from_file(bitmap, 0, recipe) == expected


def test_the_mean(tmp_path):
    per_class(tmp_path)
    manifest, _ = make(tmp_path / "out", tmp_path, mean=True)
    mean = np.mean(
        [picture(number) for part, _, _, number in everything() if part == "train"], axis=0
    )
    np.testing.assert_allclose(
        manifest["preprocessing"]["mean_value"], mean.mean(axis=(0, 1)), atol=1e-3
    )
    blob = locate.caffe_pb2().BlobProto.FromString(
        (tmp_path / "out" / "mean.binaryproto").read_bytes()
    )
    found = np.reshape(blob.data, (blob.channels, blob.height, blob.width))
    np.testing.assert_allclose(found.transpose(1, 2, 0), mean, atol=1e-3)


def test_whitening_is_that_of_cifar(tmp_path):
    from active_convolution.data.create import create

    source = tmp_path / "cifar"
    samples.write_tree(source, "cifar10")
    make(tmp_path / "out", source, gcn_zca=True)
    create("cifar10", tmp_path / "cifar10", source)

    def found(folder, split):
        return sorted(
            (record.label, *np.round(datum.pixels(record).ravel(), 3))
            for _, record in records(folder / f"{split}_lmdb")
        )

    for split in ("train", "test"):
        np.testing.assert_allclose(
            found(tmp_path / "out", split), found(tmp_path / "cifar10", split), atol=2e-3
        )
    assert not list((tmp_path / "out").glob("*_pixels"))
    check_manifest(tmp_path / "out")


# ---- Interruptions


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
    archive = zipped(per_class(tmp_path / "source"))
    monkeypatch.setattr(building, "write_manifest", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", archive)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    monkeypatch.setattr(
        datum, "from_file", None
    )  # nothing is left to convert, but for the estimate of the space
    monkeypatch.setattr(building, "space", lambda *_: 0)
    make(tmp_path / "out", archive)
    assert_is_sample(tmp_path / "out")


def _interrupt(*_):
    raise KeyboardInterrupt


def test_other_options_do_not_go_on(tmp_path, monkeypatch):
    per_class(tmp_path)
    monkeypatch.setattr(building, "write_manifest", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match="was begun with --encode png, not jpeg"):
        make(tmp_path / "out", tmp_path, encode="jpeg")


# ---- What is refused


def one_class(folder):
    shutil.rmtree(folder / "train" / "bee")
    shutil.rmtree(folder / "train" / "cat")
    shutil.rmtree(folder / "test" / "bee")
    shutil.rmtree(folder / "test" / "cat")
    return "images of 1 class: give 2"


def unknown_test_class(folder):
    (folder / "test" / "cat").rename(folder / "test" / "dog")
    return "images of the class dog, and there are no training images of it"


def no_test_part(folder):
    shutil.rmtree(folder / "test")
    return "no images to test on: give --val-source, or --test-share"


def several_sizes(folder):
    write(folder / "train" / "ant" / "0.png", picture(0, 13, 16))
    return "several sizes .*16x12, 16x13.*: give --size"


def nothing(folder):
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    return "holds no images of known classes: give train/<class>"


def two_sets(folder):
    shutil.copytree(folder, folder / "copy")
    return r"more than one set of images \(in ., copy\): give one"


def unreadable(folder):
    for path in (folder / "train" / "ant").iterdir():
        path.write_bytes(b"no image")
    return "4 images in .* cannot be read, listed in .*train_unreadable.txt"


@pytest.mark.parametrize(
    "spoil",
    [one_class, unknown_test_class, no_test_part, several_sizes, nothing, two_sets, unreadable],
)
def test_what_is_refused(tmp_path, spoil):
    source = per_class(tmp_path / "source")
    message = spoil(source)
    with pytest.raises(UserError, match=message) as error:
        make(tmp_path / "out", source, max_unreadable=3)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"test_share": 0.2}, "--test-share is for images without a test part"),
        ({"mean": True, "gcn_zca": True}, "exclude each other"),
        ({"test_share": 1.5}, "--test-share 1.5 is out of range"),
        ({"resize": "twist"}, "--resize twist"),
        ({"size": (0, 5)}, "--size 0x5 is out of range"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    per_class(tmp_path / "source")
    with pytest.raises(BadValue, match=message):
        make(tmp_path / "out", tmp_path / "source", **options)


@pytest.mark.parametrize(
    "names, message",
    [
        ("ant\nbee\n", "class cat, and .* does not name it"),
        ("ant\nbee\ncat\ndog\n", "no training images of the class dog"),
        ("ant\nbee\nant\n", "names ant twice"),
        ("", "names no class"),
        ("ant\nbee\nc\0at\n", "is no text"),
    ],
)
def test_names_that_do_not_fit(tmp_path, names, message):
    per_class(tmp_path / "source")
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(UserError, match=message):
        make(tmp_path / "out", tmp_path / "source", label_names=tmp_path / "names.txt")


@pytest.mark.quick
@pytest.mark.parametrize(
    "lines",
    [
        "ant one\nant two\nbee\ncat",
        "ant\nant two\nbee one\ncat",
        "dog one\ndog two\nbee\nant\ncat\nant a",
    ],
)
def test_names_that_describe_a_class_twice(tmp_path, lines):
    (tmp_path / "names.txt").write_text(lines)
    found = images._Found([(f"{name}.png", name) for name in CLASSES], [], "source", "", {})
    with pytest.raises(
        UserError,
        match="names.txt names ant twice: give one class a line, in the order of the labels",
    ):
        images._names(found, False, tmp_path / "names.txt")


@pytest.mark.quick
def test_many_names_of_which_the_last_comes_twice(tmp_path):
    """Each is looked up, not looked for."""
    (tmp_path / "names.txt").write_text("\n".join([*map(str, range(400_000)), "399999"]))
    with at_once(), pytest.raises(UserError, match="names.txt names 399999 twice"):
        annotations.read_names(tmp_path / "names.txt")


def test_names_give_the_order_and_words(tmp_path):
    per_class(tmp_path / "source")
    (tmp_path / "names.txt").write_text("cat domestic cat\nant red ant, soldier\nbee\n")
    manifest, _ = make(tmp_path / "out", tmp_path / "source", label_names=tmp_path / "names.txt")
    assert manifest["label_names"] == ["domestic cat", "red ant, soldier", "bee"]
    assert content(tmp_path / "out", "train") == expected("train", ["cat", "ant", "bee"])


def test_names_may_describe_other_classes_too(tmp_path):
    """As words.txt of Tiny ImageNet, which has all of WordNet."""
    tiny_imagenet(tmp_path / "source")
    (tmp_path / "words.txt").write_text(
        "aaa\tan aardvark\nant\tant, emmet\nbee\tbee\nbeetle\tbeetle\ncat\tcat, true cat\n"
    )
    manifest, _ = make(tmp_path / "out", tmp_path / "source", label_names=tmp_path / "words.txt")
    assert (
        manifest["label_names"] == ["ant, emmet", "bee", "cat, true cat"]
        and manifest["classes"] == 3
    )
    assert content(tmp_path / "out", "test") == expected("test")


def test_names_that_are_no_utf8(tmp_path):
    """The report of what cannot be read names them in their own bytes."""
    source = os.fsencode(per_class(tmp_path / "source"))
    odd = b"caf\xe9.png"
    with open(os.path.join(source, b"train", b"ant", odd), "wb") as file:
        file.write(b"no image")
    os.rename(os.path.join(source, b"train", b"bee"), os.path.join(source, b"train", b"b\xe9e"))
    os.rename(os.path.join(source, b"test", b"bee"), os.path.join(source, b"test", b"b\xe9e"))
    manifest, _ = make(tmp_path / "out", tmp_path / "source")
    assert (
        b"train/ant/" + odd + b"\tno whole image\n"
        == (tmp_path / "out" / "train_unreadable.txt").read_bytes()
    )
    assert os.fsencode(check_manifest(tmp_path / "out")["label_names"][1]) == b"b\xe9e"
    assert manifest["train"]["unreadable"] == 1


def acu(folder, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "active_convolution", "data", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_command(tmp_path):
    tiny_imagenet(tmp_path / "tiny")
    done = acu(
        tmp_path,
        "images",
        "--source",
        "tiny",
        "--size",
        "8x8",
        "--resize",
        "pad",
        "--mean",
        "--output",
        "out",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "3 classes: ant, bee, cat\npassed over: 6 in test, which says nothing of their classes, 2 that are "
        "no images\nimages: 12 training and 6 test images, 0 MB, in out\n"
    )


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        ("images --output out", 2, "images needs --source"),
        ("images --source pipe --output out", 1, "pipe is no regular file"),
        ("images --source /dev/zero --output out", 1, "/dev/zero is no regular file"),
        ("images --source tiny --list pipe --output out", 1, "pipe is no regular file"),
        ("images --source tiny --list /dev/zero --output out", 1, "/dev/zero is no regular file"),
        ("images --source nowhere --output out", 1, "nowhere does not exist"),
        ("images --source tiny --size 8 --output out", 2, "8 is no size"),
        ("images --source tiny --test-share 2 --output out", 2, "2 is no share"),
        ("images --source tiny", 2, "--output is missing"),
        ("cifar10 --source pipe --output out", 1, "pipe is no regular file"),
        ("cifar10 tiny --output out", 2, "tiny is for adopt only"),
        (
            "cifar10 --source in --size 8x8 --output out",
            2,
            "--size is for digits and images and adopt only",
        ),
    ],
)
def test_command_refuses_in_one_line(tmp_path, arguments, status, message):
    tiny_imagenet(tmp_path / "tiny")
    os.mkfifo(tmp_path / "pipe")
    done = acu(tmp_path, *arguments.split())
    assert (done.returncode, done.stdout) == (status, "")
    assert (
        done.stderr.startswith("error: ")
        and message in done.stderr
        and done.stderr.count("\n") == 1
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "tiny"]


@pytest.mark.parametrize("odd", ["pipe", "zero", "sparse"])
def test_what_is_no_file_is_no_image(tmp_path, odd):
    """Listed: a pipe would wait for ever, and /dev/zero never end."""
    per_class(tmp_path)
    write_lists(tmp_path)
    path = tmp_path / "train" / "ant" / "0.png"
    path.unlink()
    if odd == "pipe":
        os.mkfifo(path)
    elif odd == "zero":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**40)
    manifest, _ = make(
        tmp_path / "out",
        tmp_path,
        tmp_path / "train.txt",
        val_list=tmp_path / "test.txt",
        size=(16, 12),
    )
    assert manifest["train"]["unreadable"] == 1
    assert (
        "train/ant/0.png\tno regular file"
        in (tmp_path / "out" / "train_unreadable.txt").read_text()
    )


def test_places_of_100_classes(tmp_path):
    from active_convolution.data import places

    for part in ("train", "val"):
        lines = []
        for label in range(100):
            write(tmp_path / part / f"{label}.jpg", picture(label))
            lines.append(f"/{label}.jpg {label}\n")
        (tmp_path / f"{part}.txt").write_bytes(
            b"\xef\xbb\xbf" * (part == "train") + "".join(lines).encode()
        )
    (tmp_path / "val.txt").write_text((tmp_path / "val.txt").read_text() + "\n")
    manifest = places.create(
        tmp_path / "out",
        places.PlacesPart(tmp_path / "train", tmp_path / "train.txt"),
        places.PlacesPart(tmp_path / "val", tmp_path / "val.txt"),
        places.Options(jobs=1),
    )
    assert manifest["classes"] == 100 and manifest["train"]["images"] == 100
    assert manifest["train"]["images_per_class"] == [1] * 100 and json.dumps(manifest)


@pytest.mark.quick
def test_classes_that_are_numbers_of_any_length():
    assert layouts.in_order({"10", "9", "010", "1"}) == ["1", "9", "010", "10"]
    assert layouts.in_order({"10", "9", "7" * 5000}) == ["10", "7" * 5000, "9"]


class _Tables:
    """A source of images and a table beside each, of whatever ``rows`` (place) says."""

    def __init__(self, count, rows):
        self.path, self._rows, self.was_read = Path("source"), rows, 0
        self.names = [f"{place}.{ending}" for place in range(count) for ending in ("png", "csv")]

    def read(self, names):
        self.was_read += len(names)
        return [(name, self._rows(int(name.partition(".")[0])).encode()) for name in names]


@pytest.mark.quick
def test_a_table_beside_each_image(monkeypatch):
    """Each is looked at once, and not all images for each."""
    looked = []
    monkeypatch.setattr(
        layouts,
        "resolved",
        lambda rows, *_, of=layouts.resolved: looked.append(rows) or of(rows, *_),
    )
    assert (
        layouts.find(_Tables(1000, lambda place: f"file,class\nbox{place},cat\n")) == []
        and not looked
    )
    source = _Tables(1000, lambda place: f"file,class\n{place}.png,cat\n")
    assert layouts.find(source)[0].train == [("0.png", "cat")] and (
        len(looked),
        source.was_read,
    ) == (1, 1)
    source = _Tables(
        1000,
        lambda place: (
            f"file,class\n{place}.png,cat\n" if place == 7 else "file,class\nb/a.png,dog\n"
        ),
    )
    assert layouts.find(source)[0].train == [("7.png", "cat")] and len(looked) == 2


def test_layouts_draw_the_same_share():
    labels = np.array([0] * 10 + [1] * 5 + [2])
    mask = layouts.drawn(labels, 0.2, 0)
    assert np.bincount(labels[mask], minlength=3).tolist() == [2, 1, 0]
