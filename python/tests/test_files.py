"""Files and folders appear whole or not at all, and what is there in their place stays."""

import multiprocessing
import os
import signal

import pytest
from active_convolution.errors import UserError
from active_convolution.files import (
    check_entries,
    content,
    json_object,
    open_regular,
    reading,
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


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_a_failure_leaves_no_folder_that_was_made_for_it(tmp_path, kind):
    with pytest.raises(RuntimeError), kind(tmp_path / "new/folder/out"):
        raise RuntimeError
    assert not names(tmp_path)
    with kind(tmp_path / "new/folder/out"):
        pass
    with pytest.raises(RuntimeError), kind(tmp_path / "new/more/out"):
        raise RuntimeError
    assert names(tmp_path / "new") == ["folder"]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot write .*: Is a directory"):
        write(tmp_path)


def test_a_link_that_leads_nowhere_is_in_a_folders_way(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with (
        pytest.raises(UserError, match="link exists already: remove it"),
        whole_folder(tmp_path / "link"),
    ):
        pytest.fail("the work must not begin")
    assert names(tmp_path) == ["link"]


def test_what_comes_in_a_folders_way_meanwhile_stays(tmp_path):
    with (
        pytest.raises(UserError, match="cannot write .*out: Not a directory"),
        whole_folder(tmp_path / "out"),
    ):
        (tmp_path / "out").write_text("another's")
    assert (tmp_path / "out").read_text() == "another's" and names(tmp_path) == ["out"]


# ---- Errors tell of what the user knows, and names keep their bytes


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


def test_an_error_of_a_name_names_the_folder_too(tmp_path):
    path = tmp_path / os.fsdecode(b"out\xff")
    with pytest.raises(UserError) as raised, whole_folder(path) as folder:
        str(folder / "a").encode()
    assert str(raised.value) == (
        f"the name '{tmp_path}/out\\udcff/a' is no text in UTF-8, as Caffe's files need it: rename it, or "
        "set LC_ALL=C.UTF-8"
    )


def test_a_name_that_is_not_utf_8_keeps_its_bytes_in_a_text(tmp_path):
    write(tmp_path / os.fsdecode(b"\xff.txt"), os.fsdecode(b"h\xc3\xa9 \xff"))
    assert (tmp_path / os.fsdecode(b"\xff.txt")).read_bytes() == b"h\xc3\xa9 \xff"


# ---- Reading with a bound


def test_only_regular_files_of_a_sensible_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="is no regular file"):
            content(path)
    with pytest.raises(IsADirectoryError):
        content(tmp_path)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="1099511627776 bytes, and at most 67108864 make sense"):
        content(tmp_path / "large")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "1",
        "nul",
        '{"a": ',
        "\xff",
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": [-Infinity]}',
        '{"a": 1e999}',
    ],
)
def test_json_that_is_no_object_is_damage(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with (
        pytest.raises(UserError, match="a.json is damaged: remove it"),
        reading(tmp_path / "a.json", "is damaged", "remove it"),
    ):
        json_object(tmp_path / "a.json")


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
    (left,) = names(tmp_path)
    assert left.startswith(".")
    (tmp_path / f".{name[:40]}.of another").touch()  # not ours
    with kind(path):
        assert left not in names(tmp_path) and len(names(tmp_path)) == 2
        with kind(tmp_path / f"{name[:40]}2"):
            pass
        with whole_file(path) if kind is whole_file else whole_folder(tmp_path / "b"):
            assert len(names(tmp_path)) == 4, "those of a process that is still there stay"
    assert sorted(names(tmp_path)) == sorted(
        {name, f"{name[:40]}2", f".{name[:40]}.of another"}
        | (set() if kind is whole_file else {"b"})
    )


def test_a_database_of_files_alone(tmp_path):
    (tmp_path / "000005.ldb").touch()
    check_entries(tmp_path)
    os.mkfifo(tmp_path / "CURRENT")
    with pytest.raises(UserError, match="/CURRENT is no regular file: make the database anew"):
        check_entries(tmp_path)


def test_a_terabyte_is_no_file_of_leveldb(tmp_path):
    """... which would read all of its zeros; LMDB's may have a hole as large as its map."""
    with open(tmp_path / "data.mdb", "wb") as file:
        file.truncate(2**40)
    check_entries(tmp_path)
    with open(tmp_path / "MANIFEST-000004", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        UserError,
        match="/MANIFEST-000004 has 1099511627776 bytes, and a file of LevelDB at most 4294967296",
    ):
        check_entries(tmp_path)


@pytest.mark.parametrize("path", ["pipe", "/dev/zero"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=f"{path} is no regular file"):
        open_regular(tmp_path / path)
