"""Files and folders appear whole or not at all, and what is there in their place stays."""

import errno
import fcntl
import multiprocessing
import os
import signal

import numpy as np
import pytest
from active_convolution.errors import UserError
from active_convolution.files import (
    content,
    json_object,
    load_npz,
    reading,
    save_npz,
    whole_file,
    whole_folder,
)


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


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "link") as file:
        file.write("new")
        raise RuntimeError
    assert (tmp_path / "link").read_text() == "old" and names(tmp_path) == ["link", "target"]


def test_a_device_that_takes_nothing_is_an_error():
    with pytest.raises(UserError, match="cannot write .*: No space left on device"):
        write("/dev/full")


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_a_failure_leaves_no_folder_that_was_made_for_it(tmp_path, kind):
    with pytest.raises(RuntimeError), kind(tmp_path / "new/folder/out"):
        raise RuntimeError
    assert not names(tmp_path)
    with kind(tmp_path / "new/folder/out"):
        pass
    assert names(tmp_path / "new/folder") == ["out"]


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_permissions_are_those_of_any_new_file(tmp_path, kind):
    with kind(tmp_path / "out"):
        pass
    (tmp_path / "plain").mkdir() if kind is whole_folder else (tmp_path / "plain").touch()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot write .*: Is a directory"):
        write(tmp_path)


@pytest.mark.parametrize("there", ["folder", "link"])
def test_what_is_in_a_new_folder_s_way_is_named(tmp_path, there):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match=f"{there} exists already: remove it"):
        with whole_folder(tmp_path / there):
            pytest.fail("the work must not begin")


def test_what_comes_in_a_folders_way_meanwhile_stays(tmp_path):
    with pytest.raises(UserError, match="cannot write .*out: Not a directory"):
        with whole_folder(tmp_path / "out"):
            (tmp_path / "out").write_text("another's")
    assert (tmp_path / "out").read_text() == "another's" and names(tmp_path) == ["out"]


def test_errors_in_a_new_folder_name_that_folder(tmp_path):
    with pytest.raises(UserError) as raised, whole_folder(tmp_path / "out") as folder:
        raise UserError(f"cannot write {folder / 'a'}: No space left on device")
    assert str(raised.value) == f"cannot write {tmp_path}/out/a: No space left on device"
    with pytest.raises(UserError) as raised, whole_folder(tmp_path / "out") as folder:
        (folder / "missing/a").write_text("")
    assert str(raised.value) == f"cannot write {tmp_path}/out: No such file or directory"
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out"):
        (tmp_path / "missing/a").write_text("")
    assert names(tmp_path) == []


def begun(kind, path, then):
    """Begins to write ``path`` in a process that does ``then(process id)`` meanwhile."""

    def run():
        with kind(path) as made:
            if kind is whole_folder:
                (made / "half").mkdir()
                (made / "half/written").write_text("old")
            else:
                made.write("half written")
                made.flush()
            then(os.getpid())

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
@pytest.mark.parametrize("name", ["out", "solver.prototxt", 60 * "\N{BLACK STAR}"])
def test_what_a_killed_process_left_is_taken_over_by_the_next(tmp_path, kind, name):
    path = tmp_path / name
    assert begun(kind, path, lambda process: os.kill(process, signal.SIGKILL)) == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".")
    with kind(path):
        assert names(tmp_path) == [left]
    assert names(tmp_path) == [name]
    assert not names(path) if kind is whole_folder else not path.read_bytes()


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_two_processes_do_not_write_the_same(tmp_path, kind):
    with kind(tmp_path / "out") as first:
        with pytest.raises(UserError, match=f"another process is writing {tmp_path}/out"):
            with kind(tmp_path / "out"):
                pytest.fail("the work must not begin")
        with kind(tmp_path / "another"):
            pass
        (first / "a").touch() if kind is whole_folder else first.write("first")
    assert names(tmp_path) == ["another", "out"]
    assert names(tmp_path / "out") if kind is whole_folder else (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_a_disk_that_locks_nothing_is_written(tmp_path, kind, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with kind(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


# ---- Reading


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="is not a regular file"):
            content(path)
    with pytest.raises(IsADirectoryError):
        content(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "1", "nul", '{"a": ', "\xff", "[" * 100_000])
def test_json_that_is_no_object_is_damage(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="a.json is damaged: remove it"):
        with reading(tmp_path / "a.json", "is damaged", "remove it"):
            json_object(tmp_path / "a.json")


def test_arrays_come_back(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "t": np.array("text"), "path/b": np.zeros(0)}
    save_npz(tmp_path / "a.npz", **arrays)
    found = load_npz(tmp_path / "a.npz", "remove it")
    assert found.keys() == arrays.keys() and (found["a"] == arrays["a"]).all()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(path.read_bytes().replace(np.float64(7), b"SPOILTIT")),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no archive"),
        lambda path: np.savez(path, a=np.array([object()])),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'descr'", b"'de\\cr'")),
    ],
)
def test_damaged_arrays_are_named(tmp_path, spoil):
    np.savez(tmp_path / "a.npz", a=np.full(9, 7.0))
    spoil(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"a.npz is damaged or no .npz \(.*\): remove it"):
        load_npz(tmp_path / "a.npz", "remove it")
