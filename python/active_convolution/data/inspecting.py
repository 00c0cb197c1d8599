"""The process that backends.inspected starts: it reads a database, told as JSON on stdin, and answers as JSON on stdout.

To compare an LMDB with its checksum needs no Caffe; it is imported where records have to be read.
"""

import json
import sys

import lmdb

from ..caffe.process import end_with_parent, stop_at_once
from ..errors import UserError
from .checksums import checksum


def _answer(source, known):
    try:
        if known is not None and source["backend"] == "LMDB":
            return {
                "images": 0,
                "shape": [],
                "images_per_class": [],
                "sha256": checksum(source["path"]),
            }
        from . import backends

        size = source["size"] and tuple(source["size"])
        return backends.inspect(backends.Database(**{**source, "size": size}))._asdict()
    except UserError as error:
        return {"error": str(error)}
    except lmdb.Error as error:
        return {"error": f"cannot read {source['path']} ({error}): make the data set anew"}


if __name__ == "__main__":
    stop_at_once()
    end_with_parent()
    json.dump(_answer(*json.load(sys.stdin)), sys.stdout)
