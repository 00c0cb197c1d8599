"""The fault campaign: its judgement finds what it is there to find, and damage comes from the
seed."""

import random

import pytest
from campaign import __main__ as campaign
from campaign import judging


def test_damage_comes_from_the_seed_and_is_manifold():
    whole = bytes(range(256)) * 8
    made = [[campaign.damaged(whole, random.Random(seed)) for seed in range(60)] for _ in range(2)]
    assert made[0] == made[1] and len(set(made[0]) - {whole}) > 50


@pytest.mark.parametrize(
    "status, said, wrong",
    [
        (0, "", None),
        (1, "error: a\n", None),
        (2, "error: a (see acu --help)\n", None),
        (1, "images: 10%|#  | 1/10 [00:00<00:01]\r100%|#| 10/10 [00:00<00:00]\nerror: a\n", None),
        (None, "", "hangs"),
        (-6, "F1125 Check failed\n", "ends with -6"),
        (120, "", "ends with 120"),
        (1, "", "says 0 lines"),
        (1, "libpng error\nerror: a\n", "says 2 lines"),
        (1, "KeyError\n", "says 1 lines"),
    ],
)
def test_what_a_program_says_is_judged(status, said, wrong):
    found = judging.ended_badly(status, said)
    assert found == wrong or wrong and found.startswith(wrong)


def test_what_is_left_is_seen(tmp_path):
    (tmp_path / "out").mkdir()
    assert judging.half_done(tmp_path, "export --output out") == "out"
    assert judging.half_done(tmp_path, "train --output out") is None
    (tmp_path / ".out.partial").mkdir()
    assert judging.half_done(tmp_path, "train --output out") is None
    (tmp_path / ".temporary").mkdir()
    assert judging.half_done(tmp_path, "train --output out") == ".temporary"
    before = judging.state(tmp_path)
    (tmp_path / "touched").touch()
    assert judging.state(tmp_path) != before
