"""What check_wheel.sh tries of an installed wheel: other libraries in the same process, before and
after Caffe; a failed check; the command caffe with a layer in Python; records of JPEG."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["GLOG_minloglevel"] = "2"
PYTHON_LAYER = """
import caffe
class Plus(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data + 1
    def backward(self, top, down, bottom): bottom[0].diff[...] = top[0].diff
"""
NET = """
layer { name: "d" type: "Data" top: "x" top: "label"
  data_param { source: "%s" batch_size: 4 backend: LMDB } }
layer { name: "p" type: "Python" bottom: "x" top: "y"
  python_param { module: "plus" layer: "Plus" } }
layer { name: "a" type: "ActiveConvolution" bottom: "y" top: "a"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "a" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
CAFFE_FIRST = "import caffe; caffe.Net({net!r}, caffe.TRAIN).forward(); "
OTHERS_WORK = (
    "import cv2, numpy, onnx; "
    "assert cv2.imencode('.jpg', numpy.zeros((9, 9, 3), 'u1'))[0]; "
    "onnx.checker.check_node(onnx.helper.make_node('Relu', ['x'], ['y'])); "
)
FAILED_CHECK = """
import caffe
try:
    caffe.Net({wrong!r}, caffe.TRAIN)
except caffe.Error as error:
    assert "Unknown bottom blob 'z'" in str(error)
caffe.Net({net!r}, caffe.TRAIN).forward()
"""


def write_jpegs(folder):
    """An LMDB of eight JPEG files, half of them black and half of them white."""
    import cv2
    import lmdb
    import numpy as np
    from caffe.proto import caffe_pb2

    with lmdb.open(str(folder), map_size=1 << 20).begin(write=True) as transaction:
        for n in range(8):
            _, jpeg = cv2.imencode(".jpg", np.full((8, 8, 3), 255 * (n % 2), np.uint8))
            datum = caffe_pb2.Datum(encoded=True, data=jpeg.tobytes(), label=n % 2)
            transaction.put(b"%08d" % n, datum.SerializeToString())


def python(code, folder):
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def main():
    folder = Path(tempfile.mkdtemp())
    write_jpegs(folder / "lmdb")
    (folder / "plus.py").write_text(PYTHON_LAYER)
    net, wrong, solver = (str(folder / name) for name in ("net", "wrong", "solver"))
    Path(net).write_text(NET % (folder / "lmdb"))
    Path(wrong).write_text(NET.replace('bottom: "y"', 'bottom: "z"') % (folder / "lmdb"))
    Path(solver).write_text(
        f'net: "{net}" base_lr: 0.001 lr_policy: "fixed" max_iter: 20 snapshot_prefix: "{folder}/s"'
    )
    python(CAFFE_FIRST.format(net=net) + OTHERS_WORK, folder)
    python(OTHERS_WORK + CAFFE_FIRST.format(net=net), folder)
    python(FAILED_CHECK.format(net=net, wrong=wrong), folder)
    caffe = Path(sys.executable).with_name("caffe")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([caffe, "train", "--solver", solver], env=environment, cwd=folder, check=True)
    assert (folder / "s_iter_20.caffemodel").exists()
    Path(solver).write_text(Path(solver).read_text().replace(net, wrong))
    done = subprocess.run([caffe, "train", "--solver", solver], env=environment, cwd=folder)
    assert done.returncode == 1
    print("tried: other libraries, a failed check, caffe train with a layer in Python and JPEG")


if __name__ == "__main__":
    main()
