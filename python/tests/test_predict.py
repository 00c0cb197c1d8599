"""What a trained network says of images of one's own: the same as of the data that it was tested
with."""

import json
import re

import active_convolution
import cv2
import numpy as np
import pytest
from active_convolution.caffe import locate, reading
from active_convolution.errors import UserError
from active_convolution.look import evaluation, predict
from active_convolution.training.trained import Trained
from active_convolution.training.trainer import train
from commands import acu, refused
from conftest import ROOT
from sklearn.datasets import load_digits
from test_docs import marked


def drawn(count=1797):
    """scikit-learn's digits as 8-bit images, and their labels."""
    digits = load_digits()
    return [np.uint8(np.rint(image * 255 / 16)) for image in digits.images[:count]], digits.target


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny, digits_data):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train(tiny, "acu", digits_data, folder, max_iter=24) == 0
    return folder


def test_images_become_what_the_network_was_tested_with(run):
    """To the rounding of the images to 8 bits; and so the errors are those of acu evaluate."""
    images, labels = drawn()
    trained, network = Trained.of_run(run), active_convolution.load(run)
    stored = np.concatenate([tops["data"] for tops in reading.batches(trained.test_layer())])
    inputs = predict.Preparation(trained, (1, 8, 8))(images)
    apart = np.abs(stored[:, None] - inputs[None]).max(axis=(2, 3, 4))
    assert apart.min(axis=1).max() < 0.003
    chosen = apart.argmin(axis=1)
    answers = network.predict([images[index] for index in chosen]).argmax(axis=1)
    wrong, count = (answers != labels[chosen]).sum(), len(chosen)
    assert 100 * wrong / count == pytest.approx(evaluation.evaluate(trained)[0], abs=100 / count)


def test_the_command_names_classes(run, tmp_path):
    images, _ = drawn(3)
    (tmp_path / "images").mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"images/{index}.png"), image)
    (tmp_path / "images/notes.txt").write_text("passed over")
    data = json.loads((run / "data.json").read_text())
    names = [f"digit {number}" for number in range(10)]
    (run / "data.json").write_text(json.dumps({**data, "label_names": names}))
    done = acu("predict", run, tmp_path / "images", "--json", tmp_path / "a.json")
    (run / "data.json").write_text(json.dumps(data))
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.startswith("next: acu export ")
    content = json.loads((tmp_path / "a.json").read_text())
    answers = content["images"]
    assert content["classes"] == names
    expected = active_convolution.load(run).predict(images)
    assert len(lines) == len(answers) == len(expected)
    for index, (line, answer, row) in enumerate(zip(lines, answers, expected)):
        assert line.startswith(f"{tmp_path}/images/{index}.png: digit {row.argmax()} ")
        assert line.count("%") == 5
        np.testing.assert_allclose(answer["probabilities"], row, atol=1e-6)
        assert sum(row) == pytest.approx(1)


def test_what_the_manual_does(run, tmp_path, monkeypatch, capsys):
    page, mark = ROOT / "docs/training.md", "runs in python/tests/test_predict.py"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/digits").symlink_to(run)
    (tmp_path / "photos").mkdir()
    images, labels = drawn(2)
    for name, image in zip(("digit.png", "photos/1.png"), images):
        cv2.imwrite(str(tmp_path / name), image)
    (block,) = marked(page, mark)
    done = acu(*block.splitlines()[1].split()[1:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[:2]] == [
        "digit.png",
        "photos/1.png",
    ]
    monkeypatch.chdir(tmp_path)
    exec(re.search(rf"<!-- {mark} -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)[1], {})
    assert capsys.readouterr().out.strip() == done.stdout.split()[1]


def test_sizes_and_colours_do_not_matter(run, tmp_path):
    """A file of another size, in colours: the network gets its own."""
    (image,), _ = drawn(1)
    large = cv2.resize(image, (40, 40), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.merge([large] * 3))
    network = active_convolution.load(run)
    of_file, of_array, of_own = network.predict(
        [tmp_path / "a.png", np.stack([large] * 3, -1), image]
    )
    np.testing.assert_array_equal(of_file, of_array)
    np.testing.assert_allclose(of_file, of_own, atol=0.1)
    assert network.predict([]).shape == (0, 10)


def trained_on(tmp_path, transform, **manifest):
    """A Trained of a network of which only its input matters."""
    from active_convolution.data.manifest import Manifest

    (tmp_path / "train_val.prototxt").write_text(
        f'layer {{ name: "data" type: "Data" top: "data" transform_param {{ {transform} }} }}'
    )
    data = Manifest.of({"dataset": "made", "classes": 2, **manifest}) if manifest else None
    return Trained(tmp_path, train_val=tmp_path / "train_val.prototxt", data=data)


def test_photographs_get_mean_scale_and_crop(tmp_path):
    """As Caffe's own transform_param has them; blue first, where nobody said otherwise."""
    image = np.random.default_rng(2).integers(0, 256, (6, 8, 3), np.uint8)  # red first
    part = dict(images=1, shape=[3, 6, 8], images_per_class=[1])
    transform = "mean_value: [1, 2, 3] scale: 0.5 crop_size: 4"
    for order in ("BGR", "RGB"):
        trained = trained_on(tmp_path, transform, test=part, channel_order=order)
        (found,) = predict.Preparation(trained, (3, 4, 4))([image])
        seen = np.moveaxis(image[..., ::-1] if order == "BGR" else image, -1, 0)
        expected = 0.5 * (seen[:, 1:5, 2:6] - np.reshape([1.0, 2, 3], (3, 1, 1)))
        np.testing.assert_allclose(found, expected)


def test_a_mean_file_is_subtracted_and_must_fit(tmp_path):
    image = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    part = dict(images=1, shape=[3, 6, 8], images_per_class=[1])
    blob = locate.caffe_pb2().BlobProto(num=1, channels=3, height=6, width=8)
    blob.data.extend(range(144))
    (tmp_path / "mean").write_bytes(blob.SerializeToString())
    trained = trained_on(tmp_path, f'crop_size: 4 mean_file: "{tmp_path}/mean"', test=part)
    (found,) = predict.Preparation(trained, (3, 4, 4))([image])
    less = np.moveaxis(image[..., ::-1], -1, 0) - np.arange(144.0).reshape(3, 6, 8)
    np.testing.assert_array_equal(found, less[:, 1:5, 2:6])
    other = trained_on(tmp_path, f'mean_file: "{tmp_path}/mean"', test=part)
    with pytest.raises(
        UserError, match="mean is 3×6×8, and the images are 3×4×4: give the mean_file"
    ):
        predict.Preparation(other, (3, 4, 4))


@pytest.mark.slow
def test_whitened_images(tmp_path):
    """CIFAR's way: an image of one's own is normalised and whitened as the stored ones were."""
    from active_convolution.data.preprocess import Whitening, global_contrast_normalise

    images = np.random.default_rng(4).integers(0, 256, (9, 4, 4, 3), np.uint8)
    normal = global_contrast_normalise(np.moveaxis(images, -1, 1))
    Whitening.fit(normal).save(tmp_path / "whitening.npz")
    how = dict(contrast_scale=55, whitening="whitening.npz")
    trained = trained_on(tmp_path, "", preprocessing=how, channel_order="RGB", folder=str(tmp_path))
    found = predict.Preparation(trained, (3, 4, 4))(images)
    np.testing.assert_allclose(found, Whitening.fit(normal)(normal), atol=1e-4)


def test_what_is_no_image_or_no_run_is_said(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    assert "a.png is not a complete image" in refused("predict", run, tmp_path / "a.png")
    assert "cannot read missing.png" in refused("predict", run, "missing.png")
    (tmp_path / "empty").mkdir()
    assert "empty holds no images" in refused("predict", run, tmp_path / "empty")
    assert "not a run of acu train" in refused("predict", tmp_path, tmp_path / "a.png")
    assert "no snapshot of iteration 3" in refused("predict", run, tmp_path, "--iteration", 3)
