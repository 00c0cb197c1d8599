"""Which classes are taken for which, in files."""

import base64
import csv
import json

import cv2
import numpy as np
import pytest
from active_convolution.caffe import locate
from active_convolution.data.manifest import Manifest
from active_convolution.look import confusion

LABELS, ANSWERS = [0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 2]
SURE = [0.9, 0.5, 0.8, 0.6, 0.95, 0.7]
NAMES = ["cat", "dog", "<b>frog</b>"]
IMAGES = np.arange(6 * 3 * 4 * 5).reshape(6, 3, 4, 5) % 251


def told(classes=3, names=NAMES, order="BGR", **transform):
    """Of the six images of three classes."""
    made = confusion.Confusion()
    transform = locate.caffe_pb2().TransformationParameter(**transform)
    made.begin(classes, Manifest("m", 3, names, channel_order=order), transform)
    probabilities = np.zeros((6, classes))
    for row, (answer, sure) in enumerate(zip(ANSWERS, SURE)):
        probabilities[row] = (1 - sure) / 2
        probabilities[row, answer] = sure
    mean = np.reshape(list(transform.mean_value) or [0], (-1, 1, 1))
    images = np.float32((IMAGES - mean) * transform.scale)
    for part in (slice(0, 4), slice(4, 6)):
        made.add(images[part], np.array(LABELS)[part], probabilities[part])
    return made


def shown(entry):
    stored = np.frombuffer(base64.b64decode(entry["png"]), np.uint8)
    return cv2.imdecode(stored, cv2.IMREAD_COLOR)


def test_errors_and_matrix_count_every_image(tmp_path):
    confusion.write(tmp_path / "e.json", told().content(50.0, None))
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [2, 0, 1]] and found["images"] == 6
    assert (found["top1_error"], found["top5_error"]) == (50, None)
    assert [entry["images"] for entry in found["classes"]] == [2, 1, 3]
    errors = [entry["error"] for entry in found["classes"]]
    assert errors == [50, 0, pytest.approx(200 / 3)]
    assert [entry["image"] for entry in found["most_confused"]] == [4, 3, 1], "the surest first"
    first = found["most_confused"][0]
    assert (first["label"], first["answer"], first["probability"]) == (2, 0, 0.95)


@pytest.mark.parametrize(
    "order, transform", [("BGR", {}), ("RGB", {}), ("BGR", dict(mean_value=[9, 8, 7], scale=0.02))]
)
def test_images_are_shown_as_they_were_stored(order, transform):
    (first, *_) = told(order=order, **transform).content(50, 0)["most_confused"]
    expected = np.moveaxis(IMAGES[4], 0, -1)
    assert (shown(first) == (expected[..., ::-1] if order == "RGB" else expected)).all()


def test_whitened_images_are_shown_by_their_range():
    made = told(mean_value=[200], scale=1)
    made._confused[0] = (9.0, -4, np.float32([[[-500, 0], [250, 500]]]))
    picture = shown(made.content(50, 0)["most_confused"][0])
    assert picture[..., 0].tolist() == [[0, 128], [191, 255]]


def test_predictions_have_a_line_for_each_image(tmp_path):
    told().write_predictions(tmp_path / "p.csv")
    rows = list(csv.DictReader((tmp_path / "p.csv").open(newline="")))
    assert [int(row["label"]) for row in rows] == LABELS
    assert [int(row["prediction"]) for row in rows] == ANSWERS
    assert rows[1]["label_name"] == "cat" and float(rows[4]["probability"]) == 0.95


def test_the_worst_classes_have_names():
    made = told()
    assert made.worst() == [("<b>frog</b>", pytest.approx(200 / 3)), ("cat", 50)]
    assert made.worst(1) == made.worst()[:1]
    assert told(names=None).worst() == []


def test_outputs_that_no_image_has():
    made = told(classes=5)
    assert made.names == [*NAMES, "3", "4"] and made.largest == 2
    assert made.content(50, 0)["classes"][4] == {"name": "4", "images": 0, "error": None}


def test_only_the_surest_errors_are_kept():
    made, sure = confusion.Confusion(), np.linspace(0.6, 0.9, 100)
    made.begin(2, None, locate.caffe_pb2().TransformationParameter())
    nothing = np.zeros((100, 1, 2, 2), np.float32)
    made.add(nothing, np.zeros(100, int), np.stack([1 - sure, sure], axis=1))
    made.add(nothing[:1], np.zeros(1, int), np.array([[np.nan, np.nan]]))
    kept = [entry["image"] for entry in made.content(1, 0)["most_confused"]]
    assert kept == list(range(99, 75, -1))
