"""The images, as far as they can be looked at without building them; docker/check.sh builds and
uses them."""

import os
import re
import shutil
import subprocess

import pytest
from active_convolution.caffe.locate import BUILD
from active_convolution.cli import SUBCOMMANDS
from conftest import ROOT

pytestmark = pytest.mark.slow

ENTRYPOINT = ROOT / "docker/entrypoint.sh"


@pytest.mark.skipif(
    not (BUILD / "out/CMakeCache.txt").exists(),
    reason="an image of docker/ does not hold how it was compiled",
)
def test_nothing_asks_for_more_than_avx2():
    files = [*(BUILD / "out").rglob("flags.make")]
    assert files and all(
        not re.search(r"=native\b|-mavx512|x86-64-v4", path.read_text()) for path in files
    )


# ---- collect.sh


def owner(library):
    """The package that owns a shared library, by its path or by the one it had before /lib moved to
    /usr/lib."""
    for path in (os.path.realpath(library), os.path.realpath(library).removeprefix("/usr")):
        done = subprocess.run(["dpkg-query", "--search", path], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    raise AssertionError(f"no package owns {library}")


@pytest.mark.skipif(not shutil.which("dpkg-shlibdeps"), reason="needs dpkg-dev")
def test_collect_names_every_package_that_the_fork_links(tmp_path):
    subprocess.run([ROOT / "docker/collect.sh", BUILD, tmp_path / "collected"], check=True)
    packages = set((tmp_path / "collected/packages").read_text().split())
    program = BUILD / "out/lib/libcaffe.so"
    needed = re.findall(
        r"NEEDED.*\[(.*)\]", subprocess.check_output(["readelf", "-d", program], text=True)
    )
    paths = dict(
        re.findall(r"(\S+) => (/\S+)", subprocess.check_output(["ldd", program], text=True))
    )
    assert len(needed) > 10
    # setup.sh --run itself chooses among Debian's builds of OpenBLAS.
    linked = {owner(paths[name]) for name in needed if name in paths and "openblas" not in name}
    assert linked <= packages
    run = tmp_path / "collected/run"
    assert (run / "out/lib/libcaffe.so").resolve().is_file() and os.access(
        run / "out/tools/caffe", os.X_OK
    )
    assert (run / "fork/python/caffe/proto/caffe_pb2.py").is_file()
    assert (run / "built.txt").read_text() == (BUILD / "built.txt").read_text()
    assert not [path for path in run.rglob("*") if path.suffix in (".a", ".o", ".hpp")]


# ---- add_nonfree.sh

DEB822 = (
    "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm\nComponents: {}\nSigned-By: /a.gpg\n"
)


@pytest.mark.quick
@pytest.mark.parametrize(
    "name, text, before, after",
    [
        ("sources.list.d/debian.sources", DEB822, "main", "main contrib non-free"),
        (
            "sources.list.d/debian.sources",
            DEB822,
            "main non-free-firmware",
            "main non-free-firmware contrib non-free",
        ),
        ("sources.list.d/debian.sources", DEB822, "main non-free contrib", "main non-free contrib"),
        (
            "sources.list",
            "deb [arch=amd64] http://mirror/debian bookworm {}\n# deb http://other/ x main\n",
            "main",
            "main contrib non-free",
        ),
        (
            "sources.list.d/a.list",
            "deb http://mirror/debian bookworm {}\ndeb http://other stable tool\n",
            "main contrib",
            "main contrib non-free",
        ),
    ],
)
def test_add_nonfree(tmp_path, name, text, before, after):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(before))
    for _ in range(2):
        subprocess.run([ROOT / "docker/gpu/add_nonfree.sh", tmp_path], check=True)
        assert path.read_text() == text.format(after)


def test_add_nonfree_finds_no_debian_source(tmp_path):
    (tmp_path / "sources.list").write_text("deb http://other stable tool\n")
    done = subprocess.run(
        [ROOT / "docker/gpu/add_nonfree.sh", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"error: no apt source below {tmp_path} has Debian's component main\n"


# ---- The entrypoint


def enter(*arguments, cwd, entrypoint=ENTRYPOINT):
    return subprocess.run([entrypoint, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.quick
def test_help_names_every_sub_command_and_the_scripts_that_are_no_doors_to_one(tmp_path):
    listed = {
        line.split()[0] for line in enter(cwd=tmp_path).stdout.splitlines() if line.startswith("  ")
    }
    scripts = {
        path.stem
        for path in (ROOT / "scripts").glob("*.*")
        if os.access(path, os.X_OK) and "cli.script(" not in path.read_text()
    }
    builders = {"setup", "build", "sanitize", "check_compilers", "wheel", "lint"}
    checkers = {"check_gpu", "check_system", "check_wheel"}
    assert listed == {*SUBCOMMANDS} | scripts - builders - checkers
    assert {"train", "demo"} <= listed


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_sub_commands_by_name(tmp_path, subcommand):
    done = enter(subcommand, "--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: acu {subcommand} ")


def test_a_script_by_name(tmp_path):
    done = enter("create_lmdb", "--help", cwd=tmp_path)
    assert done.stdout.startswith("usage: create_lmdb.py ")


def test_version(tmp_path):
    assert enter("--version", cwd=tmp_path).stdout.startswith("acu ")


@pytest.fixture
def image(tmp_path):
    """The entrypoint of an image without the tests, and a script `show` that prints its arguments,
    one a line."""
    for folder in ("docker", "scripts", "models/digits/plain"):
        (tmp_path / "image" / folder).mkdir(parents=True)
    shutil.copy(ENTRYPOINT, tmp_path / "image/docker")
    for name in ("test.sh", "build.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "image/scripts")
    (tmp_path / "image/scripts/show.sh").write_text(
        '#!/bin/sh\n# Shows.\nprintf "%s\\n" "$PWD" "$@"\nexit 3\n'
    )
    (tmp_path / "image/scripts/show.sh").chmod(0o755)
    (tmp_path / "image/scripts/acu").write_text('#!/bin/sh\necho "  train      Trains."\n')
    (tmp_path / "image/scripts/acu").chmod(0o755)
    (tmp_path / "workspace").mkdir()
    return tmp_path / "image"


def shown(image, *arguments):
    """What the script ``show`` saw, started in the workspace."""
    workspace = image.parent / "workspace"
    done = enter(
        "show", *map(str, arguments), cwd=workspace, entrypoint=image / "docker/entrypoint.sh"
    )
    assert done.returncode == 3  # the script's own
    where, *seen = done.stdout.splitlines()
    assert where == str(workspace)
    return seen


@pytest.mark.quick
def test_models_come_from_the_image(image):
    assert shown(
        image, "models/digits/plain", "--model=models/digits/plain", "--data", "data/a b", ""
    ) == [
        f"{image}/models/digits/plain",
        f"--model={image}/models/digits/plain",
        "--data",
        "data/a b",
        "",
    ]


def test_what_is_in_the_workspace_comes_first(image):
    (image.parent / "workspace/models/digits/plain").mkdir(parents=True)
    assert shown(image, "models/digits/plain", "models/no/such", f"{image}/models") == [
        "models/digits/plain",
        "models/no/such",
        f"{image}/models",
    ]


@pytest.mark.quick
def test_any_program_by_name(image, tmp_path):
    assert (
        enter(
            "echo", "-n", "models/digits", cwd=tmp_path, entrypoint=image / "docker/entrypoint.sh"
        ).stdout
        == f"{image}/models/digits"
    )


@pytest.mark.parametrize("name", ["no_such_script", "build", "../scripts/show.sh", ""])
def test_what_the_image_does_not_hold(image, tmp_path, name):
    done = enter(name, cwd=tmp_path, entrypoint=image / "docker/entrypoint.sh")
    assert done.returncode == 127
    assert re.fullmatch(
        rf"error: the image has no sub-command, script or program {re.escape(name)}: .* help`.*\n",
        done.stderr,
    )


def test_an_image_without_the_tests_says_so(image, tmp_path):
    assert (
        " test "
        not in enter("help", cwd=tmp_path, entrypoint=image / "docker/entrypoint.sh").stdout
    )
    done = enter("test", cwd=tmp_path, entrypoint=image / "docker/entrypoint.sh")
    assert done.returncode == 127 and "--target test" in done.stderr


def test_a_folder_that_is_not_mounted_is_noted(tmp_path):
    assert enter("true", cwd=tmp_path).stderr.startswith(
        f"note: nothing is mounted at {tmp_path}: "
    )


def test_an_image_builds_nothing(tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = subprocess.run(
        [tmp_path / "scripts/build.sh"],
        env={**os.environ, "ACTIVE_CONVOLUTION_BUILT": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]
