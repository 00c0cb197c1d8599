"""Which classes a network takes for which, image by image: errors by class, the confusion matrix,
and the images about which it errs most surely."""

import base64
import csv
import heapq
import json

import numpy as np

from ..files import whole_file

FILE = "evaluation.json"  # in a run folder, where a report finds it
_MOST = 24  # of the most confused images that are kept


class Confusion:
    """What a network answered to each test image."""

    def begin(self, classes, manifest, transform):
        """Of a network with so many ``classes``. ``manifest`` (data.manifest.Manifest, or None) has
        their names and the order of the colours; ``transform`` (TransformationParameter) is what
        Caffe did to the images."""
        names = (manifest and manifest.label_names) or []
        self.named = bool(names)
        self.names = [*names, *map(str, range(len(names), classes))]
        self._red_first = bool(manifest) and manifest.channel_order == "RGB"
        self._transform = transform
        self.matrix = np.zeros((len(self.names), classes), int)  # [label, answer]: how many images
        self._rows = []  # (label, answer, probability of the answer, of the label), in order
        self._confused = []  # a heap of (by how much, number of the image, pixels) of wrong answers

    def add(self, images, labels, probabilities):
        """More images (N, C, H, W), as Caffe reads them, with ``probabilities`` (N, classes)."""
        answers = np.where(np.isnan(probabilities), -1, probabilities).argmax(axis=1)
        for image, label, answer, row in zip(images, labels, answers, probabilities):
            number = len(self._rows)
            sure, right = round(float(row[answer]), 6), round(float(row[label]), 6)
            self._rows.append((int(label), int(answer), sure, right))
            if label != answer and np.isfinite(row).all():
                entry = (float(row[answer] - row[label]), -number, image)
                push = heapq.heappush if len(self._confused) < _MOST else heapq.heappushpop
                push(self._confused, entry)
        np.add.at(self.matrix, (labels, answers), 1)

    @property
    def largest(self):
        """The largest label that an image had."""
        return int(self.matrix.sum(axis=1).nonzero()[0].max())

    def _by_class(self):
        """(name, images, error in %, None without images) of each class, by label."""
        images = self.matrix.sum(axis=1)
        right = self.matrix.diagonal()  # shorter where classes outnumber the outputs
        wrong = images - np.pad(right, (0, len(images) - len(right)))
        return [
            (name, int(all_of), float(100 * bad / all_of) if all_of else None)
            for name, all_of, bad in zip(self.names, images, wrong)
        ]

    def worst(self, most=5):
        """(name, error in %) of so many classes with the largest errors; none where nobody named
        the classes."""
        erring = [(name, error) for name, _, error in self._by_class() if error and self.named]
        return sorted(erring, key=lambda entry: -entry[1])[:most]

    def content(self, top1, top5):
        """All of it as dictionaries and lists, errors in %: what ``evaluate --json`` writes."""
        by_class = [dict(zip(("name", "images", "error"), entry)) for entry in self._by_class()]
        confused = sorted(self._confused, key=lambda entry: entry[:2])[::-1]
        return {
            "images": len(self._rows),
            "top1_error": top1,
            "top5_error": top5,
            "classes": by_class,
            "confusion": self.matrix.tolist(),
            "most_confused": [self._told(-negative, image) for _, negative, image in confused],
        }

    def _told(self, number, image):
        names = ("label", "answer", "probability", "probability_of_label")
        png = base64.b64encode(self._png(image)).decode()
        return {"image": number, **dict(zip(names, self._rows[number])), "png": png}

    def _png(self, image):
        """An image as PNG: bytes as they were stored; of others, such as whitened ones, the
        range."""
        import cv2

        mean = list(self._transform.mean_value) or [0]
        image = image / self._transform.scale + np.reshape(mean, (-1, 1, 1))
        low, high = float(image.min()), float(image.max())
        if low < -0.5 or high <= 2 or high > 255.5:
            image = (image - low) * (255 / max(high - low, 1e-30))
        pixels = np.moveaxis(image[:3] if len(image) >= 3 else image[:1], 0, -1)
        pixels = pixels[..., ::-1] if self._red_first else pixels
        return cv2.imencode(".png", np.uint8(np.clip(np.rint(pixels), 0, 255)))[1].tobytes()

    def write_predictions(self, path):
        """Writes a CSV file with a line for each test image, as they are read."""
        with whole_file(path, newline="") as file:
            writer = csv.writer(file)
            head = ("image", "label", "prediction", "probability", "label_name", "prediction_name")
            writer.writerow(head)
            for number, (label, answer, sure, _) in enumerate(self._rows):
                names = self.names[label], self.names[answer]
                writer.writerow((number, label, answer, sure, *names))


def write(path, content):
    """Writes what ``Confusion.content`` gives as JSON, whole or not at all."""
    with whole_file(path) as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
