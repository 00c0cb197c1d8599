#!/usr/bin/python3
"""Says what compiling the fork lacks on this machine, all at once, and what CMake must know of the Python it is for.

    fork/requirements.py --build FOLDER [--python PATH]

Nothing is installed. What compiling lacks is one error line, with the packages that bring it on Debian and on Fedora;
what only running lacks is a note.
Else the CMake options for the Python are printed, one a line: none for the system's own, /usr/bin/python3.

A Python of another version than the system's needs its own Boost.Python, as conda brings it; then everything else is
looked for in that environment first, too.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

PARTS = (
    Path(__file__).resolve().parents[1] / "cmake/requirements"
)  # headers, libraries and their packages
SYSTEM = "/usr/bin/python3"

# What a build starts and cannot look for with CMake: the program, Debian's package, Fedora's.
PROGRAMS = [("cmake", "cmake", "cmake"), ("make", "make", "make"), ("c++", "g++", "gcc-c++")]
# What Python imports: the module, Debian's package, Fedora's, PyPI's. Compiling needs the first; without the rest the
# build is whole, but pycaffe or our package will not start.
MODULES = [
    ("numpy", "python3-numpy", "python3-numpy", "numpy"),
    ("google.protobuf", "python3-protobuf", "python3-protobuf", "protobuf"),
    ("six", "python3-six", "python3-six", "six"),
    ("scipy", "python3-scipy", "python3-scipy", "scipy"),
    ("skimage", "python3-skimage", "python3-scikit-image", "scikit-image"),
    ("sklearn", "python3-sklearn", "python3-scikit-learn", "scikit-learn"),
    ("matplotlib", "python3-matplotlib", "python3-matplotlib", "matplotlib"),
    ("h5py", "python3-h5py", "python3-h5py", "h5py"),
    ("lmdb", "python3-lmdb", "python3-lmdb", "lmdb"),
    ("cv2", "python3-opencv", "python3-opencv", "opencv-python-headless"),
    ("tqdm", "python3-tqdm", "python3-tqdm", "tqdm"),
]

# What a Python says of itself; its modules are looked for, not imported.
PROBE = """
import importlib.util, json, platform, sys, sysconfig
def there(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
print(json.dumps({"kind": platform.python_implementation(), "version": sys.version_info[:2],
                  "executable": sys.executable, "prefix": sys.base_prefix, "include": sysconfig.get_path("include"),
                  "LIBDIR": sysconfig.get_config_var("LIBDIR"), "MULTIARCH": sysconfig.get_config_var("MULTIARCH"),
                  "without": [module for module in %r if not there(module)]}))
"""

PROBE_SECONDS = 300  # a busy machine's; one that hangs ends all the same


class RequirementError(Exception):
    """Something is missing; the message is the one line that names it."""


def probe(python):
    """Returns what the program ``python`` says of itself (dict); raises RequirementError where it is no Python 3."""
    code = PROBE % ([module for module, *_ in MODULES],)
    name = SYSTEM if python == SYSTEM else f"--python {python}"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise RequirementError(
            f"{name}: it has not answered within {PROBE_SECONDS} seconds"
        ) from None
    except (OSError, ValueError):
        raise RequirementError(f"{name}: it does not run as a Python 3") from None
    if found["kind"] != "CPython" or found["version"][0] != 3:
        raise RequirementError(
            f"{name}: it is {found['kind']} {found['version'][0]}.{found['version'][1]}; "
            "pycaffe needs CPython 3"
        )
    return found


def boost_python(found):
    """Returns (the name of Boost.Python's library for this Python, the prefix that has it, None for the system)."""
    name = "boost_python{}{}".format(*found["version"])
    own = Path(found["prefix"]) / "lib" / f"lib{name}.so"
    return name, found["prefix"] if own.exists() and found["prefix"] != "/usr" else None


def python_options(python, found):
    """Returns CMake's options for a Python that is not the system's; raises RequirementError where it has no headers or
    no shared library."""
    version = "{}.{}".format(*found["version"])
    header = Path(found["include"]) / "Python.h"
    if not header.is_file():
        raise RequirementError(
            f"--python {python}: {header} is missing; install the headers of Python {version} "
            f"(Debian: libpython{version}-dev, Fedora: python3-devel)"
        )
    folders = [Path(found["LIBDIR"] or "/"), Path(found["prefix"]) / "lib"]
    if found["MULTIARCH"]:
        folders.append(folders[0] / found["MULTIARCH"])
    library = next(
        (
            folder / f"libpython{version}.so"
            for folder in folders
            if (folder / f"libpython{version}.so").exists()
        ),
        None,
    )
    if library is None:
        raise RequirementError(
            f"--python {python}: there is no libpython{version}.so beside it, which Caffe's Python "
            "layers need; take a Python that was built with --enable-shared"
        )
    prefix = boost_python(found)[1]
    options = [
        f"-DPYTHON={found['executable']}",
        f"-DPYTHON_INCLUDE_DIR={found['include']}",
        f"-DPYTHON_LIBRARY={library}",
    ]
    return options + ([f"-DCMAKE_PREFIX_PATH={prefix}"] if prefix else [])


def missing_parts(build, name, prefix):
    """Returns [(what, Debian's package, Fedora's)] of the headers, libraries and programs that CMake does not find; looks
    in ``prefix`` first. ``build`` is a folder for its files, made anew."""
    missing = [program for program in PROGRAMS if not shutil.which(program[0])]
    if missing:  # nothing to look for the rest with: all of it is named
        parts = re.findall(
            r"^need\((\S+) +\S+ +(\S+) +(\S+)\)$",
            (PARTS / "CMakeLists.txt").read_text(),
            re.MULTILINE,
        )
        return missing + [(f"perhaps {what}", debian, fedora) for what, debian, fedora in parts]
    shutil.rmtree(build, ignore_errors=True)
    done = subprocess.run(
        [
            "cmake",
            "-S",
            PARTS,
            "-B",
            build,
            f"-DBOOST_PYTHON={name}",
            f"-DCMAKE_PREFIX_PATH={prefix or ''}",
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RequirementError(
            "the compiler does not work: " + " ".join((done.stderr or done.stdout).split())[:300]
        )
    return [tuple(line.split(";")) for line in (build / "missing").read_text().splitlines()]


def refuse_other_boost(python, found):
    """Raises RequirementError for a Python whose version is not that of the system's Boost.Python."""
    name, prefix = boost_python(found)
    system = probe(SYSTEM)["version"] if Path(SYSTEM).exists() else None
    if prefix is None and found["version"] != system:
        version, other = (
            "{}.{}".format(*found["version"]),
            "{}.{}".format(*system) if system else "none",
        )
        raise RequirementError(
            f"--python {python}: pycaffe is built with Boost.Python, which is there for the system's Python ({other}), "
            f"not for {version}: take a virtual environment of {SYSTEM}, or install lib{name}.so in {found['prefix']} (conda "
            "install -c conda-forge libboost-python-devel)"
        )


def ways(missing, pip):
    """Returns how to bring [(what, Debian's package, Fedora's)] and, ``pip``'s command, the modules; on one line."""
    found = [
        f"on {system}: {install} {' '.join(dict.fromkeys(packages))}"
        for system, install, packages in (
            ("Debian", "apt-get install", [debian for _, debian, _ in missing]),
            ("Fedora", "dnf install", [fedora for _, _, fedora in missing]),
        )
        if packages
    ]
    return "; ".join(found + ([pip] if pip else []))


def described(missing, modules, python):
    """Returns "what, what; how to bring it" of missing parts and modules; a Python of the user's gets modules by pip."""
    names = ", ".join([what for what, *_ in missing] + [module[0] for module in modules])
    if python:
        return f"{names}; " + ways(
            missing,
            f"{python} -m pip install " + " ".join(module[3] for module in modules)
            if modules
            else "",
        )
    return f"{names}; " + ways(missing + [module[:3] for module in modules], "")


def check(build, python):
    """Returns (CMake's options for ``python``, None being the system's; a note on what only running needs, or None);
    raises RequirementError."""
    found = probe(python or SYSTEM)
    if python:
        refuse_other_boost(python, found)
    modules = [module for module in MODULES if module[0] in found["without"]]
    to_compile = [module for module in modules if module == MODULES[0]]
    missing = missing_parts(build, *boost_python(found))
    if not python and not (Path(found["include"]) / "Python.h").is_file():
        missing.append(("Python.h", "python3-dev", "python3-devel"))
    if missing or to_compile:
        raise RequirementError("missing: " + described(missing, modules, python))
    options = python_options(python, found) if python else []
    return options, described([], modules, python) if modules else None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--build", type=Path, required=True, metavar="FOLDER", help="where CMake may write"
    )
    parser.add_argument(
        "--python", metavar="PATH", help=f"the Python that pycaffe is for (default: {SYSTEM})"
    )
    arguments = parser.parse_args()
    try:
        options, note = check(arguments.build, arguments.python)
    except RequirementError as error:
        sys.exit(f"error: {error}")
    if note:
        print(f"note: compiling needs no more, but running will: {note}", file=sys.stderr)
    print("".join(f"{option}\n" for option in options), end="")


if __name__ == "__main__":
    main()
