"""metrics.csv: read as it was written, cut back for a resumed run, refused where damaged."""

import pytest
from active_convolution.errors import UserError
from active_convolution.training.metrics import COLUMNS, Metrics

HEADER = ",".join(COLUMNS) + "\n"


@pytest.fixture
def metrics():
    made = Metrics()
    made.append(10, loss=2.5, learning_rate=0.1, seconds=1.0)
    made.append(20, loss=1.25, learning_rate=0.1, seconds=2.0, test_loss=1.5, test_error=0.0625)
    made.append(30, loss=1.0, learning_rate=0.01, seconds=3.0)
    return made


def iterations(metrics):
    return [row["iteration"] for row in metrics.rows]


def test_round_trip(metrics, tmp_path):
    metrics.save(tmp_path / "metrics.csv")
    assert Metrics.load(tmp_path / "metrics.csv").rows == metrics.rows


def test_file_is_plain_csv(metrics, tmp_path):
    metrics.save(tmp_path / "metrics.csv")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[:3] == [",".join(COLUMNS), "10,2.5,0.1,,,1", "20,1.25,0.1,1.5,0.0625,2"]


def test_a_loss_that_is_no_number_is_kept(tmp_path):
    metrics = Metrics()
    metrics.append(1, loss=float("nan"))
    metrics.save(tmp_path / "metrics.csv")
    loss = Metrics.load(tmp_path / "metrics.csv").last("loss")
    assert loss != loss


def test_a_missing_file_has_no_rows(tmp_path):
    assert Metrics.load(tmp_path / "metrics.csv").rows == []


def test_columns_that_the_file_lacks_are_there(tmp_path):
    (tmp_path / "metrics.csv").write_text(HEADER + "10,2.5,0.1,,,1\n")
    metrics = Metrics.load(tmp_path / "metrics.csv", [*COLUMNS, "train/loss"])
    metrics.append(20, loss=2, seconds=2, **{"train/loss": 2})
    metrics.save(tmp_path / "metrics.csv")
    assert [row["train/loss"] for row in Metrics.load(tmp_path / "metrics.csv").rows] == [None, 2]


def test_truncate_drops_what_came_later(metrics):
    metrics.truncate(29)
    assert iterations(metrics) == [10, 20]
    metrics.truncate(20)
    assert iterations(metrics) == [10, 20]


def test_values_of_the_newest_iteration_join_its_row(metrics):
    metrics.append(30, test_error=0.5, seconds=3.5)
    assert iterations(metrics) == [10, 20, 30]
    assert metrics.rows[-1] == dict(
        iteration=30, loss=1.0, learning_rate=0.01, test_loss=None, test_error=0.5, seconds=3.5
    )


def test_newest_values(metrics):
    assert metrics.last("loss") == 1.0
    assert metrics.last("test_error") == 0.0625
    assert metrics.tested() == 20 and metrics.newest_test()["test_error"] == 0.0625
    metrics.append(40, test_loss=1.25)
    assert metrics.tested() == 40 and metrics.newest_test()["test_error"] is None, (
        "an earlier test's is not this one's"
    )
    assert Metrics().last("loss") is None and Metrics().tested() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no record",
        "loss,iteration\n2.5,10\n",
        HEADER + "10,2.5,0.1\n",
        HEADER + "10,2.5,0.1,,,x\n",
        HEADER + "1.5,2.5,0.1,,,1\n",
        HEADER + "1" * 200000 + ",1,1,,,1\n",
        b"\xff\xfe\x00",
        HEADER + "10,1,1,,,1,5\n",
        HEADER + "10,1,1,,,1\n" * 2,
        HEADER + "20,1,1,,,1\n10,1,1,,,2\n",
        HEADER + "-1,1,1,,,1\n",
        HEADER + "2147483648,1,1,,,1\n",
        HEADER + "10,1,1,,,inf\n",
        HEADER + "10,1,1,,,nan\n",
        HEADER + "10,1,1,,,-1\n",
        HEADER + '10,1,1,,,"1\n',
    ],
    ids=[
        "empty",
        "text",
        "columns",
        "short row",
        "no number",
        "no iteration",
        "long field",
        "binary",
        "long row",
        "twice",
        "back",
        "below 0",
        "beyond an int",
        "endless",
        "no seconds",
        "seconds below 0",
        "open quotes",
    ],
)
def test_damage_is_named(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="metrics.csv is damaged"):
        Metrics.load(path)


@pytest.mark.parametrize("error", ["nan", "inf", "1.7e306", "1.01", "-89"])
def test_an_error_that_is_no_fraction_is_none(tmp_path, error):
    (tmp_path / "metrics.csv").write_text(HEADER + f"10,1,1,1,{error},1\n")
    assert Metrics.load(tmp_path / "metrics.csv").rows[0]["test_error"] is None


def test_a_folder_in_its_place_is_named(tmp_path):
    with pytest.raises(UserError, match="^cannot read .*: Is a directory$"):
        Metrics.load(tmp_path)
