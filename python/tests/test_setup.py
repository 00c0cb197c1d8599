"""setup.sh with stand-ins for dpkg and apt, and the one line that follows a long command."""

import os
import pty
import re
import subprocess

import pytest
from conftest import ROOT

SETUP = ROOT / "scripts/setup.sh"

DPKG_QUERY = """#!/bin/sh
shift 2
for name; do ! grep -qx "$name" {0}/installed || echo "ii  $name"; done
"""
APT_CACHE = """#!/bin/sh
if grep -qx "$2" {0}/offered; then echo "  Candidate: 1.0"; else echo "  Candidate: (none)"; fi
"""
APT_GET = """#!/bin/sh
echo "$*" >> {0}/asked
case " $* " in
  *" update "*) echo "Hit:1 http://mirror" ;;
  *" --print-uris "*) for name; do case $name in
    -*|install) ;;
    *) echo "'http://m/$name' $name.deb 2000000 SHA256:0" ;; esac; done ;;
  *" install "*)
    if [ -e {0}/broken ]; then echo "E: Unmet dependencies"; exit 100; fi
    echo "dlstatus:1:50.0:Retrieving"; echo "pmstatus:dpkg:42.5:Unpacking"; echo "Unpacking much"
    seen=; for name; do case $name in
      install) seen=yes ;;
      *) [ -z "$seen" ] || echo "$name" >> {0}/installed ;; esac; done ;;
esac
"""


def packages(kind):
    """The names in the list ``kind`` of setup.sh, as they stand there."""
    text = re.search(rf"^{kind}=\(\n(.*?)^\)", SETUP.read_text(), re.MULTILINE | re.DOTALL)[1]
    return [word.strip('"') for word in text.split()]


@pytest.fixture
def system(tmp_path):
    """A folder with the stand-ins in bin/, what is ``installed`` and what is ``offered``: at first
    all but alternatives."""
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("dpkg-query", DPKG_QUERY),
        ("apt-cache", APT_CACHE),
        ("apt-get", APT_GET),
        ("id", "#!/bin/sh\necho 0\n"),
    ):
        (tmp_path / "bin" / name).write_text(text.format(tmp_path))
        (tmp_path / "bin" / name).chmod(0o755)
    everything = [
        name.rstrip("?").split("|")[0]
        for kind in ("build", "run", "test")
        for name in packages(kind)
    ]
    for name in ("installed", "offered"):
        (tmp_path / name).write_text("".join(f"{package}\n" for package in everything))
    (tmp_path / "test-env/lib/python3/site-packages/tensorboard").mkdir(parents=True)
    return tmp_path


def forget(system, file, *names):
    kept = [name for name in (system / file).read_text().split() if name not in names]
    (system / file).write_text("".join(f"{name}\n" for name in kept))


def set_up(system, *options):
    return subprocess.run(
        [SETUP, *options],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PATH": f"{system}/bin:/usr/bin:/bin",
            "ACTIVE_CONVOLUTION_TEST_ENV": f"{system}/test-env",
        },
    )


def installs(system):
    """What was given to apt-get install."""
    (line,) = [
        line
        for line in (system / "asked").read_text().splitlines()
        if " install " in line and "print-uris" not in line
    ]
    return line.split(" install ")[1].split()


@pytest.mark.parametrize("options", [(), ("--build",), ("--run",), ("--test",)])
def test_what_is_there_is_left_alone(options, system):
    done = set_up(system, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (system / "asked").exists()


def test_apts_many_lines_become_few(system):
    forget(system, "installed", "cmake", "python3-six")
    done = set_up(system)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(r"\d+ s", "N s", done.stdout).splitlines() == [
        "Reading the lists of packages ...",
        "Reading the lists of packages: done, N s",
        "Installing from Debian (2 packages, 4 MB to fetch): cmake python3-six",
        "Installing packages ...",
        "Installing packages: done, N s",
    ]


def test_what_apt_said_is_shown_where_it_fails(system):
    forget(system, "installed", "cmake")
    (system / "broken").touch()
    done = set_up(system)
    assert done.returncode == 1 and "E: Unmet dependencies" in done.stdout
    assert done.stderr == "error: apt-get install failed: the end of apt's output stands above\n"


def test_build_needs_neither_browser_nor_test_tools(system):
    (system / "installed").write_text("")
    assert set_up(system, "--build").returncode == 0
    asked = set(installs(system))
    assert {"cmake", "libboost-thread-dev", "python3", "libopenblas-openmp-dev"} <= asked
    assert not asked & {
        "chromium-headless-shell",
        "python3-pytest",
        "jupyter-nbconvert",
        "python3-sklearn",
    }


def test_of_a_choice_what_apt_has(system):
    forget(system, "installed", "libopenblas-openmp-dev")
    forget(system, "offered", "libopenblas-openmp-dev")
    with open(system / "offered", "a") as offered:
        offered.write("libopenblas-dev\n")
    assert set_up(system, "--build").returncode == 0
    assert installs(system) == ["libopenblas-dev"]
    (system / "asked").unlink()
    assert (
        set_up(system, "--build").stdout == "" and not (system / "asked").exists()
    )  # the other one is no longer wanted


def test_what_this_system_has_not_is_left_out(system):
    """Ubuntu's apt has no chromium-headless-shell."""
    for file in ("installed", "offered"):
        forget(system, file, "chromium-headless-shell")
    assert set_up(system).stdout == "" and not (system / "asked").exists()
    forget(system, "installed", "cmake")
    assert set_up(system).returncode == 0
    assert installs(system) == ["cmake"]


def test_a_user_without_sudo_is_told_what_to_ask_for(system):
    (system / "bin/id").write_text("#!/bin/sh\necho 1000\n")
    forget(system, "installed", "cmake", "python3-six")
    for tool in ("bash", "dirname", "sed", "awk", "sort", "grep", "sh"):
        (system / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        [SETUP], capture_output=True, text=True, env={**os.environ, "PATH": f"{system}/bin"}
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: these packages are missing; as root: apt-get install cmake python3-six\n"
    )


@pytest.mark.parametrize("options", [("--fast",), ("--build", "more"), ("more",)])
def test_unknown_options_are_refused(options, system):
    done = set_up(system, *options)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


# ---- progress.sh

MAKE = (
    'for n in 7 42 100; do echo "[ $n%] Building CXX object a.o"; echo "a.cpp:1: warning: unused"; '
    "done; exit {}"
)


def with_progress(tmp_path, status, **options):
    make = f"bash -c '{MAKE.format(status)}'"
    script = f". {ROOT}/scripts/progress.sh; with_progress Compiling {tmp_path}/log {make}"
    return subprocess.run(["bash", "-c", "set -euo pipefail; " + script], **options)


def test_all_output_is_in_the_log(tmp_path):
    done = with_progress(tmp_path, 0, capture_output=True, text=True)
    assert (
        re.fullmatch(r"Compiling \.\.\.\nCompiling: done, \d+ s\n", done.stdout)
        and done.stderr == ""
    )
    assert (tmp_path / "log").read_text().count("warning: unused") == 3


def test_the_commands_status_is_kept(tmp_path):
    done = with_progress(tmp_path, 3, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "Compiling ...\n")


def test_on_a_terminal_one_line_counts(tmp_path):
    leader, follower = pty.openpty()
    assert with_progress(tmp_path, 0, stdout=follower).returncode == 0
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # the end, on Linux
        pass
    os.close(leader)
    assert re.fullmatch(
        rb"Compiling \.\.\.(\r\x1b\[KCompiling: (7|42|100) %){3}"
        rb"\r\x1b\[KCompiling: done, \d+ s\r\n",
        shown,
    )
