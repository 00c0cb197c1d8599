"""The archives that the authors of CIFAR publish, fetched once into a cache folder, resumed and verified."""

import fcntl
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..errors import UserError

_PATIENCE = 60  # seconds without a byte before the server counts as gone
_PIECE = 1 << 20  # bytes


class Archive(NamedTuple):
    """A file on the data set's own page, and the MD5 that stands beside it there."""

    url: str
    md5: str

    @property
    def name(self):
        return self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
    ),
    "cifar100": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
    ),
}


def cache_folder():
    """Where archives are kept: ``active-convolution`` in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "active-convolution"


def fetch(archive, folder=None):
    """The path of ``archive`` in ``folder`` (default: cache_folder()), verified; fetched where it is not there yet.

    What arrived before an interruption stays beside it as NAME.part, and the next call goes on from there. Proxies are
    those of the environment (http_proxy, https_proxy). Raises UserError, with what to do by hand, where the server
    cannot be reached, has no such file, or sends another one.
    """
    folder = folder or cache_folder()
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as file:
            _lock(file, path)
            try:
                if not path.exists():
                    _complete(archive, file, path)
            finally:
                if part.exists() and part.stat().st_size == 0:
                    part.unlink()
    except urllib.error.URLError as error:  # before OSError, which it is
        raise _unreachable(archive, path, getattr(error, "reason", error)) from error
    except (
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
        ValueError,
    ) as error:  # the last of a redirection to no URL
        raise _unreachable(archive, path, error or type(error).__name__) from error
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or part}: {error.strerror}; free some space, or name another "
            "cache folder with XDG_CACHE_HOME"
        ) from error
    return path


def _lock(file, path):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed
    except BlockingIOError as error:
        raise UserError(f"another process is fetching {path} just now: wait for it") from error


def _complete(archive, file, path):
    """Brings the opened .part file to its end, checks it, and gives it its name ``path``."""
    _receive(archive, file)
    file.flush()
    os.fsync(file.fileno())
    with open(file.name, "rb") as received:
        found = hashlib.file_digest(received, "md5").hexdigest()
    if found != archive.md5:
        size = os.path.getsize(file.name)
        os.unlink(file.name)
        raise UserError(
            f"{archive.url} sent {size:,} bytes with the MD5 {found}, not {archive.md5}: they have been "
            "removed; try again, and see whether a proxy or a login page stands between"
        )
    os.replace(file.name, path)


def _receive(archive, file):
    """Appends what ``file`` lacks."""
    begun = file.tell()
    request = urllib.request.Request(
        archive.url, headers={"Range": f"bytes={begun}-"} if begun else {}
    )
    try:
        opener = urllib.request.build_opener()  # unlike urlopen, with the proxies of now
        response = opener.open(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begun:  # there is no more than what is here: the checksum decides
            return
        raise
    with response:
        if response.status != 206 or not _continues(response, begun):  # the whole file once more
            file.truncate(0)
            begun = 0
        rest = response.headers.get("Content-Length")
        total = begun + int(rest) if rest and rest.isdecimal() else None
        with tqdm(
            total=total,
            initial=begun,
            desc=archive.name,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
        ) as bar:
            while piece := response.read(_PIECE):
                file.write(piece)
                bar.update(len(piece))
            if total is not None and bar.n < total:
                raise http.client.IncompleteRead(b"", total - bar.n)


def _continues(response, begun):
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return bool(start) and int(start[1]) == begun


def _unreachable(archive, path, reason):
    if isinstance(reason, http.client.IncompleteRead):
        reason = f"the connection ended {reason.expected:,} bytes early; the same command goes on from there"
    if isinstance(reason, urllib.error.HTTPError):
        reason = f"{reason.code} {reason.reason}"
    return UserError(
        f"cannot fetch {archive.url} ({reason}): fetch it on a machine with a network, put it at {path}, "
        "or give it as --source"
    )
