"""pack.py WORK DIST: the wheel of what scripts/wheel.sh has compiled, checked by auditwheel and
twine."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PLATFORM = "manylinux_2_31_x86_64"
MOST_MB = 15
ROOT = Path(__file__).resolve().parents[2]
# What is inside and comes from Debian 11: its copyright files go along.
DEBIAN = (
    "libboost1.74-dev libgflags-dev libhdf5-dev libjpeg62-turbo-dev libleveldb-dev "
    "liblmdb-dev libpng-dev libsnappy-dev libaec-dev zlib1g-dev gcc-10-base"
).split()
SOURCES = ("protobuf", "opencv", "glog")  # compiled from source


def run(*command, **options):
    subprocess.run([str(word) for word in command], check=True, **options)


def package(work, tree):
    """Unpacks the Python package's own wheel in ``tree``; returns its dist-info."""
    built, source = work / "package", work / "python"  # setuptools writes beside the sources
    for folder in (built, source):
        shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "python", source, ignore=left_out)
    run(
        sys.executable,
        "-m",
        "pip",
        "-q",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        built,
        source,
    )
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tree)
    (info,) = tree.glob("*.dist-info")
    metadata = (info / "METADATA").read_text().rstrip()
    readme = (ROOT / "README.md").read_text()
    (info / "METADATA").write_text(
        f"{metadata}\nDescription-Content-Type: text/markdown\n\n{readme}"
    )
    return info


def add_caffe(work, tree):
    """The folder caffe: pycaffe's modules, the messages and the library."""
    debian = work / "debian/w"
    left_out = shutil.ignore_patterns("test", "proto", "*.so", "*.cpp", "__pycache__")
    shutil.copytree(work / "fork/python/caffe", tree / "caffe", ignore=left_out)
    (tree / "caffe/proto").mkdir()
    (tree / "caffe/proto/__init__.py").touch()
    shutil.copy(work / "generated/caffe_pb2.py", tree / "caffe/proto/")
    shutil.copy(debian / "libcaffe.so", tree / "caffe/")


def add_share(work, tree):
    """What the package finds in a checkout: networks, how Caffe was built, and its programs."""
    share = tree / "active_convolution/share"
    shutil.copytree(ROOT / "models", share / "models")
    (share / "built.txt").write_text(
        "CAFFE_SOURCE_DIR=\nCPU_ONLY=ON\nCUDA_ARCH_BIN=\nUSE_NCCL=OFF\nBLAS=Open\nUSE_OPENMP=ON\n"
        "CMAKE_BUILD_TYPE=Release\n"
    )
    programs = share / "out/tools"
    shutil.copytree(work / "debian/w/programs", programs)
    for program in programs.iterdir():
        run("patchelf", "--set-rpath", "$ORIGIN/../../../../caffe", program)


def add_licences(work, info):
    """Of all that is inside, in the dist-info."""
    folder = info / "licenses"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "LICENSE", folder / "active-convolution")
    shutil.copy(work / "caffe/LICENSE", folder / "caffe")
    for name in DEBIAN:
        shutil.copy(work / f"debian/usr/share/doc/{name}/copyright", folder / name)
    for name in SOURCES:
        source = work / f"debian/w/{name}-source"
        (licence,) = (source / each for each in ("LICENSE", "COPYING") if (source / each).is_file())
        shutil.copy(licence, folder / name)
    (openblas,) = Path(sys.prefix).glob("lib/python3*/site-packages/scipy_openblas32-*.dist-info")
    for licence in openblas.rglob("LICEN*"):
        if licence.is_file():
            shutil.copy(licence, folder / f"openblas-{licence.name}")


def finish(tree, info, made):
    """Packs ``tree`` into the folder ``made``; returns the file."""
    (info / "RECORD").unlink()
    (info / "WHEEL").write_text(
        "Wheel-Version: 1.0\nGenerator: scripts/wheel.sh\n"
        "Root-Is-Purelib: false\nTag: py3-none-linux_x86_64\n"
    )
    entries = info / "entry_points.txt"
    entries.write_text(entries.read_text().rstrip() + "\ncaffe = caffe.__main__:main\n")
    made.mkdir(exist_ok=True)
    run(sys.executable, "-m", "wheel", "pack", "-d", made, tree)
    (wheel,) = made.glob("*.whl")
    return wheel


def check(wheel, exported):
    """Ends with an error where the wheel is not what docs/releasing.md promises."""
    size = wheel.stat().st_size / 1e6
    if size > MOST_MB:
        sys.exit(f"error: {wheel.name} has {size:.1f} MB, more than {MOST_MB}")
    strange = [name for name in exported if not re.match(r"(caffe|main_of)_", name)]
    if strange:
        sys.exit(f"error: the library shows {strange[:5]}")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel)
    run(sys.executable, "-m", "auditwheel", "show", wheel)
    print(f"{wheel.name}: {size:.1f} MB")


def main(work, dist):
    tree, made = work / "tree", work / "made"
    for folder in (tree, made):
        shutil.rmtree(folder, ignore_errors=True)
    info = package(work, tree)
    add_caffe(work, tree)
    add_share(work, tree)
    add_licences(work, info)
    wheel = finish(tree, info, made)
    for old in dist.glob("*.whl"):
        old.unlink()
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "LD_LIBRARY_PATH": str(work / "vendored")}
    auditwheel = [sys.executable, "-m", "auditwheel", "repair", "--strip", "--plat", PLATFORM]
    run(*auditwheel, "-w", dist, wheel, env=environment)
    (wheel,) = dist.glob("*.whl")
    check(wheel, (work / "debian/w/exported").read_text().split())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
