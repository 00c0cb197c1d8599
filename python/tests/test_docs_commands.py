"""Commands of docs/, run as they are written there in a folder with what they name, made small; and
what they print."""

import doctest
import os
import re
import shlex
import shutil
import subprocess

import cv2
import data_samples as samples
import numpy as np
import pytest
from active_convolution.caffe.locate import BUILD
from active_convolution.data import database
from active_convolution.data.images import Files, Options, create
from conftest import ROOT
from data_samples import KINDS, per_class, picture, write
from test_docs import blocks, marked

pytestmark = pytest.mark.slow

HERE = "runs in python/tests/test_docs_commands.py"
PUBLISHED = "acu_plain_cifar10_iter_64000.caffemodel"


def steps(block):
    """[command, what the page says that it prints]; a block without $ is nothing but commands."""
    found = []
    for line in block:
        if line.startswith("$ ") or not any(line.startswith("$ ") for line in block):
            found.append([line.removeprefix("$ "), ""])
        else:
            found[-1][1] += line + "\n"
    return found


def run(command, folder):
    """Its stdout. A training ends after two iterations."""
    if command.startswith("acu train "):
        command += " --max-iter 2"
    path = os.pathsep.join([f"{ROOT}/scripts", f"{BUILD}/out/tools", os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def assert_runs(page, folder, number):
    """Runs the marked blocks of a page; ``number`` matches what may be another one here than
    there."""
    found = list(marked(page, HERE))
    for block in found:
        for command, expected in steps(list(blocks(block))):
            printed, expected = (
                re.sub(number, "#", text) for text in (run(command, folder), expected)
            )
            if "\n…\n" in expected:
                start, end = expected.split("…\n")
                assert printed.startswith(start) and printed.endswith(end), printed
            else:
                assert expected in ("", printed), printed
    return len(found)


# ---- What the pages name


def cifar(folder, dataset, name):
    (folder / name).mkdir()
    samples.write_python(folder / name, dataset)
    samples.packed(folder / name)
    shutil.rmtree(folder / name)


def listed(folder):
    """images/ with train.txt, val.txt and names.txt; and the table of a competition."""
    for part, count in (("train", 6), ("val", 3)):
        lines = []
        for number in range(count):
            write(folder / f"images/{part}_{number}.png", picture(number))
            lines.append(f"{part}_{number}.png {number % 3}\n")
        (folder / f"{part}.txt").write_text("".join(lines))
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in KINDS))
    rows = ["id,label\n"]
    for number in range(15):
        write(folder / f"competition/c{number}.png", picture(number))
        rows.append(f"c{number},{KINDS[number % 3]}\n")
    (folder / "trainLabels.csv").write_text("".join(rows))


def databases(folder):
    """Such as Caffe's examples and DIGITS make them."""
    images = np.array([picture(number).transpose(2, 0, 1) for number in range(6)])
    for name in ("examples/imagenet/ilsvrc12_{}_lmdb", "job/{}_db"):
        for part in ("train", "val"):
            path = folder / name.format(part)
            path.parent.mkdir(parents=True, exist_ok=True)
            database.write(path, images, np.arange(6) % 3)
    lines = [f"n0{number} {name}\n" for number, name in enumerate(KINDS)]
    (folder / "synset_words.txt").write_text("".join(lines))


def places(folder):
    for part, count in (("data", 6), ("val", 4)):
        names = [
            f"a/scene/{number}.jpg" if part == "data" else f"Places365_val_{number}.jpg"
            for number in range(count)
        ]
        for number, name in enumerate(names):
            write(folder / f"{part}_256" / name, picture(number, 256, 256))
        lines = "".join(f"{name} {number % 2}\n" for number, name in enumerate(names))
        (
            folder / {"data": "places365_train_standard.txt", "val": "places365_val.txt"}[part]
        ).write_text(lines)


def flowers(folder, side):
    for number in range(30):
        write(
            folder / f"flowers/{KINDS[number % 3]}/{number}.jpg",
            picture(number, side, side + 5),
            cv2.IMWRITE_JPEG_QUALITY,
            95,
        )
    return folder / "flowers"


def networks(folder):
    """The paper's networks, whose tests end with the first batch."""
    shutil.copytree(ROOT / "models", folder / "models")
    for path in (folder / "models").rglob("solver.prototxt"):
        path.write_text(re.sub("test_iter: .*", "test_iter: 1", path.read_text()))


SOLVER = """net: "examples/lenet.prototxt" base_lr: 0.01 lr_policy: "fixed"
max_iter: 4 test_iter: 1 test_interval: 2"""
LENET = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.0039 }
  data_param { source: "job/train_db" batch_size: 2 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


# ---- The pages


def test_readme(tmp_path, root, monkeypatch):
    commands, session = marked(root / "README.md", HERE)
    flowers(tmp_path, 40).rename(tmp_path / "pictures")
    write(tmp_path / "new.jpg", picture(1, 40, 45))
    for command in blocks(commands):
        run(command, tmp_path)
    assert (tmp_path / "runs/mine/positions.png").stat().st_size > 1000
    path = [os.environ["PYTHONPATH"], f"{BUILD}/fork/python"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    script = session.strip("`\n")
    said = run(f"/usr/bin/python3 -c {shlex.quote(script)}", tmp_path)
    assert said.split("\n")[0] in KINDS and "[[[[-1." in said


def test_data(tmp_path, root):
    cifar(tmp_path, "cifar100", "cifar-100-python")
    flowers(tmp_path, 80)
    per_class(tmp_path, test="val")
    listed(tmp_path)
    databases(tmp_path)
    places(tmp_path)
    assert assert_runs(root / "docs/data.md", tmp_path, r"\d+") == 5
    made = {path.parent.name for path in tmp_path.glob("data/*/manifest.json")}
    assert made == {
        "digits",
        "cifar100",
        "flowers",
        "mine",
        "listed",
        "kaggle",
        "places365",
    }


def test_training(tmp_path, root, shared_reference):
    networks(tmp_path)
    cifar(tmp_path, "cifar10", "cifar-10-python")
    options = Options(size=(32, 32), test_fraction=0.2)
    create(tmp_path / "data/flowers", Files(flowers(tmp_path, 32)), options=options)
    databases(tmp_path)
    (tmp_path / "examples/lenet_solver.prototxt").write_text(SOLVER)
    (tmp_path / "examples/lenet.prototxt").write_text(LENET)
    (tmp_path / PUBLISHED).symlink_to(shared_reference / PUBLISHED)
    assert assert_runs(root / "docs/training.md", tmp_path, r"no number differs") == 3
    assert (tmp_path / "runs/lenet/snapshots/").is_dir() and (
        tmp_path / "positions.png"
    ).stat().st_size > 1000


def test_export(tmp_path, root, shared_reference):
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / PUBLISHED).symlink_to(shared_reference / PUBLISHED)
    assert (
        assert_runs(
            root / "docs/export.md",
            tmp_path,
            r"\d\.\de-\d\d|OpenCV [\d.]+|(?<=difference )\de-\d\d",
        )
        == 2
    )


def test_the_session_in_pycaffe(root, monkeypatch):
    monkeypatch.chdir(root)
    (session,) = marked(root / "docs/layer.md", HERE)
    told = doctest.DocTestParser().get_doctest(session.strip("`\n"), {}, "docs/layer.md", None, 0)
    assert len(told.examples) > 5
    assert doctest.DocTestRunner().run(told).failed == 0
