#!/usr/bin/python3
"""Makes the fork: a Caffe tree, our edits of its files, and our own files laid out as Caffe lays
out its own.

    fork/assemble.py --caffe DIR [--project DIR] [--output DIR] [--no-fast-layers]

Without --output it only looks whether the fork can be made. Without --project the tree gets nothing
of ours: only what current toolchains need to build it. With --no-fast-layers Caffe's CPU layers
keep their own loops. All anchors are looked up before anything is written; optional edits that
found none are named. A file is written only where its content changes, so a second run costs a
second, and a build after it compiles what really changed. The file ``.assembled`` in the output
names the tree it came from; it is there only when the fork is whole."""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from edits import (  # noqa: E402
    EDITS,
    FAMILIES,
    FAST_LAYERS,
    TOOLCHAIN,
    AnchorError,
    edited,
    groups_without_anchor,
)

STAMP = ".assembled"
LANDMARKS = (
    "CMakeLists.txt",
    "include/caffe/layer.hpp",
    "src/caffe/solver.cpp",
    "src/caffe/proto/caffe.proto",
)
# Where our folders go. A file of the same name replaces Caffe's.
OUR_FOLDERS = {
    "include": "include",
    "src": "src",
    "tools": "tools",
    "fork/binding": "python",
}
# What a used Caffe tree holds besides its sources: folders at its top, folders anywhere, data
# files, products of a build.
SKIPPED_AT_TOP = {
    "build",
    ".build_release",
    ".build_debug",
    "distribute",
    "debian",
    ".pc",
    "data",
    "models",
}
SKIPPED_ANYWHERE = {".git", "__pycache__"}
SKIPPED_SUFFIXES = {".caffemodel", ".solverstate", ".binaryproto", ".mdb", ".o", ".so"}
MADE_BY_BUILD = "python/caffe/proto"
BOOST_BINDING = "python/caffe/_caffe.cpp"  # ours takes its place
FAST_FILES = re.compile(r"(test_)?fast_")  # of ours, by how their names start


class ForkError(Exception):
    """The fork cannot be made; the message says why and what to do."""


def files_below(root):
    """Yields the paths of all files below ``root``, relative to it, without what a build leaves
    behind."""
    for folder, folders, names in os.walk(root):
        relative = Path(folder).relative_to(root)
        skipped = SKIPPED_ANYWHERE | (SKIPPED_AT_TOP if folder == str(root) else set())
        folders[:] = sorted(
            name
            for name in folders
            if name not in skipped and str(relative / name) != MADE_BY_BUILD
        )
        for name in sorted(names):
            path = root / relative / name
            if path.suffix not in SKIPPED_SUFFIXES and name != STAMP and path.is_file():
                yield relative / name


def planned_files(caffe, project, fast_layers=True):
    """Returns ({relative path: (source path, edited bytes or None)} of the whole fork, [the
    optional edits that found no anchor]); raises before anything is written.

    ``project`` is None for a tree without anything of ours. ``fast_layers`` says whether Caffe's
    CPU layers call ours."""
    for landmark in LANDMARKS:
        if not (caffe / landmark).is_file():
            raise ForkError(f"{caffe} is not a Caffe source tree: it has no {landmark}")
    families = families_of(caffe) if project else []
    plan = {path: (caffe / path, None) for path in files_below(caffe)}
    edits = sum((list(family.edits) for family in families), []) + EDITS if project else TOOLCHAIN
    edits = [edit for edit in edits if fast_layers or edit not in FAST_LAYERS]
    by_file = {
        name: [edit for edit in edits if edit.file == name]
        for name in sorted({edit.file for edit in edits})
    }
    texts = {
        name: (caffe / name).read_text(encoding="utf-8") if Path(name) in plan else None
        for name in by_file
    }
    broken = set().union(
        *(
            groups_without_anchor(texts[name], of_this_file)
            for name, of_this_file in by_file.items()
        )
    )
    without = []
    for name, of_this_file in by_file.items():
        if Path(name) not in plan:
            for edit in of_this_file:
                if edit.required:
                    raise ForkError(
                        f"{caffe} has no {name}, which '{edit.name}' changes: it is too old a "
                        "Caffe, or no whole one"
                    )
        else:
            text, left = edited(texts[name], of_this_file, broken)
            plan[Path(name)] = (caffe / name, text.encode("utf-8"))
            without += left
    for family in families:
        for name in family.dropped:
            plan.pop(Path(name), None)
    if project:
        plan.pop(Path(BOOST_BINDING), None)
        for folder, place in OUR_FOLDERS.items():
            for path in files_below(project / folder):
                if fast_layers or not FAST_FILES.match(path.name):
                    plan[Path(place) / path] = (project / folder / path, None)
    return plan, without


def families_of(caffe):
    """Returns the families that the tree ``caffe`` belongs to; raises ForkError for one that cannot
    be forked."""
    found = [
        family
        for family in FAMILIES
        if (caffe / family.file).is_file()
        and re.search(family.mark, (caffe / family.file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    for family in found:
        if family.refused:
            raise ForkError(
                f"{caffe} is a Caffe of a kind that gets no active convolutions ({family.name}): "
                f"{family.refused}"
            )
    return found


def write_if_changed(target, source, content):
    """Brings ``target`` to ``content`` (or the bytes of ``source``); an unchanged file keeps its
    time stamp."""
    content = source.read_bytes() if content is None else content
    if target.is_file() and target.read_bytes() == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    shutil.copymode(source, target)
    return True


def assemble(caffe, project, output, fast_layers=True):
    """Brings ``output`` to the fork of ``caffe``, the other parameters being those of
    planned_files; returns (the number of files written, [the optional edits that found no
    anchor])."""
    plan, without = planned_files(caffe, project, fast_layers)
    stamp = output / STAMP
    stamp.unlink(missing_ok=True)
    written = sum(
        write_if_changed(output / path, source, content) for path, (source, content) in plan.items()
    )
    for path in files_below(output):
        if path not in plan:
            (output / path).unlink()
            written += 1
    stamp.write_text(f"{caffe}\n", encoding="utf-8")
    return written, without


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, text in (
        ("caffe", "Caffe's source tree (read only)"),
        ("project", "our own tree"),
        ("output", "the fork"),
    ):
        parser.add_argument(
            f"--{name}",
            type=lambda text: Path(text).resolve(),
            required=name == "caffe",
            metavar="DIR",
            help=text,
        )
    parser.add_argument(
        "--no-fast-layers", action="store_true", help="leave Caffe's CPU layers their own loops"
    )
    arguments = parser.parse_args()
    try:
        if arguments.output is None:
            planned_files(arguments.caffe, arguments.project, not arguments.no_fast_layers)
            return
        written, without = assemble(
            arguments.caffe, arguments.project, arguments.output, not arguments.no_fast_layers
        )
    except (ForkError, AnchorError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot assemble {arguments.output}: {error}")
    what = "Fork" if arguments.project else "Plain copy"
    print(f"{what} of {arguments.caffe}: {written} files brought up to date")
    for edit in without:
        print(f"  not made, for want of its anchor in {edit.file}: {edit.name}")


if __name__ == "__main__":
    main()
