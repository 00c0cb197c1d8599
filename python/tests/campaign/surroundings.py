"""What is no file, in the place of one; and surroundings in which it is hard to work."""

import dataclasses
import os
import shutil

SPARSE = 2**40  # bytes


# ---- In the place of a file


def _remove(path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _pipe(path):
    _remove(path)
    os.mkfifo(path)


def _link(target):
    def put(path):
        _remove(path)
        path.symlink_to(target or path.name)

    return put


def _folder(path):
    _remove(path)
    path.mkdir()


def _file(size):
    def put(path):
        _remove(path)
        with open(path, "wb") as file:
            file.truncate(size)

    return put


ODD = {
    "a pipe": _pipe,
    "/dev/zero": _link("/dev/zero"),
    "/dev/full": _link("/dev/full"),
    "a link to nowhere": _link("nowhere"),
    "a link to itself": _link(None),
    "a folder": _folder,
    "an empty file": _file(0),
    "a terabyte": _file(SPARSE),
}


# ---- Around a program


@dataclasses.dataclass(frozen=True)
class Surrounding:
    """``shell`` runs the program, "$@"; ``variables`` are its environment's; ``folder``, a name, is that of the working
    directory. ``heard``: whether it can say on stderr what is wrong; ``finished``: whether it fails after its work."""

    shell: str = 'exec "$@"'
    variables: tuple = ()
    folder: str = None
    heard: bool = True
    finished: bool = False


_ASCII = (("LC_ALL", "POSIX"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", "0"))
SURROUNDINGS = {
    "a full stdout": Surrounding('exec "$@" > /dev/full', finished=True),
    "no stdin and no stdout": Surrounding('exec "$@" <&- >&-'),
    "no stderr": Surrounding('exec "$@" 2>&-', heard=False),
    "a full stderr": Surrounding('exec "$@" 2> /dev/full', heard=False),
    "an endless stdin": Surrounding('exec "$@" < /dev/zero'),
    "ASCII": Surrounding(variables=_ASCII),
    "a folder that is no UTF-8": Surrounding(folder=os.fsdecode(b"trial\xff")),
    **{
        f"files of at most {size} bytes": Surrounding(
            f'exec prlimit --fsize={size} "$@"'
        )  # as on a full disk
        for size in (0, 100, 5000, 30_000, 200_000)
    },
}
