"""Caffe's program inside Python, whose layers it can run: python3 -m caffe train --solver ..."""

import ctypes
import os
import signal
import sys

from . import _caffe


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    apart = os.path.join(folder, "libcaffe_program.so")  # in a wheel it is in the library
    program = (
        ctypes.CDLL(apart).caffe_program if os.path.exists(apart) else _caffe.lib.caffe_program
    )
    # Python's own handler would wait until Caffe is done.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    words = [os.fsencode(word) for word in ("caffe", *sys.argv[1:])]
    try:
        return _caffe.run_main(program, words)
    except _caffe.Error:
        return 1  # glog has said why


if __name__ == "__main__":
    sys.exit(main())
