"""The history of positions over a run: recorded, cut, saved and read again."""

import numpy as np
import pytest
from active_convolution.caffe import positions
from active_convolution.caffe.positions import History, LayerPositions
from active_convolution.errors import UserError


def layer(name="conv1/1", xy=((0, 0), (1, 2)), kernel=(1, 2)):
    return LayerPositions(name, "ActiveConvolution", kernel, np.array([xy], np.float32))


def moving(history, iterations):
    for iteration in iterations:
        history.append(
            iteration,
            [
                layer(xy=((0, 0), (1 + iteration / 100, 2))),
                layer("conv1/2", ((0, iteration), (5, 5), (6, 6), (7, 7)), (2, 2)),
            ],
        )
    return history


def test_history_round_trip(tmp_path):
    moving(History(warmup_iter=10), [0, 20, 30]).save(tmp_path / positions.RUN_FILE)
    again = positions.load_run(tmp_path)
    assert again.warmup_iter == 10 and again.names == ["conv1/1", "conv1/2"]
    assert again.iterations.dtype == np.int64 and list(again.iterations) == [0, 20, 30]
    first, second = again.layers()
    assert (first.name, first.type, first.kernel) == ("conv1/1", "ActiveConvolution", (1, 2))
    np.testing.assert_array_equal(second.xy[0, 0], (0, 30))
    np.testing.assert_array_equal(second.start[0, 0], (0, 0))
    with np.load(tmp_path / positions.RUN_FILE) as file:
        assert file["conv1/2"].shape == (3, 1, 4, 2) and file["conv1/2"].dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == [positions.RUN_FILE]


def test_loaded_history_goes_on(tmp_path):
    path = tmp_path / "h.npz"
    moving(History(), [0, 20]).save(path)
    again = History.load(path)
    moving(again, [40]).save(path)
    np.testing.assert_allclose(History.load(path).positions("conv1/1")[:, 0, 1, 0], [1, 1.2, 1.4])


def test_history_keeps_copies():
    history, mine = History(), layer()
    history.append(0, [mine])
    mine.xy[:] = 9
    assert history.positions("conv1/1").max() == 2


def test_history_goes_back():
    history = moving(History(), [0, 20, 40, 60])
    history.truncate(39)
    assert list(history.iterations) == [0, 20]
    moving(history, [30, 10])
    assert list(history.iterations) == [0, 10]
    moving(history, [10])
    assert list(history.iterations) == [0, 10]


def test_history_of_nothing(tmp_path):
    assert History().layers() == []
    emptied = moving(History(), [10])
    emptied.truncate(0)
    emptied.save(tmp_path / "h.npz")
    again = History.load(tmp_path / "h.npz")
    assert again.names == ["conv1/1", "conv1/2"] and again.layers() == []
    assert list(moving(again, [5]).iterations) == [5]


@pytest.mark.parametrize("first, known", [(0, True), (10, True), (11, False)])
def test_start_is_known_only_from_a_record_of_the_warmup(first, known):
    history = moving(History(warmup_iter=10), [first, 50])
    assert [layer.start is not None for layer in history.layers()] == [known] * 2


def test_history_refuses_another_network():
    history = moving(History(), [0])
    for other in (
        [layer()],
        [layer(), layer("conv9", ((0, 0),) * 4, (2, 2))],
        [layer(), layer("conv1/2")],
    ):
        with pytest.raises(UserError, match="another folder"):
            history.append(10, other)
    assert list(history.iterations) == [0]


@pytest.mark.parametrize("name", ["iterations", "about", "file"])
def test_history_refuses_names_that_its_file_cannot_have(name):
    with pytest.raises(UserError, match=f"layer called {name} "):
        History().append(0, [layer(name)])


def test_history_of_a_layer_called_path(tmp_path):
    moving(History(), [10]).save(tmp_path / "h.npz")
    history = History()
    history.append(0, [layer("path")])
    history.save(tmp_path / "h.npz")
    assert History.load(tmp_path / "h.npz").names == ["path"]


def _about(path, about):
    np.savez(path, **{**np.load(path), "about": about})


def _with(path, **arrays):
    np.savez(path, **{**np.load(path), **arrays})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(
            path.read_bytes().replace(np.float32(1.2).tobytes(), b"spam")
        ),
        lambda path: path.write_text("no archive"),
        lambda path: np.savez(path, other=np.zeros(3)),
        lambda path: np.savez(path, iterations=np.arange(2), about='{"warmup_iter": 0}'),
        lambda path: _with(path, iterations=np.arange(5)),
        lambda path: _with(path, iterations=np.array([20, 0])),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"].astype(complex)}),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"].astype(object)}),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"][..., :1]}),
        lambda path: _with(path, **{"conv1/1": np.load(path)["conv1/1"][:, :, :-1]}),
        lambda path: _about(path, "{"),
        lambda path: _about(path, '{"warmup_iter": 0, "layers": []}'),
        lambda path: _about(path, '{"warmup_iter": 0, "layers": [{"name": "conv1/1"}]}'),
    ],
)
def test_damaged_history_is_named(tmp_path, spoil):
    path = tmp_path / "h.npz"
    moving(History(), [0, 20]).save(path)
    spoil(path)
    with pytest.raises(UserError, match=f"^{path} is .*: remove it, or name another run$"):
        History.load(path)


def test_positions_of_a_training_that_diverged_are_read(tmp_path):
    history = moving(History(), [0, 20])
    history._records[20][0][0, 0] = np.nan, np.inf
    history.save(tmp_path / "h.npz")
    np.testing.assert_array_equal(
        History.load(tmp_path / "h.npz").positions("conv1/1")[1, 0, 0], [np.nan, np.inf]
    )


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} has no positions.npz"):
        positions.load_run(tmp_path)
    with pytest.raises(UserError, match="cannot read .*missing.npz"):
        History.load(tmp_path / "missing.npz")
