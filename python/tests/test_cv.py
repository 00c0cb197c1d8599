"""A Ctrl-C that comes while OpenCV loads."""
import os
import re
import signal
import subprocess
import sys

import pytest

from conftest import ROOT

STAND_IN = """\
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
try:
    time.sleep(0.1)
except KeyboardInterrupt:   # as OpenCV does
    pass
"""


def load(folder, before="", after=""):
    """Imports active_convolution.cv with the stand-in for OpenCV; (exit status, stdout, stderr)."""
    (folder / "cv2.py").write_text(STAND_IN)
    paths = os.pathsep.join([str(folder), str(ROOT / "python")])
    # Where the tests run in a shell's background, SIGINT is ignored.
    start = "import signal, threading, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{start}\n{before}\nfrom active_convolution.cv import cv2\nprint('went on')\n{after}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": paths})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("before", ["", "threading.Thread(target=time.sleep, args=[1], daemon=True).start()"],
                         ids=["", "beside another thread"])
def test_an_interrupt_comes_after_it(tmp_path, before):
    status, stdout, stderr = load(tmp_path, before)
    assert (status, stdout) == (-signal.SIGINT, "") and stderr.endswith("KeyboardInterrupt\n")


def test_the_handler_is_as_before(tmp_path):
    before = "came = []\ndef handler(*_): came.append(1)\nsignal.signal(signal.SIGINT, handler)"
    after = "print(came, signal.getsignal(signal.SIGINT) is handler)"
    assert load(tmp_path, before, after) == (0, "went on\n[1] True\n", "")


def test_an_ignored_interrupt_stays_ignored(tmp_path):
    assert load(tmp_path, "signal.signal(signal.SIGINT, signal.SIG_IGN)") == (0, "went on\n", "")


def test_another_thread_may_load_it(tmp_path):
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nimport importlib\nsignal.signal(signal.SIGINT, print)"
    code = "thread = threading.Thread(target=importlib.import_module, args=['active_convolution.cv'])"
    status, stdout, stderr = load(tmp_path, f"{before}\n{code}\nthread.start(); thread.join()")
    assert status == 0 and stdout.endswith("went on\n") and stderr == ""


def test_the_package_loads_it_nowhere_else():
    loading = [path.name for path in (ROOT / "python/active_convolution").rglob("*.py")
               if re.search(r"^\s*(import|from) cv2", path.read_text(), re.MULTILINE)]
    assert loading == ["cv.py"]
