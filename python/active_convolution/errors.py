"""The exceptions that mean "the user can mend this", and what is said of those that the
surroundings raise."""

import math
import os
import traceback

NO_MEMORY = "there is not enough memory for this: close other programs, or give smaller input"
_PLAINER = {  # what some of Caffe's checks are about
    "Image data type must be unsigned byte": "it reads images of 8 bits for a value, and one has "
    "more: make the database of images of 8 bits",
}


class UserError(Exception):
    """Bad input or a missing tool. The message is one line that names the thing and the remedy."""


class BadValue(UserError):
    """An option has a value that it cannot have, whatever the files say."""


def out_of_range(value, least, most=None, above=False):
    """What is wrong with a ``value`` that is not from ``least`` (``above``: not that itself) to
    ``most`` (None: without end); None where nothing is."""
    upper = math.inf if most is None else most
    if (least < value if above else least <= value) and value <= upper and value != math.inf:
        return None
    if above:
        allowed = f"a number above {least}{'' if most is None else f', {most} at most'}"
    else:
        allowed = f"{least} or more" if most is None else f"one from {least} to {most}"
    return f"is out of range: give {allowed}"


def explained(error):
    """The line to say of an exception that is not a fault of the program: the user's, or one that
    the machine raises in the middle of anything. None for any other."""
    if isinstance(error, UserError):
        line = str(error)
    elif isinstance(error, MemoryError):
        line = NO_MEMORY
    elif isinstance(error, RuntimeError) and _is_from_pycaffe(error):
        line = f"Caffe: {plain(str(error))}"
    elif isinstance(error, UnicodeEncodeError):
        line = f"the name {error.object!r} is not UTF-8 text: rename it, or set LC_ALL=C.UTF-8"
    elif isinstance(error, OSError) and error.errno is not None:
        names = " and ".join(
            _shown(name) for name in (error.filename, error.filename2) if name is not None
        )
        line = f"cannot {f'use {names}' if names else 'read or write'}: {error.strerror}"
    else:
        return None
    doing = getattr(error, "doing", None)  # see caffe/guard.py
    return " ".join(f"{f'{doing}: ' if doing else ''}{line}".splitlines())


def plain(words):
    """What Caffe's last ``words`` mean, where a reader could not tell."""
    return next((meant for check, meant in _PLAINER.items() if check in words), words)


def _is_from_pycaffe(error):
    """Whether it is one of Caffe's C++, such as a failed check, which comes out of its Python
    module or of a call of ours: a user's Python layer needs its traceback."""
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    if isinstance(error, (RecursionError, NotImplementedError)):
        return False
    return raised.startswith(os.path.dirname(__file__)) or "/caffe/" in raised


def _shown(name):
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)
