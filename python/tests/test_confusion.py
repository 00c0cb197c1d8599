"""Which classes are taken for which, in files and in a report; a report that is served."""

import base64
import csv
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from unittest import mock

import cv2
import numpy as np
import pytest
from active_convolution.caffe import process
from active_convolution.errors import UserError
from active_convolution.look import confusion
from active_convolution.look.report import content, page, server
from active_convolution.training.metrics import Metrics
from active_convolution.training.run_folder import RunFolder
from active_convolution.training.trainer import train
from limits import at_once

LABELS, ANSWERS = [0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 2]
SURE = [0.9, 0.5, 0.8, 0.6, 0.95, 0.7]


@pytest.fixture
def told():
    """Of six images of three classes."""
    made = confusion.Confusion()
    made.begin(3, ["cat", "dog", "<b>frog</b>"])
    probabilities = np.full((6, 3), 0.0)
    for row, (answer, sure) in enumerate(zip(ANSWERS, SURE)):
        probabilities[row] = (1 - sure) / 2
        probabilities[row, answer] = sure
    images = np.arange(6 * 3 * 4 * 5).reshape(6, 3, 4, 5) % 251
    for part in (slice(0, 4), slice(4, 6)):
        made.add(np.float32(images[part]), np.array(LABELS)[part], probabilities[part])
    return made, images


def test_errors_and_matrix_count_every_image(told, tmp_path):
    made, images = told
    confusion.write(tmp_path / "e.json", made.content(0.5, 0))
    found = confusion.load(tmp_path / "e.json")
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [2, 0, 1]] and found["images"] == 6
    assert [(entry["images"], entry["error"]) for entry in found["classes"]] == [
        (2, 0.5),
        (1, 0),
        (3, pytest.approx(2 / 3)),
    ]
    assert [entry["image"] for entry in found["most_confused"]] == [4, 3, 1], "the surest first"
    first = found["most_confused"][0]
    assert (first["label"], first["answer"], first["probability"]) == (2, 0, 0.95)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(first["png"]), np.uint8), cv2.IMREAD_COLOR)
    assert (shown == np.moveaxis(images[4], 0, -1)).all()


def test_predictions_have_a_line_for_each_image(told, tmp_path):
    told[0].write_predictions(tmp_path / "p.csv")
    rows = list(csv.DictReader((tmp_path / "p.csv").open(newline="")))
    assert [int(row["label"]) for row in rows] == LABELS and [
        int(row["prediction"]) for row in rows
    ] == ANSWERS
    assert rows[1]["label_name"] == "cat" and float(rows[4]["probability"]) == 0.95


def test_the_worst_classes_have_names(told):
    made, _ = told
    assert made.worst() == [("<b>frog</b>", pytest.approx(2 / 3)), ("cat", 0.5)], (
        "those without errors are none"
    )
    assert made.worst(1) == made.worst()[:1]
    made.begin(3)
    made.add(np.zeros((1, 1, 2, 2), np.float32), np.array([0]), np.array([[0, 1.0, 0]]))
    assert made.worst() == []


def test_only_the_surest_errors_are_kept():
    made = confusion.Confusion()
    made.begin(2)
    sure = np.linspace(0.6, 0.9, 100)
    made.add(
        np.zeros((100, 1, 2, 2), np.float32), np.zeros(100, int), np.stack([1 - sure, sure], axis=1)
    )
    made.add(np.zeros((1, 1, 2, 2), np.float32), np.zeros(1, int), np.array([[np.nan, np.nan]]))
    assert [entry["image"] for entry in made.content(1, 0)["most_confused"]] == list(
        range(99, 75, -1)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"classes": [], "confusion": [[1]], "most_confused": []}',
        '{"classes": [{}], "confusion": [[1]], "most_confused": []}',
    ],
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(
        UserError,
        match="evaluation.json is damaged .*: write it anew with acu evaluate --json, or remove it",
    ):
        confusion.load(tmp_path / "evaluation.json")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content["most_confused"][0].update(label=3),
        lambda content: content["most_confused"][0].update(answer=-1),
        lambda content: content["most_confused"][0].update(label=1.0),
        lambda content: content["most_confused"][0].update(png=None),
        lambda content: content["most_confused"][0].update(probability="0.5"),
        lambda content: content.pop("top1_error"),
        lambda content: content.update(top5_error=1.5),
        lambda content: content.update(images=-1),
        lambda content: content["confusion"][0].__setitem__(0, "x"),
        lambda content: content["confusion"][0].__setitem__(0, 0.5),
        lambda content: content["confusion"][0].__setitem__(0, -1),
        lambda content: content["confusion"][0].__setitem__(0, 2**80),
        lambda content: content["classes"][0].update(name=7),
        lambda content: content["classes"][0].pop("images"),
        lambda content: content["classes"][0].update(error=True),
    ],
)
def test_entries_of_another_kind_are_named(told, tmp_path, spoil):
    content = json.loads(json.dumps(told[0].content(0.5, 0)))
    spoil(content)
    confusion.write(tmp_path / "evaluation.json", content)
    with pytest.raises(
        UserError,
        match="evaluation.json is damaged .*: write it anew with acu evaluate --json, or remove it",
    ):
        confusion.load(tmp_path / "evaluation.json")


def test_an_image_too_wide_for_png_is_an_error():
    with pytest.raises(
        UserError,
        match="an image of 1000001×1 pixels cannot be shown as PNG, which --json asks for",
    ):
        confusion._png(np.zeros((1, 1, 1000001), np.float32))


def test_a_pipe_in_its_place_is_named(tmp_path):
    os.mkfifo(tmp_path / "evaluation.json")
    with pytest.raises(UserError, match="evaluation.json is no regular file"), at_once():
        confusion.load(tmp_path / "evaluation.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, digits_data):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train(tiny, "acu", digits_data, folder, max_iter=8) == 0
    return folder


def test_evaluate_and_report_agree(run, digits_data, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "active_convolution",
            "evaluate",
            "--model",
            run / "deploy.prototxt",
            "--weights",
            run / "snapshots/digits_tiny_acu_iter_8.caffemodel",
            "--data",
            digits_data,
            "--json",
            run / "evaluation.json",
            "--predictions",
            tmp_path / "p.csv",
        ],
        env=process.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, rows = (
        json.loads((run / "evaluation.json").read_text()),
        list(csv.DictReader((tmp_path / "p.csv").open())),
    )
    wrong = sum(row["label"] != row["prediction"] for row in rows)
    assert (
        f"top-1 error {100 * wrong / 297:.2f} %" in done.stdout
        and len(rows) == found["images"] == 297
    )
    assert found["top1_error"] == pytest.approx(
        Metrics.load(run / "metrics.csv").last("test_error"), abs=1e-6
    )
    assert content.read([run])["runs"][0]["evaluation"] == found
    assert len(found["most_confused"]) == min(24, wrong)
    assert '"most_confused":[{' in page.render(
        content.read([run])
    ) and "img-src data:" in page.render(content.read([run]))


def test_a_served_report_is_made_anew(run, tmp_path):
    """And has the browser look again as long as the training goes on."""
    folder, addresses = tmp_path / "copy", []
    folder.mkdir()
    for name in ("solver.prototxt", "train_val.prototxt", "metrics.csv"):
        (folder / name).write_bytes((run / name).read_bytes())
    metrics = Metrics.load(folder / "metrics.csv")
    metrics.truncate(4)
    metrics.save(folder / "metrics.csv")
    threading.Thread(target=server.serve, args=([folder], 0, addresses.append), daemon=True).start()
    while not addresses:
        time.sleep(0.01)
    with urllib.request.urlopen(addresses[0]) as answer:
        assert (
            answer.headers["Refresh"] == "10"
            and '"iteration":4,"max_iter":8' in answer.read().decode()
        )
    (folder / "metrics.csv").write_bytes((run / "metrics.csv").read_bytes())
    with urllib.request.urlopen(addresses[0]) as answer:
        assert (
            answer.headers["Refresh"] is None
            and '"iteration":8,"max_iter":8' in answer.read().decode()
        )
    (folder / "metrics.csv").write_text("no record")
    with urllib.request.urlopen(addresses[0]) as answer:
        assert "metrics.csv is damaged" in answer.read().decode()
    with pytest.raises(UserError, match="cannot serve at port .*: Address already in use"):
        server.serve([run], int(addresses[0].split(":")[2].strip("/")), print)
    with pytest.raises(UserError, match="is no run"):
        server.serve([tmp_path], 0, print)


def test_a_browser_that_goes_and_a_disk_that_fails_are_no_tracebacks(run, monkeypatch, capfd):
    addresses = []
    threading.Thread(target=server.serve, args=([run], 0, addresses.append), daemon=True).start()
    while not addresses:
        time.sleep(0.01)
    port = int(addresses[0].split(":")[2].strip("/"))
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # its end is a reset
    for error, said in (
        (OSError(errno.EIO, "gone", "/disk"), "cannot use /disk: gone"),
        (MemoryError(), "not enough memory"),
        (
            UnicodeEncodeError("utf-8", "bad\udcff", 3, 4, "no"),
            "bad\\udcff&#x27; is no text in UTF-8",
        ),
    ):
        monkeypatch.setattr(server.content, "read", mock.Mock(side_effect=error))
        with urllib.request.urlopen(addresses[0]) as answer:
            assert said in answer.read().decode() and answer.headers["Refresh"] == "10"
    assert capfd.readouterr().err == ""


def test_a_run_without_an_accuracy_is_reported(run, tmp_path):
    folder = RunFolder(tmp_path / "x")
    folder.path.mkdir()
    for name in ("solver.prototxt", "train_val.prototxt"):
        (folder.path / name).write_bytes((run / name).read_bytes())
    metrics = Metrics(["test/second"])
    metrics.append(8, loss=1, test_loss=0.5, seconds=1, **{"test/second": 3})
    metrics.save(folder.metrics)
    found = content.read([folder.path])["runs"][0]
    assert (
        found["summary"]["test_error"] is None
        and found["test"]["test_loss"] == [0.5]
        and found["evaluation"] is None
    )
