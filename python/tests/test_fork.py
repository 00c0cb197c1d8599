"""The fork: what the script makes of a Caffe tree, and how it refuses what it cannot patch."""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest
from active_convolution.caffe.locate import BUILD
from conftest import ROOT

sys.path.insert(0, str(ROOT / "fork"))
from assemble import LANDMARKS, STAMP, ForkError, assemble, files_below  # noqa: E402
from edits import EDITS, FAMILIES, FAST_LAYERS, HDF5, OURS, PYCAFFE, TOOLCHAIN, AnchorError  # noqa: E402

pytestmark = pytest.mark.skipif(
    "ACTIVE_CONVOLUTION_BUILT" in os.environ, reason="an image of docker/ makes no fork"
)

EDITED = sorted({edit.file for edit in EDITS})


@pytest.fixture
def caffe(tmp_path):
    """A Caffe tree of the edited files alone: the pristine ones that the fork in use was made
    of."""
    origin = (BUILD / "fork" / STAMP).read_text().strip()
    tree = tmp_path / "caffe"
    for name in {*EDITED, *LANDMARKS}:
        if os.path.exists(f"{origin}/{name}"):  # BVLC's tree has no file of SSD's
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
    return {
        path: hashlib.sha256((tree / path).read_bytes()).hexdigest() for path in files_below(tree)
    }


def test_every_edit_of_ours_arrives(caffe, project, tmp_path):
    assemble(caffe, project, tmp_path / "fork")
    for edit in OURS:
        assert not re.search(edit.done, (caffe / edit.file).read_text()), (
            "the source is not pristine"
        )
        assert re.search(edit.done, (tmp_path / "fork" / edit.file).read_text()), edit.name
    solver = (tmp_path / "fork/src/caffe/solvers/sgd_solver.cpp").read_text()
    update = solver[solver.index("::ApplyUpdate() {") :]
    assert (
        update.index("->BeforeClipping(")
        < update.index("  ClipGradients();")
        < update.index("->AfterClipping(")
    )
    assert (
        "Clipping" not in (tmp_path / "fork/src/caffe/solver.cpp").read_text()
    )  # Step is not the only way to an update
    assert (tmp_path / "fork/include/caffe/layers/ours.hpp").read_text() == "// ours\n"


def test_fast_layers_can_be_left_out(caffe, project, tmp_path):
    fast = project / "src/caffe/util/fast_ours.cpp"
    fast.parent.mkdir(parents=True)
    fast.write_text("// ours\n")
    assemble(caffe, project, tmp_path / "with")
    assemble(caffe, project, tmp_path / "without", fast_layers=False)
    assert (tmp_path / "with" / fast.relative_to(project)).exists()
    assert not (tmp_path / "without" / fast.relative_to(project)).exists()
    for edit in FAST_LAYERS:
        assert re.search(edit.done, (tmp_path / "with" / edit.file).read_text()), edit.name
        assert not re.search(edit.done, (tmp_path / "without" / edit.file).read_text()), edit.name


def test_an_older_layer_keeps_its_loop(caffe, project, tmp_path):
    """Such as Convolution before it knew dilation: it has the function, but not what the call
    needs."""
    layer = caffe / "src/caffe/layers/conv_layer.cpp"
    layer.write_text(layer.read_text().replace("dilation_", "hole_"))
    _, without = assemble(caffe, project, tmp_path / "fork")
    assert "FastConvolution" not in (tmp_path / "fork/src/caffe/layers/conv_layer.cpp").read_text()
    assert [edit.name for edit in without if "Convolution" in edit.name] == [
        "fast CPU layers: ConvolutionLayer::Forward_cpu",
        "fast CPU layers: ConvolutionLayer::Backward_cpu",
    ]


def test_the_users_tree_stays_as_it_is(caffe, project, tmp_path):
    before = digest(caffe)
    assemble(caffe, project, tmp_path / "fork")
    assert digest(caffe) == before


def test_a_second_run_writes_nothing(caffe, project, tmp_path):
    assert assemble(caffe, project, tmp_path / "fork")[0] > 0
    assert assemble(caffe, project, tmp_path / "fork")[0] == 0


def test_only_what_changed_is_written(caffe, project, tmp_path):
    assemble(caffe, project, tmp_path / "fork")
    times = {
        path: (tmp_path / "fork" / path).stat().st_mtime_ns
        for path in files_below(tmp_path / "fork")
    }
    (project / "include/caffe/layers/ours.hpp").write_text("// changed\n")
    assert assemble(caffe, project, tmp_path / "fork")[0] == 1
    changed = [
        str(path) for path in times if (tmp_path / "fork" / path).stat().st_mtime_ns != times[path]
    ]
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
    """What the exported networks are tried in: Caffe's own files, but for what current toolchains
    need."""
    assemble(caffe, None, tmp_path / "plain")
    before, after = digest(caffe), digest(tmp_path / "plain")
    assert before.keys() == after.keys()
    mended = {str(path) for path in before if before[path] != after[path]}
    assert mended and mended <= {edit.file for edit in TOOLCHAIN}
    for edit in OURS:
        assert not re.search(edit.done, (tmp_path / "plain" / edit.file).read_text()), edit.name


@pytest.mark.parametrize(
    "name, landmark",
    [
        ("fields of LayerParameter", "message LayerParameter {"),
        ("hooks in Layer", "const LayerParameter& layer_param() const"),
        ("calls around the clipping, which every update passes", "  ClipGradients();"),
        ("call where layers share a blob", "const int learnable_param_id = "),
    ],
)
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


def run_assemble(caffe, project, *options):
    return subprocess.run(
        [
            sys.executable,
            ROOT / "fork/assemble.py",
            "--caffe",
            caffe,
            "--project",
            project,
            *options,
        ],
        capture_output=True,
        text=True,
    )


def test_the_report_names_optional_edits_without_an_anchor(caffe, project, tmp_path):
    assert assemble(caffe, project, tmp_path / "fork")[1] == []
    reader = caffe / "python/caffe/io.py"
    reader.write_text(reader.read_text().replace("as_grey=", "grey="))
    done = run_assemble(caffe, project, "--output", tmp_path / "fork")
    assert done.stdout.splitlines()[1:] == [
        "  not made, for want of its anchor in python/caffe/io.py: " + PYCAFFE[0].name
    ]
    again = run_assemble(tmp_path / "fork", project, "--output", tmp_path / "again")
    assert (
        done.stdout.splitlines()[1:] == again.stdout.splitlines()[1:]
    )  # what is done needs no anchor


@pytest.mark.parametrize(
    "edit", [edit for edit in HDF5 if edit.together], ids=lambda edit: edit.name
)
def test_hdf5_edits_are_made_all_or_none(edit, caffe, project, tmp_path):
    net = caffe / edit.file
    found = re.search(edit.anchor, net.read_text(), re.MULTILINE)
    pristine = net.read_text()[: found.start()] + net.read_text()[found.start() :].replace(
        "(", "( ", 1
    )
    net.write_text(pristine)
    _, without = assemble(caffe, project, tmp_path / "fork")
    expected = pristine
    for ours in OURS + FAST_LAYERS:
        expected = ours.apply(expected) if ours.file == edit.file else expected
    assert (tmp_path / "fork" / edit.file).read_text() == expected
    assert [one.name for one in without] == [one.name for one in HDF5 if one.together]


def test_the_authors_layer_gives_way_to_ours(caffe, project, tmp_path):
    """Their tree: a message and a field of the same names as ours, and a CUDA file that ours do not
    replace."""
    proto = caffe / "src/caffe/proto/caffe.proto"
    proto.write_text(
        re.sub(
            r"(?<=^message LayerParameter \{$)",
            "\n  optional AConvParameter aconv_param = 147;",
            proto.read_text(),
            flags=re.MULTILINE,
        )
        + "\nmessage AConvParameter {\n  optional int32 pad = 1 [default = 0];\n\n"
        "  enum FilterType {\n"
        "    SQUARE = 0;\n  }\n  optional float base_radius = 9 [default = 1];\n}\n"
    )
    theirs = caffe / "src/caffe/layers/aconv_fast_layer.cu"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("// cuDNN 5\n")
    assemble(caffe, project, tmp_path / "fork")
    fork = tmp_path / "fork"
    made = (fork / "src/caffe/proto/caffe.proto").read_text()
    assert made.count("message AConvParameter {") == made.count(" aconv_param = ") == 1
    assert "aconv_param = 170309077;" in made and "base_radius = 5" in made
    assert not (fork / theirs.relative_to(caffe)).exists()
    subprocess.run(
        [
            "protoc",
            f"--proto_path={fork}/src/caffe/proto",
            f"--python_out={tmp_path}",
            "caffe.proto",
        ],
        check=True,
    )


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.refused], ids=lambda family: family.name
)
def test_a_kind_that_cannot_be_forked_is_refused_with_the_reason(family, caffe, project, tmp_path):
    header = {
        "OpenCL": "template<typename Dtype, typename MItype, typename MOtype>\n",
        "NVIDIA 0.16 and later": "class LayerBase {\n",
        "Intel": "function(Download_MKLDNN)\n",
    }[family.name]
    mark = caffe / family.file
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(header + (mark.read_text() if mark.exists() else ""))
    done = run_assemble(caffe, project, "--output", tmp_path / "fork")
    assert done.returncode == 1 and family.refused in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "fork").exists()


def test_a_tree_without_a_file_that_we_must_edit_is_refused(caffe, project, tmp_path):
    (caffe / "src/caffe/solvers/sgd_solver.cpp").unlink()
    with pytest.raises(
        ForkError,
        match="has no src/caffe/solvers/sgd_solver.cpp, which 'calls around the clipping.* changes",
    ):
        assemble(caffe, project, tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


# ---- Fetching Caffe's source: a cache folder, Debian's mirrors, a git repository


@pytest.fixture
def fetch(tmp_path):
    """A function that runs fetch_caffe.sh into tmp_path/caffe; its places are empty unless a test
    fills them: tmp_path/cache, tmp_path/caffe.git, and a stand-in for apt-get that knows no
    mirror."""
    (tmp_path / "bin").mkdir()

    def run(apt_get="exit 1\n", script=None, **environment):
        (tmp_path / "bin/apt-get").write_text("#!/bin/sh\n" + apt_get)
        (tmp_path / "bin/apt-get").chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "CAFFE_CACHE": f"{tmp_path}/cache",
            "CAFFE_GIT": f"{tmp_path}/caffe.git",
            **environment,
        }
        return subprocess.run(
            ["/bin/bash", script or ROOT / "fork/fetch_caffe.sh", tmp_path / "caffe"],
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


KEPT = {"bin", "cache", "caffe.git", "mirror", "fetch.sh", "source"}


def assert_refused(done, tmp_path, *messages):
    assert done.returncode == 1
    for message in messages:
        assert re.search(message, done.stderr), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: Caffe's source is nowhere to be had") and "--caffe DIR" in last
    assert {path.name for path in tmp_path.iterdir()} <= KEPT  # nothing half-written


@pytest.fixture
def commit(tmp_path):
    """A small repository tmp_path/caffe.git, and fetch.sh: the script, asking for that repository's
    commit."""
    source = tmp_path / "source"
    (source / "include").mkdir(parents=True)
    (source / "CMakeLists.txt").write_text("project(Caffe)\n")
    (source / "include/layer.hpp").write_text("// a layer\r\n")
    (source / ".gitignore").write_text("include\n")  # its files count all the same

    def git(*arguments):
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=source,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    git("init", "--quiet")
    git("add", "--force", ".")
    git("commit", "--quiet", "--message", "first")
    hashes = {"commit": git("rev-parse", "HEAD"), "files": git("rev-parse", "HEAD^{tree}")}
    (source / "CMakeLists.txt").write_text("project(Later)\n")
    git("commit", "--quiet", "--all", "--message", "later")
    git("clone", "--quiet", "--bare", ".", str(tmp_path / "caffe.git"))
    git("checkout", "--quiet", hashes["commit"])
    text = (ROOT / "fork/fetch_caffe.sh").read_text()
    for name, value in hashes.items():
        text, count = re.subn(
            rf"^readonly {name}=\w+", f"readonly {name}={value}", text, flags=re.MULTILINE
        )
        assert count == 1
    (tmp_path / "fetch.sh").write_text(text)
    return tmp_path / "fetch.sh"


def assert_fetched(done, tmp_path, message):
    assert done.returncode == 0, done.stderr
    assert re.search(message, done.stdout.splitlines()[-1]), done.stdout
    assert (tmp_path / "caffe/CMakeLists.txt").read_text() == "project(Caffe)\n"
    assert (tmp_path / "caffe/include/layer.hpp").read_bytes() == b"// a layer\r\n"
    assert {path.name for path in tmp_path.iterdir()} <= KEPT | {"caffe"}


def test_git_gives_the_commit_by_its_hash(fetch, commit, tmp_path):
    assert_fetched(fetch(script=commit), tmp_path, "BVLC's commit .* of .*caffe.git$")


def test_a_git_server_that_gives_no_single_commit_gives_its_branches(fetch, commit, tmp_path):
    """Git's older protocol refuses a commit that no branch ends with."""
    done = fetch(
        script=commit,
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0="protocol.version",
        GIT_CONFIG_VALUE_0="0",
    )
    assert_fetched(done, tmp_path, "BVLC's commit")


def test_the_users_git_settings_change_no_file(fetch, commit, tmp_path):
    (tmp_path / "bin/gitconfig").write_text("[core]\n\tautocrlf = true\n")
    assert_fetched(
        fetch(script=commit, GIT_CONFIG_GLOBAL=str(tmp_path / "bin/gitconfig")),
        tmp_path,
        "BVLC's commit",
    )


def test_a_repository_without_the_commit(fetch, commit, tmp_path):
    done = fetch()  # asks for BVLC's own
    assert_refused(
        done,
        tmp_path,
        "no source from git: git could not fetch the commit 99bd997",
        "no source from cache: there is",
    )


@pytest.mark.parametrize("packed", [False, True])
def test_the_cache_comes_first(packed, fetch, commit, tmp_path):
    (tmp_path / "cache").mkdir()
    if packed:
        subprocess.run(
            ["tar", "-czf", tmp_path / "cache/caffe-first.tar.gz", "--exclude=.git", "source"],
            cwd=tmp_path,
            check=True,
        )
    else:
        shutil.copytree(tmp_path / "source", tmp_path / "cache/caffe")
    assert_fetched(
        fetch(script=commit, CAFFE_GIT="/nowhere"), tmp_path, "cache/caffe.*, BVLC's commit"
    )


def test_what_the_cache_holds_is_verified(fetch, commit, tmp_path):
    shutil.copytree(tmp_path / "source", tmp_path / "cache/caffe-a")
    (tmp_path / "cache/caffe-a/include/layer.hpp").write_text("// another layer\n")
    (tmp_path / "cache/caffe-b.tar.gz").write_text("half a tarb")
    done = fetch(script=commit, CAFFE_GIT="/nowhere")
    assert_refused(
        done,
        tmp_path,
        "caffe-a is not BVLC's commit .*: its files have another hash; "
        ".*caffe-b.tar.gz cannot be unpacked",
    )
    assert_fetched(fetch(script=commit), tmp_path, "of .*caffe.git$")  # the next place serves


DEBIAN_MIRROR = (
    '[ "$1" = indextargets ] && {{ echo "Debian {}"; exit; }}\nexec /usr/bin/apt-get "$@"\n'
)


def test_an_unsigned_mirror_is_refused(fetch, tmp_path):
    sources = tmp_path / "mirror/dists/bullseye/main/source/Sources"
    sources.parent.mkdir(parents=True)
    sources.write_text("Package: caffe\nVersion: 1\nFormat: 1.0\nDirectory: pool\nFiles:\n")
    (tmp_path / "mirror/dists/bullseye/Release").write_text(
        "Suite: bullseye\nCodename: bullseye\nComponents: main\n"
    )
    done = fetch(DEBIAN_MIRROR.format(f"file:{tmp_path}/mirror/"))
    assert_refused(done, tmp_path, "no source from debian: apt could not fetch and verify caffe")


def test_a_mirror_that_does_not_answer(fetch, tmp_path):
    done = fetch(DEBIAN_MIRROR.format("http://127.0.0.1:9/debian/"))
    assert_refused(
        done,
        tmp_path,
        "no source from debian: apt could not fetch and verify caffe",
        "  apt: .*127.0.0.1",
    )


def test_another_systems_mirrors_are_never_asked(fetch, tmp_path):
    """Ubuntu's have no bullseye: what DEBIAN_MIRRORS names is asked instead."""
    apt_get = f"""[ "$1" = indextargets ] && {{ echo "Ubuntu http://127.0.0.1:9/ubuntu/"; exit; }}
    case "$*" in *" update") cat {tmp_path}/caffe.*/sources.list >> {tmp_path}/bin/asked ;; esac
    exit 1
    """
    assert_refused(
        fetch(apt_get),
        tmp_path,
        "no source from debian: no Debian mirror .*: DEBIAN_MIRRORS can name one",
    )
    assert_refused(
        fetch(apt_get, DEBIAN_MIRRORS="http://127.0.0.1:9/debian"),
        tmp_path,
        "no source from debian",
    )
    asked = (tmp_path / "bin/asked").read_text().split()
    assert [word for word in asked if word.startswith("http")] == ["http://127.0.0.1:9/debian"]


def test_a_missing_tool_is_named(fetch, tmp_path):
    tools = tmp_path / "bin" / "tools"
    tools.mkdir()
    for tool in ("realpath", "dirname", "mkdir", "mktemp", "rm", "apt-get"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    assert_refused(
        fetch(PATH=str(tools)),
        tmp_path,
        "from debian: dpkg-source is missing",
        "from git: git is missing",
    )


# ---- build.sh


@pytest.mark.parametrize(
    "options, message",
    [
        (["--fast"], "error: unknown option --fast"),
        (["--caffe"], "error: --caffe needs a folder"),
        (["--caffe", "no/such/folder"], "error: --caffe no/such/folder: no such folder"),
        pytest.param(
            ["--caffe", "docs-that-are-no-caffe"],
            "is not a Caffe source tree: it has no CMakeLists.txt",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_build_refuses(options, message, tmp_path):
    (tmp_path / "docs-that-are-no-caffe").mkdir()
    options = [
        str(tmp_path / option) if option.startswith("docs") else option for option in options
    ]
    done = subprocess.run([ROOT / "scripts/build.sh", *options], capture_output=True, text=True)
    assert done.returncode == (1 if "Caffe source tree" in message else 2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


CMAKE = """#!/bin/sh
case "$1" in -S) exit 0 ;; esac
for n in $(seq 100); do echo "a.cpp:$n: warning: unused"; done
echo "b.cpp:7:1: error: expected ';'"
for n in $(seq 100); do echo "c.cpp:$n: warning: unused"; done
exit 2
"""


@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt")
def test_a_build_that_fails_shows_its_errors_and_keeps_its_log(tmp_path):
    for folder in ("scripts", "fork"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "scripts/setup.sh").write_text("#!/bin/sh\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cmake").write_text(CMAKE)
    (tmp_path / "bin/cmake").chmod(0o755)
    done = subprocess.run(
        [tmp_path / "scripts/build.sh"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: the build failed: the reason stands above, and everything in build/build.log\n"
    )
    lines = done.stdout.splitlines()
    assert (
        lines[0]
        == f"Building Caffe with active convolutions in {tmp_path}/build. This is done once; "
        "on two cores it takes"
    )
    assert sum("error: expected ';'" in line for line in lines) == 1 and len(lines) < 40
    assert (tmp_path / "build/build.log").read_text().count("warning") == 200


@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake")
@pytest.mark.parametrize(
    "top, flags", [("caffe_option(USE_OPENMP OFF)\n", ""), ("project(Caffe)\n", "-fopenmp")]
)
def test_what_caffes_own_cmake_is_told(top, flags, tmp_path):
    """OpenMP also by a Caffe of before its option, for our layers' sake; a minimum that CMake 4
    takes."""
    (tmp_path / "caffe/include/caffe").mkdir(parents=True)
    (tmp_path / "caffe/include/caffe/net.hpp").touch()
    (tmp_path / "caffe/CMakeLists.txt").write_text(top)
    subprocess.run(
        [
            "cmake",
            "-S",
            ROOT,
            "-B",
            tmp_path / "build",
            f"-DCAFFE_SOURCE_DIR={tmp_path}/caffe",
            "-DCMAKE_CXX_FLAGS=-g",
        ],
        check=True,
        capture_output=True,
    )
    told = (tmp_path / "build/fork-prefix/tmp/fork-cfgcmd.txt").read_text()
    assert (
        f"-DCMAKE_CXX_FLAGS=-g {flags}".rstrip() in re.findall(r"-DCMAKE_CXX_FLAGS=[^;']*", told)[0]
    )
    assert ("-fopenmp" in told) == bool(flags)
    assert "-DCMAKE_POLICY_VERSION_MINIMUM=3.5" in told


@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake")
@pytest.mark.parametrize(
    "reads_matlab, options, told",
    [
        (False, [], "-DCMAKE_CXX_STANDARD_LIBRARIES="),
        (True, ["-DMATIO=/usr/include"], "-DCMAKE_CXX_STANDARD_LIBRARIES=-lmatio"),
        (True, ["-DCMAKE_IGNORE_PATH=/usr/include;/usr/local/include"], None),
    ],
)
def test_a_tree_that_reads_matlabs_files_is_linked_with_matio(
    reads_matlab, options, told, tmp_path
):
    (tmp_path / "caffe/src/caffe/util").mkdir(parents=True)
    (tmp_path / "caffe/include/caffe").mkdir(parents=True)
    (tmp_path / "caffe/include/caffe/net.hpp").touch()
    (tmp_path / "caffe/CMakeLists.txt").write_text("project(Caffe)\n")
    if reads_matlab:
        (tmp_path / "caffe/src/caffe/util/matio_io.cpp").touch()
    done = subprocess.run(
        [
            "cmake",
            "-S",
            ROOT,
            "-B",
            tmp_path / "build",
            f"-DCAFFE_SOURCE_DIR={tmp_path}/caffe",
            *options,
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == bool(told), done.stderr
    if told:
        assert re.search(
            f"{told}[;']", (tmp_path / "build/fork-prefix/tmp/fork-cfgcmd.txt").read_text()
        )
    else:
        assert "needs matio: apt-get install libmatio-dev" in " ".join(done.stderr.split())


def test_an_empty_blob_is_divided_by_nowhere():
    """As in trees of before 1.0; Caffe's own looks first."""
    (edit,) = (edit for edit in TOOLCHAIN if edit.file == "src/caffe/blob.cpp")
    assert edit.apply("most = INT_MAX / count_);") == "most = INT_MAX / (count_ ? count_ : 1));"
    for mended in (
        "if (count_ != 0) { most(INT_MAX / count_); }",
        "most(INT_MAX / (count_ ? count_ : 1))",
    ):
        assert edit.apply(mended) == mended


# ---- What a build lacks

REQUIREMENTS = ROOT / "fork/requirements.py"


def require(tmp_path, *options, **environment):
    return subprocess.run(
        [sys.executable, REQUIREMENTS, "--build", tmp_path / "found", *options],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake")
def test_all_that_is_missing_is_named_at_once(tmp_path):
    """CMake looks below an empty root alone."""
    toolchain = tmp_path / "toolchain.cmake"
    toolchain.write_text(
        f"set(CMAKE_FIND_ROOT_PATH {tmp_path})\n"
        + "".join(
            f"set(CMAKE_FIND_ROOT_PATH_MODE_{kind} ONLY)\n" for kind in ("INCLUDE", "LIBRARY")
        )
    )
    done = require(tmp_path, CMAKE_TOOLCHAIN_FILE=str(toolchain))
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    for word in (
        "error: missing: google/protobuf/message.h, ",
        "boost/thread.hpp",
        "cblas.h",
        "apt-get install libprotobuf-dev libboost",
        "dnf install protobuf-devel boost-devel",
        "libsnappy-dev",
        "snappy-devel",
    ):
        assert word in message


def test_without_cmake_all_packages_are_named(tmp_path):
    (tmp_path / "bin").mkdir()
    for tool in ("make", "c++"):
        (tmp_path / "bin" / tool).symlink_to("/bin/true")
    done = require(tmp_path, PATH=f"{tmp_path}/bin")
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert message.startswith("error: missing: cmake, perhaps protoc, ")
    assert "apt-get install cmake protobuf-compiler" in message and "libopencv-dev" in message


def test_without_python_all_packages_are_named(tmp_path):
    """The program that looks for what is missing needs a Python itself."""
    for name in ("scripts/build.sh", "scripts/progress.sh", "cmake/requirements/CMakeLists.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            (ROOT / name).read_text().replace("/usr/bin/python3", "/usr/bin/no-python3")
        )
    done = subprocess.run(
        ["bash", tmp_path / "scripts/build.sh", "--no-setup"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    (message,) = done.stderr.splitlines()
    for word in (
        "error: missing: /usr/bin/no-python3, and perhaps all the rest; "
        "on Debian: apt-get install python3 cmake ",
        " libopencv-dev ",
        "; on Fedora: dnf install python3 cmake ",
        " opencv-devel ",
    ):
        assert word in message


def test_modules_that_only_running_needs_are_noted(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name in ('six', 'cv2') else find(name)\n"
    )
    done = require(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert (
        "running will: six, cv2; on Debian: apt-get install python3-six python3-opencv;"
        in done.stderr
    )
