"""Fetching an archive from a server of the test's own, which can do what servers do."""

import contextlib
import hashlib
import http.server
import sys
import tarfile
import threading

import data_samples as samples
import numpy as np
import pytest
from active_convolution.cli import data
from active_convolution.data import download
from active_convolution.data.folder import check_manifest
from active_convolution.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3 << 20)
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /set.tar.gz in the ways that the server's ``ways`` name; remembers the requests' ranges."""

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range")))
        if self.path.endswith("/moved.tar.gz"):
            self.send_response(302)
            self.send_header("Location", "/set.tar.gz")
            self.end_headers()
        elif not self.path.endswith("/set.tar.gz"):
            self.send_error(404)
        else:
            self._content()

    def _content(self):
        ways, begun = self.server.ways, 0
        if "ranges" in ways and self.headers.get("Range"):
            begun = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if begun >= len(CONTENT):
                self.send_error(416)
                return
        body = CONTENT[begun:]
        self.send_response(206 if begun else 200)
        if begun:
            self.send_header("Content-Range", f"bytes {begun}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "wrong" in ways:
            body = body[:-1] + bytes([body[-1] ^ 1])
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2] if ways & {"truncated", "stalls"} else body)
            if "stalls" in ways:
                self.wfile.flush()
                self.server.released.wait(30)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A server on this machine; ``archive(name)`` is what it serves."""
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    served.ways, served.seen, served.released = {"ranges"}, [], threading.Event()
    served.archive = lambda name="set.tar.gz": download.Archive(
        f"http://127.0.0.1:{served.server_port}/{name}", MD5
    )
    thread = threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    served.released.set()
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_fetched_once_and_kept(server, tmp_path):
    path = download.fetch(server.archive(), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert download.fetch(server.archive(), tmp_path / "cache") == path
    assert len(server.seen) == 1 and [file.name for file in path.parent.iterdir()] == ["set.tar.gz"]


def test_the_cache_folder_follows_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.fetch(server.archive()) == tmp_path / "active-convolution" / "set.tar.gz"


@pytest.mark.parametrize("ways", [{"ranges"}, set()], ids=["ranges", "no ranges"])
def test_goes_on_after_a_broken_connection(ways, server, tmp_path):
    server.ways = ways | {"truncated"}
    with pytest.raises(UserError, match=r"ended 1,572,864 bytes early; the same command goes on"):
        download.fetch(server.archive(), tmp_path)
    assert (tmp_path / "set.tar.gz.part").read_bytes() == CONTENT[: len(CONTENT) // 2]
    server.ways = ways
    assert download.fetch(server.archive(), tmp_path).read_bytes() == CONTENT
    assert server.seen[-1][1] == f"bytes={len(CONTENT) // 2}-"
    assert not (tmp_path / "set.tar.gz.part").exists()


def test_a_part_that_is_already_whole(server, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT)
    assert download.fetch(server.archive(), tmp_path).read_bytes() == CONTENT


def test_a_stalled_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", 0.5)
    server.ways = {"ranges", "stalls"}
    with pytest.raises(UserError, match="cannot fetch .*timed out.* --source"):
        download.fetch(server.archive(), tmp_path)
    server.ways = {"ranges"}
    assert download.fetch(server.archive(), tmp_path).read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_removed(server, tmp_path):
    server.ways = {"wrong"}
    with pytest.raises(
        UserError, match=f"sent 3,145,728 bytes with the MD5 .* not {MD5}: they have been removed"
    ):
        download.fetch(server.archive(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_not_there(server, tmp_path):
    with pytest.raises(
        UserError,
        match=r"cannot fetch .*gone\.tar\.gz \(.*Not Found\): .* put it at .*gone\.tar\.gz, or",
    ):
        download.fetch(server.archive("gone.tar.gz"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_follows_redirections(server, tmp_path):
    assert download.fetch(server.archive("moved.tar.gz"), tmp_path).read_bytes() == CONTENT


def test_without_a_network(tmp_path):
    with pytest.raises(UserError, match="cannot fetch .*refused.*on a machine with a network"):
        download.fetch(download.Archive("http://127.0.0.1:9/set.tar.gz", MD5), tmp_path)


def test_through_a_proxy(server, tmp_path, monkeypatch):
    """A proxy is asked for the whole address; the name of the archive's own server is never looked up."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    archive = download.Archive("http://no-such-host.invalid/set.tar.gz", MD5)
    assert download.fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.seen[0][0] == archive.url


def test_two_at_once_do_not_mix(server, tmp_path):
    server.ways = {"stalls"}
    first = threading.Thread(target=_quietly, args=(server, tmp_path))
    first.start()
    while not server.seen:
        pass
    with pytest.raises(UserError, match="another process is fetching"):
        download.fetch(server.archive(), tmp_path)
    server.released.set()
    first.join()


def _quietly(server, folder):
    with contextlib.suppress(UserError):
        download.fetch(server.archive(), folder)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file.*XDG_CACHE_HOME"):
        download.fetch(server.archive(), tmp_path / "file" / "cache")


@pytest.mark.parametrize("dataset", sorted(download.ARCHIVES))
def test_the_published_archives(dataset):
    archive = download.ARCHIVES[dataset]
    assert (
        archive.name
        == {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[dataset]
    )
    assert archive.url.startswith("https://") and len(archive.md5) == 32


def test_from_the_archive_to_the_databases_by_one_command(server, tmp_path, monkeypatch):
    """acu data cifar10 --download, on a made archive in the place of CIFAR-10's."""
    (tmp_path / "made").mkdir()
    samples.write_python(tmp_path / "made", "cifar10")
    packed = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "made", "cifar-10-batches-py")
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", packed.read_bytes())
    archive = server.archive()._replace(md5=hashlib.md5(packed.read_bytes()).hexdigest())
    monkeypatch.setitem(download.ARCHIVES, "cifar10", archive)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = ["cifar10", "--download", "--output", str(tmp_path / "data")]
    arguments = data.parser("acu data").parse_args(command)
    data.run(arguments)
    assert check_manifest(tmp_path / "data")["train"]["images"] > 0
    with pytest.raises(UserError, match="exists already"):
        data.run(arguments)
    assert len(server.seen) == 1, "said before anything is fetched"
