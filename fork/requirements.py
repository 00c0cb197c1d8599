#!/usr/bin/python3
"""Says what compiling the fork lacks on this machine, all at once.

    fork/requirements.py --build FOLDER

Nothing is installed. What compiling lacks is one error line, with the packages that bring it on
Debian and on Fedora; what only running lacks is a note.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Headers, libraries and their packages.
PARTS = Path(__file__).resolve().parents[1] / "cmake/requirements"
# What a build starts and cannot look for with CMake: the program, Debian's package, Fedora's.
PROGRAMS = [("cmake", "cmake", "cmake"), ("make", "make", "make"), ("c++", "g++", "gcc-c++")]
# What Python imports to run pycaffe and our package: the module, Debian's package, Fedora's.
MODULES = [
    ("numpy", "python3-numpy", "python3-numpy"),
    ("google.protobuf", "python3-protobuf", "python3-protobuf"),
    ("six", "python3-six", "python3-six"),
    ("scipy", "python3-scipy", "python3-scipy"),
    ("skimage", "python3-skimage", "python3-scikit-image"),
    ("sklearn", "python3-sklearn", "python3-scikit-learn"),
    ("matplotlib", "python3-matplotlib", "python3-matplotlib"),
    ("h5py", "python3-h5py", "python3-h5py"),
    ("lmdb", "python3-lmdb", "python3-lmdb"),
    ("cv2", "python3-opencv", "python3-opencv"),
    ("tqdm", "python3-tqdm", "python3-tqdm"),
]


def there(module):
    """Whether Python finds ``module``; nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a package above it
        return False


def missing_parts(build):
    """What CMake does not find: [(a header, library or program, Debian's package, Fedora's)].

    ``build`` is a folder for its files, made anew.
    """
    missing = [program for program in PROGRAMS if not shutil.which(program[0])]
    if missing:  # nothing to look for the rest with: all of it is named
        need = r"^need\((\S+) +\S+ +(\S+) +(\S+)\)$"
        parts = re.findall(need, (PARTS / "CMakeLists.txt").read_text(), re.MULTILINE)
        return missing + [(f"perhaps {what}", debian, fedora) for what, debian, fedora in parts]
    shutil.rmtree(build, ignore_errors=True)
    done = subprocess.run(["cmake", "-S", PARTS, "-B", build], capture_output=True, text=True)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:300]
        sys.exit(f"error: the compiler does not work: {said}")
    return [tuple(line.split(";")) for line in (build / "missing").read_text().splitlines()]


def described(missing):
    """What is missing and how to bring it, of a list as missing_parts() gives it."""
    names = ", ".join(what for what, *_ in missing)
    debian, fedora = (" ".join(dict.fromkeys(packages)) for packages in list(zip(*missing))[1:])
    return f"{names}; on Debian: apt-get install {debian}; on Fedora: dnf install {fedora}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--build", type=Path, required=True, metavar="FOLDER", help="where CMake may write"
    )
    missing = missing_parts(parser.parse_args().build)
    modules = [module for module in MODULES if not there(module[0])]
    if missing:
        sys.exit(f"error: missing: {described(missing + modules)}")
    if modules:
        print(
            f"note: compiling needs no more, but running will: {described(modules)}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
