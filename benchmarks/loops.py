"""Which loops Caffe's own CPU layers run: ours (fast_layers.hpp), or Caffe's."""

import contextlib
import ctypes

from active_convolution.caffe import locate


def ours_are_built():
    """Whether the fork has ours at all; see FAST_CPU_LAYERS in CMakeLists.txt."""
    return _switch() is not None


@contextlib.contextmanager
def of_caffe(wanted=True):
    """Inside ``with``, Caffe's own, if that is ``wanted``. Both passes of a layer must run the same
    ones."""
    switch = _switch() if wanted else None
    if switch is None:
        yield
        return
    before, switch.value = switch.value, False
    try:
        yield
    finally:
        switch.value = before


def _switch():
    """The bool behind caffe::UseFastLayers()."""
    locate.caffe()  # has loaded the library
    function = getattr(
        ctypes.CDLL(str(locate.BUILD / "out/lib/libcaffe.so")), "_ZN5caffe13UseFastLayersEv", None
    )
    if function is None:
        return None
    function.restype = ctypes.POINTER(ctypes.c_bool)
    return function().contents
