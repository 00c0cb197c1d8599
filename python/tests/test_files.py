"""Files and folders appear whole or not at all, and what is there in their place stays."""
import multiprocessing
import os
import signal

import pytest

from active_convolution.errors import UserError
from active_convolution.files import open_regular, whole_file, whole_folder


def write(path, text="new"):
    with whole_file(path) as file:
        file.write(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("older", ["old", None])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, older):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far/target", tmp_path / "link"
    if older:
        target.write_text(older)
    link.symlink_to("far/target")
    write(link)
    assert link.is_symlink() and target.read_text() == "new"
    assert names(tmp_path) == ["far", "link"] and names(target.parent) == ["target"]


def test_a_failure_leaves_what_a_link_leads_to(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "link") as file:
        file.write("new")
        raise RuntimeError
    assert (tmp_path / "link").read_text() == "old" and names(tmp_path) == ["link", "target"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_itself(tmp_path, linked):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / ("link" if linked else "pipe"))
    assert os.read(reader, 100) == b"new"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo() and names(tmp_path) == ["link", "pipe"]


def test_a_device_that_takes_nothing_is_an_error():
    with pytest.raises(UserError, match="cannot write /proc/self/fd/.*: No space left on device"):
        with open("/dev/full", "w") as full:
            write(f"/proc/self/fd/{full.fileno()}")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot write .*: Is a directory"):
        write(tmp_path)


def test_a_link_that_leads_nowhere_is_in_a_folders_way(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match="link exists already: remove it"), whole_folder(tmp_path / "link"):
        pytest.fail("the work must not begin")
    assert names(tmp_path) == ["link"]


def test_what_comes_in_a_folders_way_meanwhile_stays(tmp_path):
    with pytest.raises(UserError, match="cannot write .*out: Not a directory"), whole_folder(tmp_path / "out"):
        (tmp_path / "out").write_text("another's")
    assert (tmp_path / "out").read_text() == "another's" and names(tmp_path) == ["out"]


def killed(kind, path):
    """Begins to write ``path`` in a process that is killed meanwhile."""
    def run():
        with kind(path):
            os.kill(os.getpid(), signal.SIGKILL)
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
@pytest.mark.parametrize("name", ["out", "solver.prototxt", 60 * "\N{BLACK STAR}"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, kind, name):
    path = tmp_path / name
    killed(kind, path)
    left, = names(tmp_path)
    assert left.startswith(".")
    (tmp_path / f".{name[:40]}.of another").touch()     # not ours
    with kind(path):
        assert left not in names(tmp_path) and len(names(tmp_path)) == 2
        with kind(tmp_path / f"{name[:40]}2"):
            pass
        with whole_file(path) if kind is whole_file else whole_folder(tmp_path / "b"):
            assert len(names(tmp_path)) == 4, "those of a process that is still there stay"
    assert sorted(names(tmp_path)) == sorted({name, f"{name[:40]}2", f".{name[:40]}.of another"} | (
        set() if kind is whole_file else {"b"}))


@pytest.mark.parametrize("path", ["pipe", "/dev/zero"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=f"{path} is no regular file"):
        open_regular(tmp_path / path)
