"""The digits, and CIFAR from its archives or an .npz, against the arrays that they were made from;
and fetching an archive from a server of the test's own, which can do what servers do."""

import contextlib
import hashlib
import http.server
import os
import pickle
import threading

import data_samples as samples
import numpy as np
import pytest
from active_convolution import cli
from active_convolution.data import database, small
from active_convolution.data.manifest import read_manifest
from active_convolution.data.preprocess import Whitening, global_contrast_normalise
from active_convolution.errors import BadValue, UserError
from data_samples import acu_data, pixels, records


def read_back(folder, split):
    """The images (N, C, H, W) and labels (N,) of one LMDB, by label and then by a value."""
    data = [datum for _, datum in records(folder / f"{split}_lmdb")]
    return in_order(np.array([pixels(datum) for datum in data]), [datum.label for datum in data])


def in_order(images, labels):
    middle = images[:, 0, images.shape[2] // 2, images.shape[3] // 2]
    order = np.lexsort((*images.reshape(len(images), -1).T, middle, labels))
    return images[order], np.array(labels)[order]


def assert_same(found, expected, atol=1e-5):
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=atol)


# ---- Digits


def test_digits_are_less_their_mean_and_padded(digits_data):
    original, manifest = small.read_digits(), read_manifest(digits_data)
    mean = np.load(digits_data / manifest.preprocessing.mean_file)
    np.testing.assert_allclose(mean, original["train"][0].mean(axis=0), atol=1e-6)
    train, labels = read_back(digits_data, "train")
    assert train.shape == (1500, 1, 10, 10) and manifest.train.shape == [1, 10, 10]
    inner = train[:, :, 1:9, 1:9]
    assert np.count_nonzero(train) == np.count_nonzero(inner)
    images, expected = original["train"]
    assert_same(in_order(inner, labels), in_order(images - mean, expected))
    images, expected = original["test"]
    assert_same(read_back(digits_data, "test"), in_order(images - mean, expected))


def test_the_manifest_tells_what_is_there(digits_data):
    manifest = read_manifest(digits_data)
    assert (manifest.dataset, manifest.seed, manifest.classes) == ("digits", 0, 10)
    assert manifest.versions["numpy"] == np.__version__ and manifest.channel_order == "grey"
    assert manifest.preprocessing.scale * manifest.value_range[1] == 1
    for split, count in (("train", 1500), ("test", 297)):
        part, (_, labels) = getattr(manifest, split), read_back(digits_data, split)
        assert part.images == count
        assert part.images_per_class == np.bincount(labels).tolist()
        assert part.sha256 == database.checksum(digits_data / f"{split}_lmdb")


def test_the_seed_decides_the_order(digits_data, tmp_path):
    original = read_manifest(digits_data)
    assert small.create("digits", tmp_path / "same").train.sha256 == original.train.sha256
    other = small.create("digits", tmp_path / "other", seed=1)
    assert other.train.sha256 != original.train.sha256
    assert other.test.images_per_class == original.test.images_per_class


def test_folds_share_no_image():
    tests = [small.read_digits(fold)["test"][0] for fold in range(1, 7)]
    assert {len(part) for part in tests} == {299}
    # 1,797 digits are 6 x 299 and 3: few of them look the same to the last pixel
    assert len({image.tobytes() for part in tests for image in part}) > 1780


def test_a_fold_of_enlarged_digits(tmp_path, capsys):
    acu_data("digits", "--size", "16x16", "--fold", 1, "--output", tmp_path / "out")
    assert read_manifest(tmp_path / "out").test.shape == [1, 16, 16]
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("digits: 1498 training and 299 test images, ")
    assert said[2].startswith("next: acu train digits/plain ")
    cli.parser("train").parse_args(said[2].split()[3:])
    with pytest.raises(BadValue, match="--size 7x8 is out of range"):
        acu_data("digits", "--size", "7x8", "--output", tmp_path / "small")


@pytest.mark.parametrize("stage", ["write", "checksum"])
def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch, stage):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(database, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        small.create("digits", tmp_path / "out")
    assert not any(tmp_path.iterdir())


# ---- CIFAR

WRITERS = {"python": samples.write_python, "binary": samples.write_binary}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_archives(tmp_path, dataset, form):
    folder = tmp_path / f"{dataset}-{form}"
    folder.mkdir()
    WRITERS[form](folder, dataset)
    (tmp_path / "above").mkdir()
    for path in (samples.packed(folder), folder.rename(tmp_path / "above/set"), tmp_path / "above"):
        found = small.read_cifar(dataset, path)
        for split, expected in zip(("train", "test"), samples.sample(dataset)):
            assert found[split][0].dtype == np.uint8
            assert_same(found[split], expected, atol=0)


def test_arrays(tmp_path):
    (images, labels), (test_images, test_labels) = samples.sample("cifar10")
    np.savez(tmp_path / "set.npz", X=images, Y=labels, xt=test_images, yt=test_labels)
    found = small.read_cifar("cifar10", tmp_path / "set.npz")
    assert_same(found["train"], (images, labels), atol=0)
    assert_same(found["test"], (test_images, test_labels), atol=0)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def truncated(path):
    path.write_bytes(path.read_bytes()[:2000])


def npz(path, **changes):
    (images, labels), (test_images, test_labels) = samples.sample("cifar10")
    arrays = dict(X=images, Y=labels, xt=test_images, yt=test_labels)
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if len(value)})


@pytest.mark.parametrize(
    "name, spoil, said",
    [
        ("cifar-10-python.tar.gz", truncated, "cannot be read"),
        ("cifar-10-binary.tar.gz", truncated, "cannot be read"),
        ("set.npz", truncated, "cannot be read"),
        ("set.npz", lambda path: npz(path, yt=()), "cannot be read .*yt"),
        ("set.npz", lambda path: npz(path, X=np.zeros((20, 32, 32, 3))), "holds float64 images"),
        ("set.npz", lambda path: npz(path, Y=np.arange(20)), "labels \\[ 0 19\\]"),
        ("set.npz", lambda path: npz(path, Y=np.array([Attack()] * 20)), "cannot be read"),
        ("cifar-10-python/data_batch_3", os.unlink, "cannot be read .*data_batch_3"),
        (
            "cifar-10-python/data_batch_3",
            lambda path: path.write_bytes(pickle.dumps(Attack())),
            "it asks for posix.mkdir, which no image needs",
        ),
        ("nowhere", lambda path: None, "cannot be read"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, monkeypatch, name, spoil, said):
    monkeypatch.chdir(tmp_path)
    for form, write in WRITERS.items():
        (tmp_path / f"cifar-10-{form}").mkdir()
        write(tmp_path / f"cifar-10-{form}", "cifar10")
        samples.packed(tmp_path / f"cifar-10-{form}")
    npz(tmp_path / "set.npz")
    spoil(tmp_path / name)
    with pytest.raises(UserError, match=f"{said}.*: give cifar-10-python.tar.gz"):
        small.create("cifar10", "out", tmp_path / name.split("/")[0])
    assert not any(path.name in ("out", "attacked") for path in tmp_path.iterdir())


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory):
    """Made from the binary batches of the made CIFAR-10 (see data_samples.py)."""
    source = tmp_path_factory.mktemp("binary")
    samples.write_binary(source, "cifar10")
    folder = tmp_path_factory.mktemp("data") / "cifar10"
    small.create("cifar10", folder, source, seed=3)
    return folder


def test_cifar_is_whitened_and_padded(cifar_folder):
    manifest = read_manifest(cifar_folder)
    assert manifest.channel_order == "RGB" and manifest.label_names[0] == "airplane"
    whitening = Whitening.load(cifar_folder / manifest.preprocessing.whitening)
    for split, (images, labels), border in zip(
        ("train", "test"), samples.sample("cifar10"), (4, 0)
    ):
        written, found = read_back(cifar_folder, split)
        assert written.shape[1:] == (3, 32 + 2 * border, 32 + 2 * border)
        inner = written[:, :, border : border + 32, border : border + 32]
        assert np.count_nonzero(written) == np.count_nonzero(inner)
        expected = whitening(global_contrast_normalise(images))
        assert_same(in_order(inner, found), in_order(expected, labels))


def test_whitening_is_fitted_on_the_training_images(cifar_folder):
    (images, _), _ = samples.sample("cifar10")
    mean = global_contrast_normalise(images).mean(axis=0).ravel()
    np.testing.assert_allclose(Whitening.load(cifar_folder / "whitening.npz").mean, mean, atol=1e-5)


def test_cifar_as_image_folders_is_the_same(cifar_folder, tmp_path):
    for split, (images, labels) in zip(("train", "test"), samples.sample("cifar10")):
        for number, (image, label) in enumerate(zip(images, labels)):
            folder = tmp_path / "source" / split / small.CIFAR10_CLASSES[label]
            samples.write(folder / f"{number}.png", image.transpose(1, 2, 0)[:, :, ::-1])
    source, output = tmp_path / "source", tmp_path / "out"
    acu_data("images", "--source", source, "--whiten", "--output", output)
    manifest = read_manifest(output)
    assert manifest.channel_order == "RGB" and manifest.train.shape == [3, 40, 40]
    for split in ("train", "test"):
        assert_same(read_back(output, split), read_back(cifar_folder, split), atol=1e-3)


# ---- Download

CONTENT = np.random.default_rng(0).bytes(3 << 20)
NAME = "cifar-10-python.tar.gz"


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT in the ways that the server's ``ways`` name; remembers the requests'
    ranges."""

    def do_GET(self):
        ways, begun = self.server.ways, 0
        self.server.seen.append(self.headers.get("Range"))
        if "missing" in ways:
            return self.send_error(404)
        if "ranges" in ways and self.headers.get("Range"):
            begun = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if begun >= len(CONTENT):
                return self.send_error(416)
        body = CONTENT[begun:]
        self.send_response(206 if begun else 200)
        if begun:
            self.send_header("Content-Range", f"bytes {begun}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "wrong" in ways:
            body = body[:-1] + bytes([body[-1] ^ 1])
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2] if "truncated" in ways else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine."""
    monkeypatch.setitem(small._ARCHIVES, "cifar10", (NAME, hashlib.md5(CONTENT).hexdigest()))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    served.ways, served.seen = {"ranges"}, []
    monkeypatch.setattr(small, "PAGE", f"http://127.0.0.1:{served.server_port}/")
    thread = threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def test_fetched_once_and_kept(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = small.fetch("cifar10")
    assert path == tmp_path / "active-convolution" / NAME and path.read_bytes() == CONTENT
    assert small.fetch("cifar10") == path and len(server.seen) == 1


@pytest.mark.parametrize("ways", [{"ranges"}, set()])
def test_goes_on_after_a_broken_connection(server, tmp_path, ways):
    server.ways = {*ways, "truncated"}
    with pytest.raises(UserError, match="the connection ended .* early.*run the same command"):
        small.fetch("cifar10", tmp_path)
    server.ways = ways
    assert small.fetch("cifar10", tmp_path).read_bytes() == CONTENT
    assert server.seen[1] == f"bytes={len(CONTENT) // 2}-"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_part_that_is_already_whole(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert small.fetch("cifar10", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "way, said", [("wrong", "has the MD5 .*run the same command"), ("missing", "Not Found")]
)
def test_another_file_than_the_published_one_is_refused(server, tmp_path, way, said):
    server.ways = {way}
    with pytest.raises(UserError, match=said):
        small.fetch("cifar10", tmp_path)
    assert not (tmp_path / NAME).exists()


def test_without_a_network(server, tmp_path, monkeypatch):
    monkeypatch.setattr(small, "PAGE", "http://127.0.0.1:9/")
    with pytest.raises(UserError, match="Connection refused.*as --source"):
        small.fetch("cifar10", tmp_path)


def test_from_the_archive_to_the_databases_by_one_command(server, tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    samples.write_python(folder, "cifar10")
    content = samples.packed(folder).read_bytes()
    monkeypatch.setitem(small._ARCHIVES, "cifar10", (NAME, hashlib.md5(content).hexdigest()))
    monkeypatch.setitem(globals(), "CONTENT", content)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    acu_data("cifar10", "--download", "--output", tmp_path / "out")
    assert read_manifest(tmp_path / "out").train.images == 20
