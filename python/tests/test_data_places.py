"""Places365 from a made tree of images: against Caffe's convert_imageset, and through kills, damage and full disks."""

import contextlib
import fcntl
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.data import building, database, datum, listed_images, places, sources
from active_convolution.data.folder import check_manifest, partial_folder
from active_convolution.errors import UserError
from active_convolution.look import evaluation
from active_convolution.training.trained import Trained
from limits import at_once, limited
from test_data_database import records

pytestmark = pytest.mark.slow

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
    image = cv2.resize(
        random.randint(0, 256, (9, 12, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if label == GREY else image
    data = cv2.imencode(".png" if label == PNG else ".jpg", image)[1].tobytes()
    if label in (TURNED, TURNED_SQUARE):
        data = data[:2] + _exif(orientation=6) + data[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _exif(orientation):
    """A JPEG segment with one EXIF entry, the orientation."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + b"\x00\x00"
    body = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01" + entry + b"\0\0\0\0"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


def make(tree, output, train=None, val=None, **options):
    return places.create(
        output,
        train or places.PlacesPart(tree / "data_256", tree / "data.txt"),
        val or places.PlacesPart(tree / "val_256", tree / "val.txt"),
        places.Options(**{"jobs": 2, **options}),
    )


@pytest.fixture(scope="module")
def encoded(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "encoded"
    make(tree, folder)
    return folder


@pytest.fixture(scope="module")
def raw(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "raw"
    make(tree, folder, raw=True)
    return folder


@pytest.fixture(scope="module")
def expected(tree, tmp_path_factory):
    """What Caffe's own tool makes of both lists: {split: (N, 3, 256, 256)}, by label."""
    tool = locate.BUILD / "out" / "tools" / "convert_imageset"
    result = {}
    for split, part in (("train", "data"), ("test", "val")):
        path = tmp_path_factory.mktemp("caffe") / "db"
        subprocess.run(
            [
                tool,
                "--resize_width=256",
                "--resize_height=256",
                f"{tree / part}_256/",
                tree / f"{part}.txt",
                path,
            ],
            check=True,
            capture_output=True,
        )
        result[split] = np.array(
            [
                np.frombuffer(record.data, np.uint8).reshape(3, 256, 256)
                for _, record in records(path)
            ]
        )
    return result


def by_label(folder, split):
    result = {record.label: record for _, record in records(folder / f"{split}_lmdb")}
    return [result[label] for label in sorted(result)]


def content(folder):
    """All that training sees."""
    return {split: database.checksum(folder / f"{split}_lmdb") for split in ("train", "test")}


def test_raw_records_are_those_of_convert_imageset(raw, expected):
    for split, images in expected.items():
        written = by_label(raw, split)
        assert len(written) == len(images) and not any(record.encoded for record in written)
        for record, image in zip(written, images):
            np.testing.assert_array_equal(datum.pixels(record), image)


@pytest.mark.quick
def test_files_of_the_right_size_are_kept_as_they_are(tree, encoded):
    written = by_label(encoded, "train")
    names = [line.split()[0] for line in (tree / "data.txt").read_text().splitlines()]
    kept = [
        label
        for label in range(TRAIN)
        if (tree / f"data_256{names[label]}").read_bytes() == written[label].data
    ]
    assert sorted({*range(TRAIN)} - {*kept}) == [*ODD, GREY, TURNED, TURNED_SQUARE]
    assert all(
        record.encoded and (record.channels, record.height, record.width) == (3, 256, 256)
        for record in written
    )


def _through_caffe(folder, split, tmp_path):
    """What Caffe's Data layer reads: images and labels, sorted by label."""
    caffe = locate.caffe()
    count = {"train": TRAIN, "test": VAL}[split]
    (tmp_path / "net.prototxt").write_text(f'''
        layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{
                   crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123 }}
                 data_param {{ source: "{folder / f"{split}_lmdb"}" backend: LMDB batch_size: {count} }} }}''')
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    blobs = net.forward()
    order = np.argsort(blobs["label"])
    return blobs["data"][order], blobs["label"][order]


@pytest.mark.parametrize("split", ["train", "test"])
def test_caffe_reads_both_forms(raw, encoded, expected, tmp_path, split):
    middle = (
        expected[split][:, :, 14:241, 14:241].astype(np.float32)
        - np.array([104, 117, 123])[:, None, None]
    )
    images, labels = _through_caffe(raw, split, tmp_path)
    assert labels.tolist() == list(range(len(middle)))
    np.testing.assert_array_equal(images, middle)
    images, labels = _through_caffe(encoded, split, tmp_path)
    assert labels.tolist() == list(range(len(middle)))
    anew = [*ODD, GREY, TURNED, TURNED_SQUARE]  # encoded once more
    same = np.setdiff1d(labels, anew).astype(int)
    np.testing.assert_array_equal(images[same], middle[same])
    assert 0 < np.abs(images[anew] - middle[anew]).mean() < 2


def test_evaluation_sees_what_caffe_sees(encoded, tmp_path):
    """A network of made weights: the error of evaluate against the accuracy that Caffe's own layers give."""
    caffe = locate.caffe()
    body = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
                      pooling_param { pool: AVE kernel_size: 64 stride: 64 } }
              layer { name: "score" type: "InnerProduct" bottom: "pool" top: "score"
                      inner_product_param { num_output: 40 weight_filler { type: "gaussian" std: 1 } } }"""
    (tmp_path / "deploy.prototxt").write_text(
        """layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 5 dim: 3 dim: 256 dim: 256 } } }"""
        + body
    )
    (tmp_path / "test.prototxt").write_text(
        f'''layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{encoded / "test_lmdb"}" backend: LMDB batch_size: {VAL} }} }}'''
        + body
        + """
        layer { name: "top5" type: "Accuracy" bottom: "score" bottom: "label" top: "top5"
                accuracy_param { top_k: 5 } }"""
    )
    net = caffe.Net(str(tmp_path / "test.prototxt"), caffe.TEST)
    net.forward()
    images, labels = net.blobs["pool"].data.reshape(VAL, -1), net.blobs["label"].data.astype(int)
    net.params["score"][0].data[:VAL] = (
        100 * (images - images.mean(axis=0))[np.argsort(labels)]
    )  # mostly right
    net.params["score"][0].data[1] *= -1  # one is wrong
    net.save(str(tmp_path / "net.caffemodel"))
    trained = caffe.Net(
        str(tmp_path / "test.prototxt"), str(tmp_path / "net.caffemodel"), caffe.TEST
    )
    accuracy = float(trained.forward()["top5"])
    _, top5, count = evaluation.evaluate(
        Trained.of_files(tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"),
        encoded,
        batch=5,
    )
    assert 0 < accuracy < 1 and count == VAL
    assert top5 == pytest.approx(100 - 100 * accuracy)


def test_manifest_tells_what_is_there(encoded, raw):
    for folder in (encoded, raw):
        manifest = check_manifest(folder)
        assert manifest["dataset"] == "places365" and manifest["source"] == "data.txt and val.txt"
        assert manifest["classes"] == TRAIN and manifest["label_names"] is None
        for split, count in (("train", TRAIN), ("test", VAL)):
            part = manifest[split]
            assert (
                part["images"] == count
                and part["unreadable"] == 0
                and part["shape"] == [3, 256, 256]
            )
            assert part["images_per_class"] == [1] * count + [0] * (TRAIN - count)
            assert part["sha256"] == content(folder)[split]
        assert sorted(path.name for path in folder.iterdir()) == [
            "manifest.json",
            "settings.json",
            "test_lmdb",
            "train_lmdb",
        ]
        assert not folder.with_name(f"{folder.name}.partial").exists()


def test_the_seed_alone_decides_the_order(tree, encoded, tmp_path):
    def labels(folder):
        return [record.label for _, record in records(folder / "train_lmdb")]

    make(tree, tmp_path / "same", jobs=1)
    make(tree, tmp_path / "other", seed=1)
    assert content(tmp_path / "same") == content(encoded)
    assert labels(encoded) != labels(tmp_path / "other") != list(range(TRAIN)) != labels(encoded)


def _killed(moment, number, tree, output, jobs):
    """Makes ``output`` in a process that is killed at its ``number``th call of ``moment`` (owner, attribute)."""
    owner, attribute = moment
    original, calls = getattr(owner, attribute), []

    def fatal(*arguments, **options):
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    def run():
        setattr(owner, attribute, fatal)
        make(tree, output, jobs=jobs)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize(
    "moment, number, there",
    [
        ((json, "dump"), 1, None),  # the settings
        ((lmdb, "open"), 1, 0),
        ((listed_images._Writer, "_commit"), 1, 0),
        ((listed_images._Writer, "_committed"), 6, 10),
        ((listed_images._Writer, "put"), 30, 28),
        ((listed_images._Writer, "put"), TRAIN + 5, TRAIN + 4),
        ((database, "checksum"), 1, TRAIN),
        ((building, "write_manifest"), 1, TRAIN + VAL),
        ((Path, "rename"), 2, TRAIN + VAL),
    ],
)  # the first makes the folder with the settings
def test_a_killed_run_is_finished_and_not_started_over(
    tree, encoded, tmp_path, monkeypatch, moment, number, there
):
    monkeypatch.setattr(listed_images, "_CHUNK", 3)
    monkeypatch.setattr(
        listed_images, "_TRANSACTION", 2 * min(_sizes(encoded))
    )  # two records, or one
    output = tmp_path / "out"
    assert _killed(moment, number, tree, output, jobs=2) == -signal.SIGKILL
    assert not output.exists()
    found = _records_there(tmp_path / "out.partial")
    assert (
        found is None
        if there is None
        else abs(found - there) <= there / 2 and (found > 0) == (there > 0)
    )
    converted = []
    monkeypatch.setattr(listed_images._Writer, "put", _noting(listed_images._Writer.put, converted))
    make(tree, output, jobs=3)
    assert content(output) == content(encoded)
    assert len(converted) == TRAIN + VAL - (found or 0)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["out"]


def _sizes(folder):
    with (
        lmdb.open(str(folder / "train_lmdb"), readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        return [len(value) for _, value in transaction.cursor()]


def _records_there(folder):
    """How many records the databases in ``folder`` hold, or None without a folder."""
    if not folder.exists():
        return None
    return sum(len(records(path)) for path in folder.glob("*_lmdb") if (path / "data.mdb").exists())


def _noting(function, calls):
    def noted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return noted


def test_workers_end_with_a_killed_parent(tree, tmp_path):
    """Else a second run would compete with what is left of the first."""
    workers_file = tmp_path / "workers"

    def die(*_):
        workers_file.write_text(" ".join(_children(os.getpid())))
        os.kill(os.getpid(), signal.SIGKILL)

    def run():
        listed_images._Writer.put = die
        make(tree, tmp_path / "out", jobs=2)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    workers = workers_file.read_text().split()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_worker_is_an_error(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(datum, "from_file", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="worker process was killed.*fewer --jobs"):
        make(tree, tmp_path / "out")


@pytest.fixture
def damaged(tree, tmp_path):
    """A copy of the tree with five images that cannot be read."""
    copy = tmp_path / "damaged"
    shutil.copytree(tree, copy)
    lines = (copy / "data.txt").read_text().splitlines()
    names = [copy / f"data_256{lines[label].split()[0]}" for label in (0, 10, 20, 30, 39)]
    names[0].unlink()
    names[1].write_bytes(b"")
    names[2].write_text("404 Not Found")
    names[3].write_bytes(names[3].read_bytes()[:-100])
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    segment = (
        b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    )  # its end mark is not the image's
    whole = names[4].read_bytes()
    names[4].write_bytes(whole[:2] + segment + whole[2:-100])
    return copy, [str(name.relative_to(copy / "data_256")) for name in names]


@pytest.mark.parametrize("raw", [False, True])
def test_unreadable_images_are_left_out_and_named(damaged, expected, tmp_path, raw):
    tree, names = damaged
    manifest = make(tree, tmp_path / "out", raw=raw)
    assert manifest["train"]["images"] == TRAIN - 5 and manifest["train"]["unreadable"] == 5
    assert manifest["train"]["images_per_class"][:12] == [0] + [1] * 9 + [0, 1]
    assert sorted(record.label for _, record in records(tmp_path / "out" / "train_lmdb")) == sorted(
        {*range(TRAIN)} - {0, 10, 20, 30, 39}
    )
    lines = (tmp_path / "out" / "train_unreadable.txt").read_text().splitlines()
    assert dict(line.split("\t") for line in lines) == {
        names[0]: "No such file or directory",
        **{name: "no whole image" for name in names[1:]},
    }
    assert not (tmp_path / "out" / "test_unreadable.txt").exists()


def test_an_unreadable_image_whose_name_is_no_utf_8(tree, tmp_path):
    copy = shutil.copytree(tree, tmp_path / "copy")
    listed = (copy / "data.txt").read_bytes()
    name = os.fsdecode(listed.splitlines()[10].split()[0])
    other = os.fsdecode(b"/\xff\xfe.jpg")
    (copy / "data.txt").write_bytes(
        listed.replace(os.fsencode(f"{name} "), os.fsencode(f"{other} "))
    )
    (copy / f"data_256{name}").rename(copy / f"data_256{other}")
    (copy / f"data_256{other}").write_bytes(b"none")
    assert make(copy, tmp_path / "out")["train"]["unreadable"] == 1
    assert (tmp_path / "out/train_unreadable.txt").read_bytes() == b"\xff\xfe.jpg\tno whole image\n"


def test_too_many_unreadable_images_stop_the_work_until_they_are_mended(
    damaged, tree, encoded, tmp_path
):
    copy, names = damaged
    with pytest.raises(
        UserError,
        match="5 images in .* cannot be read, listed in .*out.partial/train_unreadable.txt",
    ):
        make(copy, tmp_path / "out", max_unreadable=4)
    assert len((tmp_path / "out.partial" / "train_unreadable.txt").read_text().splitlines()) == 5
    assert not (tmp_path / "out").exists()
    for name in names:
        shutil.copy(tree / "data_256" / name, copy / "data_256" / name)
    make(copy, tmp_path / "out", max_unreadable=0)
    assert content(tmp_path / "out") == content(encoded)
    assert not (tmp_path / "out" / "train_unreadable.txt").exists()


def _cut(kept):
    return lambda file: os.truncate(file, kept if kept > 0 else file.stat().st_size + kept)


def _with_key(key):
    def spoil(file):
        with lmdb.open(str(file.parent)) as store, store.begin(write=True) as transaction:
            transaction.put(key, b"")

    return spoil


@pytest.mark.quick
@pytest.mark.parametrize(
    "spoil, reason",
    [
        (_cut(8192), "what reads it ends of it"),
        (_cut(-(2**15)), "what reads it ends of it"),
        (_cut(-4096), "what reads it ends of it"),
        (_cut(20), "LMDB says .*"),
        (lambda file: file.write_bytes(b"no LMDB" * 1000), "LMDB says .*"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:8192].ljust(2**20, b"\0")),
            "(LMDB says .*|what reads it ends of it)",
        ),
        (_with_key(b"00000040"), "it has the key b'00000040'"),
        (_with_key(b"1"), "it has the key b'1'"),
        (_with_key(b"train_12"), "it has the key b'train_12'"),
    ],
)
def test_a_begun_database_that_is_damaged_is_an_error(tmp_path, spoil, reason):
    """Read in this process, a file that was cut off would end it."""
    images = listed_images.image_list("list", [(f"{number}.png", 0) for number in range(40)])
    path = tmp_path / "out.partial" / "train_lmdb"
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**24, sync=False) as store:
        for number in range(20):
            with store.begin(write=True) as transaction:
                transaction.put(b"%08d" % number, bytes(20_000))
    arguments = path, images, sources.Folder(tmp_path), datum.Recipe(8, 8)
    with listed_images.Workers(1) as workers:
        assert (
            listed_images.write_images(*arguments, workers, 40).written.tolist()
            == [True] * 20 + [False] * 20
        )
    spoil(path / "data.mdb")
    with listed_images.Workers(1) as workers, pytest.raises(UserError) as error:
        listed_images.write_images(*arguments, workers, 40)
    assert re.fullmatch(
        f"{path} is damaged, {reason}: remove {path.parent} to start over", str(error.value)
    )


def test_a_list_of_which_nothing_can_be_read_is_an_error(tree, tmp_path):
    for split, part in (("train", "data"), ("test", "val")):
        copy = tmp_path / split
        shutil.copytree(tree, copy)
        for name in (line.split()[0] for line in (copy / f"{part}.txt").read_text().splitlines()):
            (copy / f"{part}_256" / name.lstrip("/")).write_bytes(b"no image")
        with pytest.raises(
            UserError,
            match=f"none of the .* images in .*{part}.txt can be read, listed in .*{split}_unr",
        ):
            make(copy, tmp_path / "out", max_unreadable=TRAIN)
        shutil.rmtree(tmp_path / "out.partial")
    assert not (tmp_path / "out").exists()


def test_a_list_of_which_nothing_is_there_is_an_error_before_the_work(tree, tmp_path):
    with pytest.raises(UserError, match="lacks 12 of the 12 images in .*val.txt"):
        make(
            tree,
            tmp_path / "out",
            val=places.PlacesPart(tree / "data_256", tree / "val.txt"),
            max_unreadable=TRAIN,
        )
    assert not any(tmp_path.iterdir())


def _limited_run(tree, output, size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        make(tree, output)
    except UserError as error:
        output.with_name("message").write_text(str(error))


def test_a_disk_that_takes_no_more_is_a_clear_error_and_can_be_resumed(
    tree, encoded, tmp_path, monkeypatch
):
    """A limit on the size of files stands in for the full disk: the same write fails."""
    monkeypatch.setattr(listed_images, "_TRANSACTION", 1)
    process = multiprocessing.get_context("fork").Process(
        target=_limited_run, args=(tree, tmp_path / "out", 2**17)
    )
    process.start()
    process.join()
    message = (tmp_path / "message").read_text()
    assert (
        "cannot write" in message
        and "run the same command again to go on" in message
        and "\n" not in message
    )
    assert _records_there(tmp_path / "out.partial") > 0
    monkeypatch.undo()
    make(tree, tmp_path / "out")
    assert content(tmp_path / "out") == content(encoded)


def test_too_small_a_disk_is_said_before_the_work(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(building.shutil, "disk_usage", lambda _: type("usage", (), {"free": 10**6}))
    with pytest.raises(
        UserError, match="out needs about 0.0 GB more, its disk has 0.0 GB free: store files"
    ):
        make(tree, tmp_path / "out", raw=True)


def test_the_estimate_of_the_space_is_close(tree, raw, encoded):
    images = listed_images.read_list(tree / "data.txt", 365)
    part = building.ImagePart(sources.Folder(tree / "data_256"), images)
    with listed_images.Workers(1) as workers:
        for folder, is_raw in ((raw, True), (encoded, False)):
            size = (folder / "train_lmdb" / "data.mdb").stat().st_size
            recipe = datum.Recipe(256, 256, encode="raw" if is_raw else "jpeg")
            assert building.space(part, recipe, workers) == pytest.approx(size, rel=0.1)


def test_the_map_grows_as_needed(tree, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(listed_images, "_FIRST_MAP", 2**15)
    make(tree, tmp_path / "out")
    assert content(tmp_path / "out") == content(encoded)


def test_what_is_on_the_way_is_bounded(tree):
    images = listed_images.read_list(tree / "data.txt", 365)
    images = images._replace(names=images.names.repeat(100), labels=images.labels.repeat(100))
    with listed_images.Workers(1) as workers:
        submitted = []
        workers._pool.submit = _noting(workers._pool.submit, submitted)
        recipe, everything = datum.Recipe(256, 256), np.arange(len(images.names))
        converted = workers.convert(images, sources.Folder(tree / "data_256"), everything, recipe)
        for number in range(5):
            next(converted)
            assert len(submitted) <= number + 5
        converted.close()


def test_two_runs_at_once_are_refused(tree, tmp_path):
    output = tmp_path / "out"
    _killed((lmdb, "open"), 1, tree, output, jobs=1)
    with _locking(tmp_path / "out.partial" / "settings.json"):
        with pytest.raises(UserError, match="another process is writing .*out.partial"):
            make(tree, output)
    make(tree, output)


@contextlib.contextmanager
def _locking(path):
    """Another process has the file locked."""
    connection, others = multiprocessing.Pipe()

    def lock():
        with open(path, "r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            others.send("locked")
            others.recv()

    process = multiprocessing.get_context("fork").Process(target=lock, daemon=True)
    process.start()
    connection.recv()
    yield
    connection.send("done")
    process.join()


def _begun(tree, output):
    _killed((lmdb, "open"), 1, tree, output, jobs=1)
    return output.with_name("out.partial") / "settings.json"


def test_other_settings_do_not_go_on(tree, tmp_path):
    _begun(tree, tmp_path / "out")
    for options, name in (
        ({"seed": 1}, "--seed 0, not 1"),
        ({"raw": True}, "--raw False, not True"),
    ):
        with pytest.raises(
            UserError, match=f"was begun with {name}: give that again, or remove the folder"
        ):
            make(tree, tmp_path / "out", **options)
    (tree / "longer.txt").write_text((tree / "val.txt").read_text().replace(" 3\n", " 4\n"))
    with pytest.raises(UserError, match="was begun with --val-list of SHA-256"):
        make(tree, tmp_path / "out", val=places.PlacesPart(tree / "val_256", tree / "longer.txt"))


@pytest.mark.parametrize(
    "damage, expected",
    [
        (lambda file: file.write_text("{"), "settings.json is damaged"),
        (lambda file: file.write_text("[]"), "settings.json is damaged"),
        (lambda file: os.truncate(file, 2**40), "settings.json is damaged"),
        (lambda file: file.unlink() or os.mkfifo(file), "settings.json is no regular file"),
        (lambda file: file.unlink(), "out.partial is in the way"),
    ],
)
def test_a_folder_that_cannot_be_gone_on_with_is_refused(tree, tmp_path, damage, expected):
    damage(_begun(tree, tmp_path / "out"))
    with pytest.raises(UserError, match=f"{expected}.*(remove|give)"), at_once():
        make(tree, tmp_path / "out")


@pytest.mark.parametrize(
    "text, expected",
    [
        (b"", "lists no images"),
        (b"\n\n", "lists no images"),
        (b"/a/1.jpg 3\n/a/2.jpg\n", "line 2 is '/a/2.jpg', and should be an image and its label"),
        (b"/a/1.jpg 3\n\n/a/2.jpg three\n", "line 3 is '/a/2.jpg three'"),
        (b"/a/1.jpg -1\n", "line 1 is '/a/1.jpg -1'"),
        (b"17\n", "line 1 is '17'"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "line 1 is '"),
        (
            b"/a/1.jpg 3\n/a/2.jpg 365\n",
            "line 2 has the label 365, and should have one from 0 to 364",
        ),
        (
            b"/a/1.jpg 3\n/a/2.jpg " + b"7" * 5000,
            "line 2 has the label 777777777, and should have one from 0 to 364",
        ),
        (b"/a/1.jpg 3\n/" + b"a" * 4097 + b" 3\n", "line 2 is '/aaa"),
        (
            b"/a/1.jpg 3\n/" + b"a" * 4097 + b" 3\n",
            ", with a path of 4097 bytes, and one has at most 4096: mend it",
        ),
        (b"/a/../../1.jpg 3\n", "line 1 is '/a/../../1.jpg 3', which leads out of the folder"),
        (b"/a/1.jpg 3\n/b/1.jpg 3\na/1.jpg 4\n", "lists 1 images twice, a/1.jpg among them"),
    ],
)
def test_bad_lists(tmp_path, text, expected):
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(UserError) as error:
        listed_images.read_list(tmp_path / "list.txt", 365)
    assert str(error.value).startswith(str(tmp_path / "list.txt")) and expected in str(error.value)


@pytest.mark.quick
def test_one_long_name_does_not_multiply_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(listed_images, "_NAMES", 2**20)
    names = [*map(str, range(299)), "a" * 4000]
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    monkeypatch.setattr(listed_images, "_LINES", 7)
    for read in (
        lambda: listed_images.read_list(tmp_path / "list.txt"),
        lambda: listed_images.image_list(tmp_path / "list.txt", [(name, 0) for name in names]),
    ):
        with pytest.raises(
            UserError,
            match="list.txt lists 300 images, with paths of up to 4000 bytes, more than fits into 1 MiB",
        ):
            read()
    names[-1] = "a" * 65_000
    with pytest.raises(
        UserError,
        match="list.txt lists 'aaa.*, a path of 65000 bytes, and one has at most 4096: mend it",
    ):
        listed_images.image_list(tmp_path / "list.txt", [(name, 0) for name in names])


@pytest.mark.quick
@pytest.mark.parametrize(
    "side, encode, length", [(4096, "raw", 1), (1024, "raw", 5), (8, "raw", 16), (4096, "jpeg", 16)]
)
def test_large_pixels_are_made_few_at_a_time(tmp_path, side, encode, length):
    recipe = datum.Recipe(side, side, encode=encode)
    images = listed_images.image_list("list", [(f"{number}.png", 0) for number in range(40)])
    with listed_images.Workers(1) as workers:
        parts = [
            part
            for part, _ in workers.convert(images, sources.Folder(tmp_path), np.arange(40), recipe)
        ]
    assert max(map(len, parts)) == length and np.concatenate(parts).tolist() == list(range(40))


_READ_LIST = """
import sys
from active_convolution.data.listed_images import read_list
from active_convolution.errors import UserError
try:
    read_list(sys.argv[1])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "start, said",
    [
        (b"", "has a line of 65536 bytes and more, '"),
        (b"/a/1.jpg 3\n", "has a line of 65536 bytes"),
        (b"\xff\xfe", "is a text in UTF-16 of more than 256 MiB: store it as UTF-8"),
    ],
)
def test_a_terabyte_of_nothing_is_no_list(tmp_path, start, said):
    path = tmp_path / "list.txt"
    path.write_bytes(start)
    os.truncate(path, 2**40)
    assert limited(_READ_LIST, path).startswith(f"{path} {said}")


def test_lists_as_people_have_them(tmp_path, monkeypatch):
    monkeypatch.setattr(listed_images, "_LINES", 2)
    (tmp_path / "list.txt").write_bytes(
        b"/a/1.jpg 0\r\nb/with space.jpg\t364\n\n c/quite_long_name.jpg  007\nd.jpg 5"
    )
    images = listed_images.read_list(tmp_path / "list.txt", 365)
    assert images.names.tolist() == [
        b"a/1.jpg",
        b"b/with space.jpg",
        b"c/quite_long_name.jpg",
        b"d.jpg",
    ]
    assert images.labels.tolist() == [0, 364, 7, 5]


@pytest.mark.parametrize(
    "source, expected",
    [
        ("nowhere", "nowhere is no folder"),
        ("data.txt", "data.txt is no folder"),
        (
            ".",
            "lacks 40 of the 40 images in .*data.txt, a/scene_0/00000000.jpg first: give .*/data_256$",
        ),
        ("data_256/a", "lacks 40 of .* give .*/data_256$"),
        ("val_256", "lacks 40 of .* first: give the folder that the list's paths start from"),
    ],
)
def test_another_folder_is_said_before_the_work(tree, tmp_path, source, expected):
    with pytest.raises(UserError, match=expected):
        make(tree, tmp_path / "out", places.PlacesPart(tree / source, tree / "data.txt"))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("output", [".", "/", "..", "link", "tree"])
def test_an_output_that_exists_is_said_before_the_lists_are_read(
    tree, tmp_path, monkeypatch, output
):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("nowhere")
    Path("tree").mkdir()
    with pytest.raises(
        UserError, match=f"^{output} exists already: remove it or name another --output$"
    ):
        make(tree, output, places.PlacesPart(tree / "data_256", tree / "nowhere.txt"))
    with pytest.raises(UserError, match=f"^{output} exists already"), partial_folder(output, {}):
        pass


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"jobs": 0}, "--jobs 0 is out of range"),
        ({"max_unreadable": -1}, "--max-unreadable -1 is out of range"),
        ({"seed": -1}, "--seed -1 is out of range"),
    ],
)
def test_options_out_of_range(tree, tmp_path, options, expected):
    with pytest.raises(UserError, match=expected):
        make(tree, tmp_path / "out", **options)


def test_one_list_for_both_is_refused(tree, tmp_path):
    with pytest.raises(UserError, match="are the same: give the training and the validation list"):
        make(tree, tmp_path / "out", val=places.PlacesPart(tree / "data_256", tree / "data.txt"))


@pytest.fixture
def script(root, tree):
    """Runs create_lmdb.py beside the tree's folders, as a user who stands there."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, root / "scripts" / "create_lmdb.py", *map(str, arguments)],
            cwd=tree,
            capture_output=True,
            text=True,
        )

    return run


_FILES = "--source data_256 --list data.txt --val-source val_256 --val-list val.txt"


def test_script(script, encoded, tmp_path):
    result = script("places365", *_FILES.split(), "--output", tmp_path / "out", "--jobs", 1)
    assert result.returncode == 0, result.stderr
    assert (
        result.stdout == f"places365: 40 training and 12 test images, 1 MB, in {tmp_path / 'out'}\n"
    )
    assert "writing train_lmdb: 100%" in result.stderr and "image/s" in result.stderr
    assert content(tmp_path / "out") == content(encoded)


@pytest.mark.parametrize(
    "arguments, status, expected",
    [
        (
            "places365 --source data_256 --list data.txt",
            2,
            "places365 needs --val-source, --val-list too",
        ),
        (f"places365 {_FILES} --val-list nowhere.txt", 1, "cannot read nowhere.txt: No such file"),
        ("cifar10 --source val_256 --jobs 2", 2, "--jobs is for images and places365 only"),
    ],
)
def test_script_refuses_in_one_line(script, tmp_path, arguments, status, expected):
    result = script(*arguments.split(), "--output", tmp_path / "out")
    assert result.returncode == status and result.stdout == ""
    assert result.stderr.startswith("error: ") and expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
