"""Which classes a network takes for which, image by image: per-class errors, the confusion matrix, and the images about
which it errs most surely."""

import base64
import csv
import heapq
import json

import numpy as np

from ..errors import UserError
from ..files import json_object, reading, whole_file

FILE = "evaluation.json"  # in a run folder, where a report finds it
FORMER = {
    "top1",
    "top5",
}  # the keys of what acu reproduce kept under that name once: see paper/results.py
_MOST = 24  # of the most confused images that are kept


class Confusion:
    """What a network answered to each test image."""

    def begin(self, classes, names=None):
        """``names`` are those of the ``classes``, in the order of the labels, or None for their numbers."""
        self.names = list(names or map(str, range(classes)))
        self._named = bool(names)
        self.matrix = np.zeros((classes, classes), int)  # [label, answer]: how many images
        self._rows = []  # (label, answer, probability of the answer, of the label), in the database's order
        self._confused = []  # a heap of (by how much, number of the image, pixels) of wrong answers

    def add(self, images, labels, probabilities):
        """More images (N, C, H, W), as they are stored, with ``probabilities`` (N, classes)."""
        answers = np.where(np.isnan(probabilities), -1, probabilities).argmax(axis=1)
        for image, label, answer, row in zip(images, labels, answers, probabilities):
            number = len(self._rows)
            self._rows.append((int(label), int(answer), float(row[answer]), float(row[label])))
            if label != answer and np.isfinite(row).all():
                entry = (float(row[answer] - row[label]), -number, image.copy())
                (heapq.heappush if len(self._confused) < _MOST else heapq.heappushpop)(
                    self._confused, entry
                )
        np.add.at(self.matrix, (labels, answers), 1)

    def _by_class(self):
        """(name, images, error as a fraction or None without images) of each class, in the order of the labels."""
        images = self.matrix.sum(axis=1)
        wrong = images - self.matrix.diagonal()
        return [
            (name, int(all_of), float(bad / all_of) if all_of else None)
            for name, all_of, bad in zip(self.names, images, wrong)
        ]

    def worst(self, most=5):
        """(name, error) of so many classes with the largest errors; none where nobody named the classes."""
        erring = (
            [(name, error) for name, _, error in self._by_class() if error] if self._named else []
        )
        return sorted(erring, key=lambda entry: -entry[1])[:most]

    def content(self, top1, top5):
        """All of it as dictionaries and lists: what ``evaluate --json`` writes."""
        return {
            "images": len(self._rows),
            "top1_error": float(top1),
            "top5_error": float(top5),
            "classes": [
                dict(zip(("name", "images", "error"), entry)) for entry in self._by_class()
            ],
            "confusion": self.matrix.tolist(),
            "most_confused": [
                self._told(-negative, image) for _, negative, image in sorted(self._confused)[::-1]
            ],
        }

    def _told(self, number, image):
        label, answer, sure, right = self._rows[number]
        return {
            "image": number,
            "label": label,
            "answer": answer,
            "probability": round(sure, 6),
            "probability_of_label": round(right, 6),
            "png": base64.b64encode(_png(image)).decode(),
        }

    def write_predictions(self, path):
        """Writes a CSV file with a line for each test image, in the order of the database; whole or not at all."""
        with whole_file(path, newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["image", "label", "prediction", "probability", "label_name", "prediction_name"]
            )
            for number, (label, answer, sure, _) in enumerate(self._rows):
                writer.writerow(
                    [number, label, answer, f"{sure:.6g}", self.names[label], self.names[answer]]
                )


def write(path, content):
    """Writes what ``Confusion.content`` gives as JSON, whole or not at all."""
    with whole_file(path, encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def load(path):
    """What ``write`` wrote; None where there is no such file, or a FORMER one. Raises UserError where it is damaged."""
    if not path.exists():
        return None
    with reading(
        path, "is damaged", "write it anew with acu evaluate --json, or remove it", reason=True
    ):
        content = json_object(path)
        if content.keys() == FORMER:
            return None
        _check(content)
        return content


def _check(content):
    """Raises one of DAMAGE unless ``content`` is as ``Confusion.content`` gives it, as far as a report shows it."""
    classes, matrix = content["classes"], np.array(content["confusion"])
    if matrix.dtype.kind != "i" or matrix.shape != (len(classes), len(classes)) or matrix.min() < 0:
        raise ValueError("its confusion does not count the answers to each class")
    numbers = [
        _is_whole(content["images"]),
        _is_fraction(content["top1_error"]),
        _is_fraction(content["top5_error"]),
    ]
    named = [
        isinstance(entry["name"], str)
        and _is_whole(entry["images"])
        and (entry["error"] is None or _is_fraction(entry["error"]))
        for entry in classes
    ]
    shown = [
        _is_whole(entry["label"], len(classes))
        and _is_whole(entry["answer"], len(classes))
        and _is_fraction(entry["probability"])
        and isinstance(entry["png"], str)
        for entry in content["most_confused"]
    ]
    if not all(numbers + named + shown):
        raise ValueError("other entries")


def _is_whole(value, below=2**53):
    """... and by default no more than JavaScript can count to."""
    return type(value) is int and 0 <= value < below


def _is_fraction(value):
    return type(value) in (int, float) and 0 <= value <= 1


def _png(image):
    """An image (C, H, W) as a PNG: bytes as they are, blue first as Caffe stores photographs; of whitened ones, the range."""
    import cv2

    low, high = float(image.min()), float(image.max())
    if low < 0 or high <= 2 or high > 255:
        image = (image - low) * (255 / max(high - low, 1e-30))
    pixels = np.moveaxis(image[:3] if len(image) >= 3 else image[:1], 0, -1)
    try:
        return cv2.imencode(".png", np.uint8(np.clip(np.rint(pixels), 0, 255)))[1].tobytes()
    except cv2.error as error:
        raise UserError(
            f"an image of {pixels.shape[1]}×{pixels.shape[0]} pixels cannot be shown as PNG, which --json asks for: "
            "leave that out"
        ) from error
