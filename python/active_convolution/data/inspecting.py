"""The process that backends.inspected starts: it reads a database, told as JSON on stdin, and answers as JSON on stdout."""
import json
import sys

import lmdb

from ..errors import UserError
from ..pycaffe.process import end_with_parent, stop_at_once
from . import backends


def _answer(description, known):
    source = backends.Database(**{**description, "size": description["size"] and tuple(description["size"])})
    try:
        if known is None:
            return backends.inspect(source)._asdict()
        backends.compare(source, known)
        return {"images": 0, "shape": [], "images_per_class": [], "sha256": known}
    except UserError as error:
        return {"error": str(error)}
    except lmdb.Error as error:
        return {"error": f"cannot read {source.path} ({error}): make the data set anew"}


if __name__ == "__main__":
    stop_at_once()
    end_with_parent()
    json.dump(_answer(*json.load(sys.stdin)), sys.stdout)
