"""The fault campaign: its damage is the same with the same seed, and its judgement finds what it is there to find."""

import io
import json
import lzma
import os
import random
import tarfile
import zlib

import numpy as np
import pytest
from campaign import judge, mutations


def npz():
    with io.BytesIO() as file:
        np.savez(file, a=np.zeros((3, 4), np.float32), about='{"a": [1, 2]}')
        return file.getvalue()


def tar():
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a/b"), io.BytesIO())
        return file.getvalue()


def png():
    chunk = b"IHDR" + bytes(13)
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + chunk + zlib.crc32(chunk).to_bytes(4, "big")


WHOLE = {
    "protobuf": b"\x0a\x03abc\x10\x05\x1a\x02\x08\x01",
    "npz": npz(),
    "lmdb": bytes(range(256)) * 64,
    "png": png(),
    "tar": tar(),
    "tar.xz": lzma.compress(tar()),
    "zip": npz(),
    "leveldb": bytes(range(256)) * 2,
    "hdf5": bytes(range(256)) * 2,
    "csv": b"a,b\n1,2\n",
    "prototxt": b"a: 1\nb { c: 2 }\n",
    "json": b'{"a": [1, {"b": 2}]}',
}


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_damage_comes_from_the_seed_and_is_manifold(kind):
    made = [
        [mutations.mutate(kind, WHOLE[kind], random.Random(seed)) for seed in range(60)]
        for _ in range(2)
    ]
    if kind not in ("npz", "zip"):  # whose members have the time in them
        assert made[0] == made[1]
    assert len(set(made[0]) - {WHOLE[kind]}) > 25


def test_a_message_that_is_taken_apart_is_put_together_again():
    assert (
        b"".join(map(mutations._field, mutations._fields(WHOLE["protobuf"]))) == WHOLE["protobuf"]
    )
    assert mutations._fields(b"\x0a\x05abc") == [] == mutations._fields(b"\xff")


@pytest.mark.parametrize(
    "status, said, wrong",
    [
        (0, "", None),
        (1, "error: a\n", None),
        (2, "error: a (see acu --help)\n", None),
        (
            1,
            "images:  10%|#    | 1/10 [00:00<00:01]\rimages: 100%|#####| 10/10 [00:00<00:00]\nerror: a\n",
            None,
        ),
        (None, "", "hangs"),
        (-6, "F1125 Check failed\n", "ends with -6"),
        (120, "", "ends with 120"),
        (1, "", "says 0 lines"),
        (1, "libpng error\nerror: a\n", "says 2 lines"),
        (1, "Traceback\n  a\nKeyError: 'a'\n", "says 3 lines"),
        (1, "KeyError\n", "says 1 lines"),
    ],
)
def test_what_a_program_says_is_judged(status, said, wrong):
    found = judge._ended_badly(status, said)
    assert found == wrong or wrong and found.startswith(wrong)


def test_what_is_left_is_seen(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.abcdefgh").mkdir()
    assert judge._looks_whole(tmp_path, "export --output out") and judge._hidden(tmp_path) == [
        ".out.abcdefgh"
    ]
    before = judge._state(tmp_path)
    (tmp_path / "touched").write_text(json.dumps(1))
    assert judge._state(tmp_path) != before


def test_a_training_at_work_does_not_hang(tmp_path):
    log = tmp_path / "run/train.log"
    log.parent.mkdir()
    log.touch()
    assert judge._trains(tmp_path)
    os.utime(log, (0, 0))
    assert not judge._trains(tmp_path)
