"""The fork: what the script makes of a Caffe tree, and how it refuses what it cannot patch."""
import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from active_convolution.pycaffe.locate import BUILD

from conftest import ROOT

sys.path.insert(0, str(ROOT / "fork"))
from assemble import STAMP, ForkError, assemble, files_below  # noqa: E402
from edits import EDITS, OURS, TOOLCHAIN, AnchorError  # noqa: E402

pytestmark = pytest.mark.skipif("ACTIVE_CONVOLUTION_BUILT" in os.environ, reason="an image of docker/ makes no fork")

EDITED = sorted({edit.file for edit in EDITS})


@pytest.fixture
def caffe(tmp_path):
    """A Caffe tree of the edited files alone: the pristine ones that the fork in use was made of."""
    origin = (BUILD / "fork" / STAMP).read_text().strip()
    tree = tmp_path / "caffe"
    for name in EDITED + ["CMakeLists.txt", "src/caffe/solver.cpp"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"{origin}/{name}", tree / name)
    return tree


@pytest.fixture
def project(tmp_path):
    """A project with one header of its own."""
    header = tmp_path / "project/include/caffe/layers/ours.hpp"
    header.parent.mkdir(parents=True)
    header.write_text("// ours\n")
    (tmp_path / "project/src").mkdir()
    return tmp_path / "project"


def digest(tree):
    return {path: hashlib.sha256((tree / path).read_bytes()).hexdigest() for path in files_below(tree)}


def test_every_edit_of_ours_arrives(caffe, project, tmp_path):
    assemble(caffe, project, tmp_path / "fork")
    for edit in OURS:
        assert not re.search(edit.done, (caffe / edit.file).read_text()), "the source is not pristine"
        assert re.search(edit.done, (tmp_path / "fork" / edit.file).read_text()), edit.name
    solver = (tmp_path / "fork/src/caffe/solvers/sgd_solver.cpp").read_text()
    update = solver[solver.index("::ApplyUpdate() {"):]
    assert update.index("->BeforeClipping(") < update.index("  ClipGradients();") < update.index("->AfterClipping(")
    step = "src/caffe/solver.cpp"
    assert (tmp_path / "fork" / step).read_bytes() == (caffe / step).read_bytes()
    assert (tmp_path / "fork/include/caffe/layers/ours.hpp").read_text() == "// ours\n"


def test_the_users_tree_stays_as_it_is(caffe, project, tmp_path):
    before = digest(caffe)
    assemble(caffe, project, tmp_path / "fork")
    assert digest(caffe) == before


def test_a_second_run_writes_nothing(caffe, project, tmp_path):
    assert assemble(caffe, project, tmp_path / "fork") > 0
    assert assemble(caffe, project, tmp_path / "fork") == 0


def test_only_what_changed_is_written(caffe, project, tmp_path):
    assemble(caffe, project, tmp_path / "fork")
    times = {path: (tmp_path / "fork" / path).stat().st_mtime_ns for path in files_below(tmp_path / "fork")}
    (project / "include/caffe/layers/ours.hpp").write_text("// changed\n")
    assert assemble(caffe, project, tmp_path / "fork") == 1
    changed = [str(path) for path in times if (tmp_path / "fork" / path).stat().st_mtime_ns != times[path]]
    assert changed == ["include/caffe/layers/ours.hpp"]


def test_a_file_that_we_removed_leaves_the_fork(caffe, project, tmp_path):
    assemble(caffe, project, tmp_path / "fork")
    (project / "include/caffe/layers/ours.hpp").unlink()
    assemble(caffe, project, tmp_path / "fork")
    assert not (tmp_path / "fork/include/caffe/layers/ours.hpp").exists()


def test_a_fork_of_a_fork_is_the_same(caffe, project, tmp_path):
    assemble(caffe, project, tmp_path / "fork")
    assemble(tmp_path / "fork", project, tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "fork")


def test_without_a_project_nothing_of_ours_arrives(caffe, tmp_path):
    """What the exported networks are tried in: Caffe's own files, but for what current toolchains need."""
    assemble(caffe, None, tmp_path / "plain")
    before, after = digest(caffe), digest(tmp_path / "plain")
    assert before.keys() == after.keys()
    mended = {str(path) for path in before if before[path] != after[path]}
    assert mended and mended <= {edit.file for edit in TOOLCHAIN}
    for edit in OURS:
        assert not re.search(edit.done, (tmp_path / "plain" / edit.file).read_text()), edit.name


@pytest.mark.parametrize("name, landmark", [("fields of LayerParameter", "message LayerParameter {"),
                                            ("hooks in Layer", "const LayerParameter& layer_param() const"),
                                            ("calls around the clipping, which every update passes", "  ClipGradients();"),
                                            ("call where layers share a blob", "const int learnable_param_id = ")])
def test_a_missing_anchor_is_named_and_nothing_is_written(name, landmark, caffe, project, tmp_path):
    file = next(edit.file for edit in OURS if edit.name == name)
    (caffe / file).write_text((caffe / file).read_text().replace(landmark, "elsewhere"))
    with pytest.raises(AnchorError, match=f"{file}: the anchor of '{name}' matches 0 times"):
        assemble(caffe, project, tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


def test_a_failed_run_leaves_no_stamp_on_an_older_fork(caffe, project, tmp_path, monkeypatch):
    assemble(caffe, project, tmp_path / "fork")
    (project / "include/caffe/layers/ours.hpp").write_text("// changed\n")

    def full_disk(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("assemble.shutil.copymode", full_disk)
    with pytest.raises(OSError):
        assemble(caffe, project, tmp_path / "fork")
    assert not (tmp_path / "fork" / STAMP).exists()


def test_a_folder_that_is_no_caffe_tree(project, tmp_path):
    with pytest.raises(ForkError, match="not a Caffe source tree: it has no CMakeLists.txt"):
        assemble(tmp_path, project, tmp_path / "fork")


# ---- Fetching Debian's package

def fetch(tmp_path, apt_get=None, path=None):
    """Runs fetch_caffe.sh into tmp_path/caffe, with the shell text ``apt_get`` standing in for apt-get."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    if apt_get:
        (bin_folder / "apt-get").write_text("#!/bin/sh\n" + apt_get)
        (bin_folder / "apt-get").chmod(0o755)
    environment = {**os.environ, "PATH": path or f"{bin_folder}:/usr/bin:/bin"}
    return subprocess.run(["/bin/bash", ROOT / "fork/fetch_caffe.sh", tmp_path / "caffe"], env=environment,
                          capture_output=True, text=True)


def assert_refused(done, tmp_path, message):
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "--caffe DIR" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "bin" and path.name != "mirror"] == []


def test_an_unsigned_mirror_is_refused(tmp_path):
    sources = tmp_path / "mirror/dists/bullseye/main/source/Sources"
    sources.parent.mkdir(parents=True)
    sources.write_text("Package: caffe\nVersion: 1\nFormat: 1.0\nDirectory: pool\nFiles:\n")
    (tmp_path / "mirror/dists/bullseye/Release").write_text("Suite: bullseye\nCodename: bullseye\nComponents: main\n")
    apt_get = f'[ "$1" = indextargets ] && {{ echo "Debian file:{tmp_path}/mirror/"; exit; }}\nexec /usr/bin/apt-get "$@"\n'
    assert_refused(fetch(tmp_path, apt_get), tmp_path, "error: apt could not fetch and verify caffe")


def test_a_mirror_that_does_not_answer(tmp_path):
    apt_get = '[ "$1" = indextargets ] && { echo "Debian http://127.0.0.1:9/debian/"; exit; }\nexec /usr/bin/apt-get "$@"\n'
    assert_refused(fetch(tmp_path, apt_get), tmp_path, "error: apt could not fetch and verify caffe")


def test_no_mirror(tmp_path):
    assert_refused(fetch(tmp_path, "exit 0\n"), tmp_path, "error: no Debian mirror in this machine's apt sources")


def test_a_missing_tool_is_named(tmp_path):
    tools = tmp_path / "bin" / "tools"
    tools.mkdir(parents=True)
    for tool in ("realpath", "dirname", "mkdir", "apt-get"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    (tmp_path / "bin").rename(tmp_path / "mirror")
    assert_refused(fetch(tmp_path, path=str(tmp_path / "mirror" / "tools")), tmp_path, "error: dpkg-source is missing")


# ---- build.sh

@pytest.mark.parametrize("options, message", [
    (["--fast"], "error: unknown option --fast"),
    (["--caffe"], "error: --caffe needs a folder"),
    (["--caffe", "no/such/folder"], "error: --caffe no/such/folder: no such folder"),
    (["--caffe", "docs-that-are-no-caffe"], "is not a Caffe source tree: it has no CMakeLists.txt"),
])
def test_build_refuses(options, message, tmp_path):
    (tmp_path / "docs-that-are-no-caffe").mkdir()
    options = [str(tmp_path / option) if option.startswith("docs") else option for option in options]
    done = subprocess.run([ROOT / "scripts/build.sh", *options], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
