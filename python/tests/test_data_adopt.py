"""acu data adopt: databases that Caffe's own tools make, read whole, described, and seen by Caffe as they are described."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from active_convolution.caffe import hdf5, locate
from active_convolution.data import adopt as adopting
from active_convolution.data import backends, database
from active_convolution.data import folder as folder_module
from active_convolution.data.adopt import adopt
from active_convolution.data.backends import Database, batches, inspected
from active_convolution.data.folder import check_manifest, database_path
from active_convolution.errors import BadValue, UserError
from conftest import skip_where_others_cannot_look
from limits import at_once

pytestmark = pytest.mark.slow

SHAPE, CLASSES = (3, 12, 16), 4
COUNTS = {"train": 24, "val": 9}


def picture(number):
    return np.random.RandomState(number).randint(0, 256, (12, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with images, the lists train.txt and val.txt, and what convert_imageset makes of them in every form."""
    folder = tmp_path_factory.mktemp("made")
    tool = locate.BUILD / "out" / "tools" / "convert_imageset"
    for part, count in COUNTS.items():
        lines = []
        for number in range(count):
            name = f"{part}_{number}.png"
            cv2.imwrite(str(folder / name), picture(number + 100 * (part == "val")))
            lines.append(f"{name} {number % CLASSES}\n")
        (folder / f"{part}.txt").write_text("".join(lines))
        for kind, options in (
            ("lmdb", []),
            ("encoded", ["--encoded", "--encode_type=png"]),
            ("leveldb", ["--backend=leveldb"]),
        ):
            subprocess.run(
                [tool, *options, f"{folder}/", folder / f"{part}.txt", folder / f"{part}_{kind}"],
                check=True,
                capture_output=True,
            )
    return folder


def images(part):
    return np.array(
        [
            picture(number + 100 * (part == "val")).transpose(2, 0, 1)
            for number in range(COUNTS[part])
        ]
    )


def alone(made, kind, tmp_path):
    """A folder with the databases of one kind."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for part in COUNTS:
        shutil.copytree(made / f"{part}_{kind}", folder / f"{part}_{kind}")
    return folder


def assert_is_made(folder, backend):
    manifest = check_manifest(folder)
    assert manifest["adopted"] is True and manifest["classes"] == CLASSES
    for split, part in (("train", "train"), ("test", "val")):
        entry = manifest[split]
        assert (
            entry["images"] == COUNTS[part]
            and entry["shape"] == list(SHAPE)
            and entry["backend"] == backend
        )
        assert entry["images_per_class"] == np.bincount(np.arange(COUNTS[part]) % CLASSES).tolist()
        found = [(some.copy(), labels) for some, labels in batches(entry, 5)]
        np.testing.assert_array_equal(np.concatenate([some for some, _ in found]), images(part))
        assert np.concatenate([labels for _, labels in found]).tolist() == [
            n % CLASSES for n in range(COUNTS[part])
        ]
    return manifest


@pytest.mark.parametrize(
    "kind, backend", [("lmdb", "LMDB"), ("encoded", "LMDB"), ("leveldb", "LEVELDB")]
)
def test_databases_of_convert_imageset(made, tmp_path, kind, backend):
    folder = alone(made, kind, tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("data.mdb")}
    adopt(folder)
    manifest = assert_is_made(folder, backend)
    assert {path: path.read_bytes() for path in folder.rglob("data.mdb")} == before
    if backend == "LMDB":
        assert manifest["train"]["sha256"] == database.checksum(folder / f"train_{kind}")
    adopt(folder)  # once more: it is ours to replace
    inspected(Database.of(manifest["test"]), manifest["test"]["sha256"])


def test_lists_of_images(made, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in [*made.glob("*.png"), *made.glob("*.txt")]:
        shutil.copy(path, folder)
    adopt(folder)
    assert check_manifest(folder)["train"]["root_folder"] == f"{folder}/"
    assert_is_made(folder, "IMAGES")
    manifest = adopt(folder, size=(8, 6))
    assert manifest["test"]["shape"] == [3, 6, 8] and (
        manifest["test"]["new_height"],
        manifest["test"]["new_width"],
    ) == (6, 8)
    (folder / "val_3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="val_3.png, which .*val.txt lists, is no whole image"):
        adopt(folder)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    for part in COUNTS:
        with h5py.File(tmp_path / f"{part}.h5", "w") as file:
            file["data"], file["label"] = (
                images(part).astype(np.float32),
                np.arange(COUNTS[part], dtype=np.float32) % CLASSES,
            )
    adopt(tmp_path)
    manifest = assert_is_made(tmp_path, "HDF5")
    assert manifest["train"]["path"] == str(tmp_path / "train_hdf5.txt")
    with open(tmp_path / "train.h5", "r+b") as file:
        file.truncate(3000)
    with pytest.raises(UserError, match="cannot read .*train.h5"):
        adopt(tmp_path)


@pytest.mark.parametrize(
    "shape, kind", [((2**32, 1, 8, 8), "f4"), ((1, 1, 2**20, 2**20), "u1"), ((4, 1, 8, 8), "S5")]
)
def test_hdf5_that_asks_for_more_than_it_holds(tmp_path, shape, kind):
    """What was never written takes no room in the file, and would be read as zeros."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file.create_dataset("data", shape, kind, chunks=(1, 1, 8, 8))
        file.create_dataset("label", shape[:1], "f4", chunks=(1,))
    with pytest.raises(
        UserError,
        match="cannot read .*train.h5 .*(more than is sensible|not of numbers).*: it needs",
    ):
        adopt(tmp_path)


def _linked(h5py, file, name, pipe):
    file[name] = h5py.ExternalLink(pipe, "x")


def _virtual(h5py, file, name, pipe):
    layout = h5py.VirtualLayout((4, 1, 8, 8), "f4")
    layout[:] = h5py.VirtualSource(pipe, "x", (4, 1, 8, 8))
    file.create_virtual_dataset(name, layout)


def _outside(h5py, file, name, pipe):
    file.create_dataset(name, (4, 1, 8, 8), "f4", external=[(pipe, 0, h5py.h5f.UNLIMITED)])


@pytest.mark.quick
@pytest.mark.parametrize("leave", [_linked, _virtual, _outside])
@pytest.mark.parametrize("name", ["data", "data/conv", "data/conv/0", "label"])
def test_hdf5_that_leads_to_a_pipe(tmp_path, name, leave):
    """Data and weights: the library would wait for whoever writes into it."""
    h5py = pytest.importorskip("h5py")
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "train.h5", "w") as file:
        leave(h5py, file, name, str(tmp_path / "pipe"))
        if name == "label":
            file["data"] = np.zeros((4, 1, 8, 8))
        elif name == "data":
            file["label"] = np.zeros(4)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/train.h5\n")
    with at_once():
        if "/" not in name:
            with pytest.raises(
                UserError,
                match=f"cannot read .*train.h5 .*{name} (is a link|has its numbers in other files)",
            ):
                next(backends.records(Database(str(tmp_path / "list.txt"), "HDF5")))
        if name != "label":
            with pytest.raises((ValueError, AttributeError)):
                hdf5._read(tmp_path / "train.h5")


@pytest.mark.quick
@pytest.mark.parametrize("damaged", ["train", "test"])
def test_nothing_is_written_about_a_damaged_part(tmp_path, monkeypatch, damaged):
    """Not even the lists of HDF5 files."""
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(backends, "inspected", backends.inspect)
    for part in ("train", "test"):
        with h5py.File(tmp_path / f"{part}.h5", "w") as file:
            file["data"], file["label"] = np.zeros((4, 1, 8, 8)), np.arange(4)
    with open(tmp_path / f"{damaged}.h5", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=f"cannot read .*{damaged}.h5"):
        adopt(tmp_path, output=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.h5", "train.h5"]


@pytest.mark.quick
def test_images_without_pixels_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["data"], file["label"] = np.zeros((5, 0, 8, 8)), np.arange(5)
    with pytest.raises(
        UserError, match="image 0 of .*train.h5 is 0×8×8, which is no image: remove it"
    ):
        backends.inspect(Database(str(tmp_path / "train.h5"), "HDF5"))


@pytest.mark.quick
def test_hdf5_without_data(tmp_path):
    h5py = pytest.importorskip("h5py")
    h5py.File(tmp_path / "train.h5", "w").close()
    (tmp_path / "list.txt").write_text(f"{tmp_path}/train.h5\n")
    with pytest.raises(
        UserError, match="cannot read .*train.h5 .*: it needs the data sets data and label"
    ):
        next(backends.records(Database(str(tmp_path / "list.txt"), "HDF5")))


def test_hdf5_needs_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "train.h5").write_bytes(b"")
    (tmp_path / "train.txt").write_text(f"{tmp_path}/train.h5\n")
    with pytest.raises(UserError, match="needs h5py: apt-get install python3-h5py"):
        list(backends.records(Database(str(tmp_path / "train.txt"), "HDF5")))


@pytest.mark.parametrize(
    "backend, layer",
    [
        ("LMDB", 'type: "Data" data_param { source: "%s" backend: LMDB batch_size: 9 }'),
        ("LEVELDB", 'type: "Data" data_param { source: "%s" backend: LEVELDB batch_size: 9 }'),
        (
            "IMAGES",
            'type: "ImageData" image_data_param { source: "%s" root_folder: "%s" batch_size: 9 }',
        ),
    ],
)
def test_caffe_reads_what_the_manifest_says(made, tmp_path, backend, layer):
    name = {"LMDB": "val_lmdb", "LEVELDB": "val_leveldb", "IMAGES": "val.txt"}[backend]
    part = check_manifest(
        adopt(made, val_source=made / name, output=tmp_path / "out") and tmp_path / "out", ("test",)
    )["test"]
    names = (part["path"], part["root_folder"]) if backend == "IMAGES" else (part["path"],)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" top: "data" top: "label" ' + layer % names + " }"
    )
    net = locate.caffe().Net(str(tmp_path / "net.prototxt"), locate.caffe().TEST)
    net.forward()
    seen = [net.blobs[name].data.copy() for name in ("data", "label")]
    del net  # it holds a LevelDB's lock
    ((found, labels),) = batches(part, 9)
    np.testing.assert_array_equal(seen[0], found)
    np.testing.assert_array_equal(seen[1], labels)


@pytest.mark.quick
def test_a_record_with_something_behind_it_is_refused(made, tmp_path):
    """upb only warns of it; Caffe's own reader refuses."""
    folder = alone(made, "lmdb", tmp_path)
    with (
        lmdb.open(str(folder / "val_lmdb"), map_size=2**24) as opened,
        opened.begin(write=True) as transaction,
    ):
        (key, value), *_ = transaction.cursor()
        transaction.put(key, value + b"\x0c")
    with pytest.raises(UserError, match="record .* of .*val_lmdb is damaged"):
        adopt(folder)


def test_names_of_classes(made, tmp_path):
    folder = alone(made, "lmdb", tmp_path)
    (tmp_path / "names").write_text("a\nb\nc\nd\ne\n")
    adopt(folder, label_names=tmp_path / "names")
    manifest = check_manifest(folder)
    assert manifest["label_names"] == list("abcde") and manifest["classes"] == 5
    assert manifest["train"]["images_per_class"] == [6] * 4 + [0]


@pytest.mark.quick
def test_one_part_is_enough_to_evaluate(made, tmp_path):
    folder = alone(made, "lmdb", tmp_path)
    shutil.rmtree(folder / "train_lmdb")
    adopt(folder)
    assert check_manifest(folder, ("test",))["test"]["images"] == COUNTS["val"]
    with pytest.raises(
        UserError,
        match='has no part "train", by its manifest.json: run acu data adopt .* again, with both',
    ):
        check_manifest(folder)


# ---- What is refused


def no_database(folder):
    for path in folder.iterdir():
        shutil.rmtree(path)
    return {}, "holds no database of Caffe's"


def two_for_testing(folder):
    shutil.copytree(folder / "val_lmdb", folder / "test_lmdb")
    return {}, "several databases for one part, test_lmdb and val_lmdb: name"


def unclear_names(folder):
    shutil.rmtree(folder / "val_lmdb")
    (folder / "train_lmdb").rename(folder / "images_lmdb")
    return {}, "images_lmdb, whose name says neither"


def ours(folder):
    (folder / "manifest.json").write_text('{"format": 1}')
    return {}, "manifest.json is there already"


def a_pipe_for_a_manifest(folder):
    os.mkfifo(folder / "manifest.json")
    return {}, "manifest.json is no regular file"


def no_datum(folder):
    put(folder / "val_lmdb", b"\xff\xff\xff")
    return {}, "record 00000005_.* of .*val_lmdb is damaged, or no Datum"


def another_size(folder):
    put(
        folder / "val_lmdb",
        locate.caffe_pb2().Datum(channels=3, height=1, width=1, data=b"abc").SerializeToString(),
    )
    return {}, "record 00000005_.* is 3×1×1, and those before are 3×12×16"


def negative_label(folder):
    record = locate.caffe_pb2().Datum(channels=3, height=12, width=16, data=bytes(576), label=-1)
    put(folder / "val_lmdb", record.SerializeToString())
    return {}, "record 00000005_.* has the label -1"


def put(path, value):
    with lmdb.open(str(path)) as store, store.begin(write=True) as transaction:
        key = next(
            key
            for key in transaction.cursor().iternext(values=False)
            if key.startswith(b"00000005")
        )
        transaction.put(key, value)


@pytest.mark.parametrize(
    "spoil",
    [
        no_database,
        two_for_testing,
        unclear_names,
        ours,
        a_pipe_for_a_manifest,
        no_datum,
        another_size,
        negative_label,
    ],
)
def test_what_is_refused(made, tmp_path, spoil):
    folder = alone(made, "lmdb", tmp_path)
    options, message = spoil(folder)
    before = (folder / "manifest.json").exists()
    with pytest.raises(UserError, match=message) as error:
        adopt(folder, **options)
    assert "\n" not in str(error.value) and (folder / "manifest.json").exists() == before


def test_a_size_for_a_database_is_refused(made, tmp_path):
    with pytest.raises(BadValue, match="--size is for lists of images"):
        adopt(alone(made, "lmdb", tmp_path), size=(8, 8))
    with pytest.raises(UserError, match="is itself a database: give the folder that holds it"):
        adopt(tmp_path / "mine" / "val_lmdb")
    assert adopting.backend_of(tmp_path / "nowhere") is None


# ---- Damage: reading it can end a process


def test_damaged_pages_are_an_error(made, tmp_path):
    """Every page in turn is zeroed: LMDB itself dies of many by SIGABRT, SIGBUS or SIGSEGV."""
    folder = alone(made, "lmdb", tmp_path)
    adopt(folder)
    part = check_manifest(folder)["test"]
    source, file = Database.of(part), folder / "val_lmdb" / "data.mdb"
    whole = file.read_bytes()
    noticed = 0
    for page in range(len(whole) // 4096 - 1, 0, -3):
        file.write_bytes(whole[: 4096 * page] + bytes(4096) + whole[4096 * (page + 1) :])
        try:
            inspected(source, part["sha256"])
        except UserError as error:
            assert "\n" not in str(error) and "val_lmdb" in str(error)
            noticed += 1
    assert noticed >= 2  # others hold nothing that is used
    for content in (bytes(len(whole)), os.urandom(len(whole)), whole[:4096] * (len(whole) // 4096)):
        file.write_bytes(content)
        with pytest.raises(UserError, match="val_lmdb"):
            inspected(source, part["sha256"])


def test_a_process_that_dies_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "_PROGRAM", "active_convolution.nowhere")
    with pytest.raises(
        UserError, match="is damaged, what reads it ended with status 1: make the data set anew"
    ):
        inspected(Database(str(tmp_path)))


# ---- The manifest


def change(path, edit):
    manifest = json.loads((path / "manifest.json").read_text())
    edit(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda m: m["test"].update(images=1.5), "images is 1.5, and should be a whole number"),
        (lambda m: m["test"].update(images="9"), "images is '9'"),
        (lambda m: m["test"].update(images=True), "images is True"),
        (lambda m: m["test"].pop("images"), "it has no 'images'"),
        (lambda m: m["test"].update(images=-1), "images is -1"),
        (
            lambda m: m["test"].update(shape=[3, 12.5, 16]),
            r"shape is \[3, 12.5, 16\], and should be channels, height, width",
        ),
        (
            lambda m: m["test"].update(shape=[0, 12, 16]),
            r"shape is \[0, 12, 16\], and should be channels, height, width",
        ),
        (lambda m: m["test"].update(shape=[3, True, 16]), r"shape is \[3, True, 16\]"),
        (lambda m: m["test"].update(shape=[3, 2**20, 2**20]), "shape is"),
        (lambda m: m["test"].update(shape="3x12"), "damaged"),
        (lambda m: m["test"].update(bytes=None), "bytes is None"),
        (lambda m: m["test"].update(backend="SQL"), "backend is 'SQL'"),
        (lambda m: m["test"].update(path=7), "path is 7"),
        (lambda m: m["test"].update(images_per_class=[1, "2", 3, 4]), "1 is '2'"),
        (lambda m: m["test"].update(images_per_class=[1, 2]), "damaged"),
        (lambda m: m.update(classes="4"), "classes is '4'"),
        (lambda m: m.update(classes=3), "images_per_class has 4 entries for 3 classes"),
        (lambda m: m.update(label_names=["a"]), "label_names are not 4 texts"),
        (lambda m: m.update(label_names=[1, 2, 3, 4]), "label_names are not 4 texts"),
        (lambda m: m.update(dataset=[1]), "dataset is"),
        (
            lambda m: m["test"].update(images=2**31),
            "images is 2147483648, and should be a whole number from 0 and below 2147483648",
        ),
        (lambda m: m["test"].update(bytes=2**63), "bytes is"),
        (lambda m: m.update(classes=10**30), "classes is 10000"),
        (lambda m: m["test"].update(new_width="x"), "new_width is 'x' for images of shape"),
        (lambda m: m["test"].update(new_height=2**40), "new_height is 1099511627776"),
        (lambda m: m.update(preprocessing=5), "damaged"),
        (lambda m: m.update(preprocessing={"mean_value": 3}), "damaged"),
        (
            lambda m: m.update(preprocessing={"mean_value": [1, "2", 3]}),
            "1 is '2', and should be a number",
        ),
        (lambda m: m.update(preprocessing={"mean_value": [10**400]}), "0 is 10000"),
        (lambda m: m.update(test=[]), "damaged"),
        (lambda m: m.update(test=None, train=None), "damaged"),
    ],
)
def test_each_entry_of_a_manifest_is_checked(made, tmp_path, edit, message):
    folder = tmp_path / "out"
    for split, part in (("train", "train"), ("test", "val")):
        shutil.copytree(made / f"{part}_lmdb", database_path(folder, split))
    folder_module.write_manifest(
        folder,
        {
            "dataset": "made",
            "classes": 4,
            **{
                split: {
                    "images": COUNTS[part],
                    "images_per_class": [0] * 4,
                    "shape": list(SHAPE),
                    "bytes": folder_module.database_bytes(folder, split),
                }
                for split, part in (("train", "train"), ("test", "val"))
            },
        },
    )
    check_manifest(folder)
    change(folder, edit)
    with pytest.raises(
        UserError, match=f"out is no data set, its manifest.json is .*{message}.*: make it with"
    ) as error:
        check_manifest(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff\xfe", b'{"format": NaN}', b"null", b"7", b'{"format": [1]}']
)
def test_hostile_manifests(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="manifest.json is missing or damaged|has format"):
        check_manifest(tmp_path)


def test_a_manifest_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(UserError, match="manifest.json is missing or damaged.*acu data adopt"):
        check_manifest(tmp_path)


# ---- The command, and data that one may only read


def acu(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "active_convolution", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


NETWORK = """layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
                     inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.01 } } }"""


def write_network(folder):
    (folder / "deploy.prototxt").write_text(
        """layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 12 dim: 16 } } }"""
        + NETWORK
    )
    net = locate.caffe().Net(str(folder / "deploy.prototxt"), locate.caffe().TEST)
    net.save(str(folder / "net.caffemodel"))
    return ["--model", folder / "deploy.prototxt", "--weights", folder / "net.caffemodel"]


@pytest.mark.parametrize("kind", ["lmdb", "leveldb"])
def test_command_and_evaluation(made, tmp_path, kind):
    folder = alone(made, kind, tmp_path)
    network = write_network(tmp_path)
    done = acu("evaluate", *network, "--data", folder)
    assert (
        done.returncode == 1
        and f"acu data adopt {folder}" in done.stderr
        and done.stderr.count("\n") == 1
    )
    done = acu("data", "adopt", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 classes\nadopt: 24 training and 9 test images, 0 MB, in {folder}\n"
    done = acu("evaluate", *network, "--data", folder)
    assert done.returncode == 0 and done.stdout.endswith("9 images\n"), done.stderr


@pytest.fixture
def anybody(tmp_path):
    """Lets a command run as one who owns nothing, and may read ``tmp_path``'s neighbour, a Path that comes with it."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root, who can become another, and setpriv")
    skip_where_others_cannot_look()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)

    def run(*command, closed=None):
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o600 if path == closed else 0o644)
        return subprocess.run(
            [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                sys.executable,
                *map(str, command),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "HOME": "/nonexistent"},
        )

    yield folder, run
    shutil.rmtree(folder)


def test_data_that_one_may_only_read_are_evaluated_on(made, anybody):
    folder, run = anybody
    data = alone(made, "lmdb", folder)
    adopt(data)
    network = write_network(folder)
    for lock in data.glob("*/lock.mdb"):
        lock.unlink()
    done = run("-m", "active_convolution", "evaluate", *network, "--data", data)
    assert done.returncode == 0 and done.stdout.endswith("9 images\n"), done.stderr
    assert not list(data.glob("*/lock.mdb"))


def test_data_that_one_may_only_read_are_trained_on(tiny, digits_data, anybody):
    folder, run = anybody
    shutil.copytree(digits_data, folder / "data")
    shutil.copytree(tiny, folder / "tiny")
    for lock in folder.glob("data/*/lock.mdb"):
        lock.unlink()
    (folder / "runs").mkdir()
    os.chown(folder / "runs", 65534, 65534)
    command = (
        "-m",
        "active_convolution",
        "train",
        folder / "tiny",
        "--variant",
        "acu",
        "--data",
        folder / "data",
        "--max-iter",
        4,
    )
    done = run(*command, "--output", folder / "runs/acu")
    assert done.returncode == 0 and "after 4 iterations" in done.stdout, done.stderr
    assert not list(folder.glob("data/*/lock.mdb")) and (folder / "runs/acu/metrics.csv").exists()
    done = run(
        *command, "--output", folder / "runs/other", closed=folder / "data/train_lmdb/data.mdb"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: layer data of ") and done.stderr.endswith(
        "/train_lmdb/data.mdb: Permission denied\n"
    )


@pytest.mark.parametrize("lock", [False, True])
def test_caffe_reads_data_that_one_may_only_read(made, anybody, lock):
    """Its Data layer: LMDB wants to write a lock file."""
    folder, run = anybody
    data = alone(made, "lmdb", folder)
    for path in data.glob("*/lock.mdb"):
        path.touch() if lock else path.unlink()
    (
        folder / "net.prototxt"
    ).write_text(f'''layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{data / "val_lmdb"}" backend: LMDB batch_size: 9 }} }}''')
    (folder / "read.py").write_text(f"""
from active_convolution.caffe import locate
net = locate.caffe().Net({str(folder / "net.prototxt")!r}, locate.caffe().TEST)
print(net.forward()["label"].tolist())""")
    done = run(folder / "read.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[float(number % CLASSES) for number in range(9)]}\n"
