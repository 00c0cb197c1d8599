"""The checksum of an LMDB's content."""

import hashlib
import itertools
import os
from pathlib import Path

import lmdb
from tqdm import tqdm


def checksum(path):
    """The SHA-256, in hexadecimal, of all keys and values of the LMDB folder ``path`` in order."""
    digest = hashlib.sha256()
    with (
        lmdb.open(os.fsencode(path), readonly=True, lock=False) as database,
        database.begin(buffers=True) as transaction,
    ):
        count = transaction.stat()["entries"]
        # No more than there are: in a damaged database the way from one to the next may be a circle.
        for key, value in tqdm(
            itertools.islice(transaction.cursor(), count + 1),
            desc=f"checksum of {Path(path).name}",
            total=count,
            unit="image",
            delay=2,
        ):
            digest.update(key)
            digest.update(value)
    return digest.hexdigest()
