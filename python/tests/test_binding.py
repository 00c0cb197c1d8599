"""pycaffe by ctypes (fork/binding): the numbers of Boost.Python's, and errors across the border."""

import gc
import json
import os
import re
import subprocess
import sys
import threading
import time
import timeit
import traceback
from pathlib import Path

import numpy as np
import pytest
from active_convolution.caffe import locate
from conftest import ROOT

# Norms of all parameters and gradients after three steps, by the same Caffe and Boost.Python.
GOLDEN = Path(__file__).with_name("binding_golden.json")

NET = """
layer { name: "d" type: "DummyData" top: "x" top: "label"
  dummy_data_param { shape { dim: 8 dim: 3 dim: 12 dim: 12 } shape { dim: 8 }
    data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "a" type: "ActiveConvolution" bottom: "x" top: "a"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "a" top: "bn" }
layer { name: "c" type: "Convolution" bottom: "bn" top: "c"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVERS = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9",
    "Adam": "momentum: 0.9",
}
PYTHON_NET = """
force_backward: true
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 3 } } }
layer { name: "p" type: "Python" bottom: "x" top: "y"
  python_param { module: "layers_of_tests" layer: "%s" } }
"""


@pytest.fixture(scope="module")
def caffe():
    return locate.caffe()


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return str(path)


@pytest.fixture
def solver_file(tmp_path, net_file):
    def write(kind):
        path = tmp_path / f"{kind}.prototxt"
        path.write_text(
            f'net: "{net_file}" base_lr: 0.01 lr_policy: "fixed" max_iter: 9 random_seed: 5 '
            f'type: "{kind}" snapshot_prefix: "{tmp_path}/{kind}" {SOLVERS[kind]}'
        )
        return str(path)

    return write


# ---- The same numbers


def norms_after_three_steps(caffe, file):
    solver = caffe.get_solver(file)
    solver.step(3)
    return [
        float(np.linalg.norm(array))
        for blobs in solver.net.params.values()
        for blob in blobs
        for array in (blob.data, blob.diff)
    ]


@pytest.mark.parametrize("kind", SOLVERS)
def test_parameters_and_gradients_are_those_of_boosts(kind, caffe, solver_file):
    golden = json.loads(GOLDEN.read_text())[kind]
    found = norms_after_three_steps(caffe, solver_file(kind))
    assert len(found) == len(golden) > 20
    if kind in ("AdaGrad", "RMSProp", "Adam"):  # these take whole steps along a gradient of nothing
        # but rounding errors: a bias that BatchNorm subtracts again; and so the mean that it keeps.
        found, golden = (np.delete(norms, [2, 3, 8]) for norms in (found, golden))
    np.testing.assert_allclose(found, golden, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(locate.INSTALLED, reason="a wheel has not got Caffe's tests")
def test_caffes_own_tests_of_pycaffe_pass():
    folder = Path(locate.caffe().__file__).parent / "test"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            ".",
            "--ignore=test_draw.py",
        ],
        cwd=folder,  # but test_draw, which needs pydot
        env={**os.environ, "PYTHONPATH": str(folder.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 45


def test_every_function_of_the_c_interface_is_declared(caffe):
    header = (ROOT / "include/caffe/c_api.h").read_text()
    offered = set(re.findall(r"^CAFFE_API .*?\bcaffe_(\w+)\(", header, re.MULTILINE))
    library = (ROOT / "fork/binding/caffe/_library.py").read_text()
    declared = {
        name for names in re.findall(r'_declare\(\s*"([\w ]+)"', library) for name in names.split()
    }
    assert len(offered) > 60 and offered == declared | {"blob_look"}


# ---- Arrays


def test_an_array_is_the_blobs_memory_and_outlives_the_net(caffe, net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    weights = net.params["c"][0]
    weights.data[...] = 3
    assert (net.params["c"][0].data == 3).all() and weights.data.dtype == np.float32
    array = weights.data
    del net, weights
    gc.collect()
    assert array.sum() == 3 * array.size


def test_an_array_follows_its_blob(caffe, net_file):
    blob = caffe.Net(net_file, caffe.TRAIN).blobs["x"]
    assert blob.data.shape == (8, 3, 12, 12)
    blob.reshape(2, 300)
    assert blob.data.shape == (2, 300) and blob.diff.shape == (2, 300)
    blob.reshape(0, 4)
    assert blob.data.shape == (0, 4)
    blob.reshape()
    assert blob.data.shape == () and blob.count == 1
    with pytest.raises(AttributeError):
        blob.data = 1


def test_a_look_at_an_array_takes_no_time(caffe, net_file):
    blob = caffe.Net(net_file, caffe.TRAIN).blobs["x"]
    assert min(timeit.repeat(lambda: blob.data, number=2000, repeat=20)) / 2000 < 1.5e-6


# ---- Errors across the border


@pytest.fixture
def python_net(tmp_path, monkeypatch):
    """A net of one layer of the class named, in Python."""
    (tmp_path / "layers_of_tests.py").write_text(
        "import caffe\n"
        "class Fine(caffe.Layer):\n"
        "    def setup(self, bottom, top): self.blobs.add_blob(2)\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = bottom[0].data + 1\n"
        "    def backward(self, top, down, bottom): pass\n"
        "class InSetup(Fine):\n"
        "    def setup(self, bottom, top): raise KeyError('in setup')\n"
        "class InBackward(Fine):\n"
        "    def backward(self, top, down, bottom): raise KeyError('in backward')\n"
        "class Other: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "layers_of_tests", raising=False)

    def write(name):
        path = tmp_path / "python.prototxt"
        path.write_text(PYTHON_NET % name)
        return str(path)

    return write


def test_a_layer_that_raises_in_setup(caffe, python_net):
    with pytest.raises(KeyError, match="in setup") as caught:
        caffe.Net(python_net("InSetup"), caffe.TRAIN)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].filename.endswith(
        "layers_of_tests.py"
    )


def test_a_layer_that_raises_in_backward(caffe, python_net):
    net = caffe.Net(python_net("InBackward"), caffe.TRAIN)
    for _ in range(2):
        net.forward()
        assert (net.blobs["y"].data == 1).all()
        with pytest.raises(KeyError, match="in backward") as caught:
            net.backward()
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "backward"


def test_a_callback_that_raises(caffe, net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    seen = []
    net.before_forward(seen.append)
    net.after_forward(lambda layer: layer == 2 and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net.forward()
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("name, error", [("Missing", AttributeError), ("Other", TypeError)])
def test_a_class_that_is_no_layer(name, error, caffe, python_net):
    with pytest.raises(error, match=name):
        caffe.Net(python_net(name), caffe.TRAIN)


def test_a_layer_whose_net_is_gone_says_so(caffe, python_net):
    net = caffe.Net(python_net("Fine"), caffe.TRAIN)
    layer = net.layers[1]
    assert type(layer).__name__ == "Fine" and len(layer.blobs) == 1
    del net
    gc.collect()
    with pytest.raises(RuntimeError, match="no more"):
        len(layer.blobs)


def test_the_command_caffe_runs_a_layer_in_python(python_net, tmp_path):
    programs = Path(sys.executable).parent if locate.INSTALLED else locate.BUILD / "out/tools"
    done = subprocess.run(
        [
            programs / "caffe",
            "time",
            "--model",
            python_net("Fine"),
            "--iterations",
            "2",
        ],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path}:{Path(locate.caffe().__file__).parents[1]}",
            "GLOG_minloglevel": "0",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Average Forward pass" in done.stderr


FAILED_CHECK = """
import sys, caffe
for file in sys.argv[1:]:
    try:
        print(type(caffe.Net(file, caffe.TRAIN)).__name__)
    except caffe.Error as error:
        print("raised", error)
"""


def test_a_failed_check(caffe, net_file, tmp_path):
    """Raises where glog's fatal message may throw, and the next call works; else it ends us."""
    wrong = tmp_path / "wrong.prototxt"
    wrong.write_text(NET.replace('bottom: "bn"', 'bottom: "bm"'))
    done = subprocess.run(
        [sys.executable, "-c", FAILED_CHECK, wrong, net_file],
        env={**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    if caffe._caffe.lib.caffe_checks_are_errors():
        assert done.returncode == 0
        raised, made = done.stdout.splitlines()
        assert raised.startswith("raised") and "Unknown bottom blob 'bm'" in raised
        assert made == "Net"
    else:
        assert done.returncode < 0 and "Unknown bottom blob 'bm'" in done.stderr


# ---- Threads, many nets, forks


def losses(caffe, file, count):
    caffe.set_random_seed(3)  # a thread's own
    net = caffe.Net(file, caffe.TRAIN)
    return [float(net.forward()["loss"]) for _ in range(count)]


def test_threads_compute_side_by_side(caffe, net_file):
    alone = losses(caffe, net_file, 10)
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: losses(caffe, net_file, 10)}))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [alone] * 3


def test_python_goes_on_while_caffe_computes(caffe, net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    net.blobs["x"].reshape(256, 3, 12, 12)
    net.blobs["label"].reshape(256)
    done = threading.Event()
    ticks = []

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    before = time.monotonic()
    solver_steps(net, 20)
    after = time.monotonic()
    done.set()
    thread.join()
    assert sum(before < at < after for at in ticks) > 5


def solver_steps(net, count):
    for _ in range(count):
        net._forward(1, len(net.layers) - 1)


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_thousand_nets_leave_nothing(caffe, net_file, python_net):
    files = net_file, python_net("Fine")

    def use(count):
        for n in range(count):
            net = caffe.Net(files[n % 2], caffe.TRAIN)
            net.forward()
            [blob.data.sum() for blobs in net.params.values() for blob in blobs]

    use(100)
    gc.collect()
    before = resident_mb()
    gc.disable()  # nothing waits for it
    try:
        use(1000)
    finally:
        gc.enable()
    assert resident_mb() - before < 4


FORKS = """
import os, sys, caffe
net = caffe.Net(sys.argv[1], caffe.TRAIN)
caffe.set_random_seed(1)
child = os.fork()
loss = float(net.forward()["loss"])
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or loss == 0)
"""


def test_a_fork_computes(caffe, net_file):
    done = subprocess.run(
        [sys.executable, "-c", FORKS, net_file],
        env={**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1])},
        timeout=120,
    )
    assert done.returncode == 0


if __name__ == "__main__":  # writes the golden numbers, with the pycaffe in use
    import tempfile

    folder = Path(tempfile.mkdtemp())
    (folder / "net.prototxt").write_text(NET)
    golden = {}
    for kind, rule in SOLVERS.items():
        (folder / "solver").write_text(
            f'net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 9 '
            f'random_seed: 5 type: "{kind}" snapshot_prefix: "{folder}/s" {rule}'
        )
        golden[kind] = norms_after_three_steps(locate.caffe(), str(folder / "solver"))
    GOLDEN.write_text(json.dumps(golden, indent=0) + "\n")
