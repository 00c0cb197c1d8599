"""What ``acu --version`` says: of us, of Caffe, and of the build."""

from pathlib import Path

from .. import __version__
from ..caffe import locate
from ..errors import UserError

_SAID = {
    "CAFFE_SOURCE_DIR",
    "CPU_ONLY",
    "CUDA_ARCH_BIN",
    "USE_NCCL",
    "BLAS",
    "USE_OPENMP",
    "CMAKE_BUILD_TYPE",
}


def text():
    lines = [f"acu {__version__} (active-convolution)"]
    try:
        caffe = locate.caffe()
    except UserError as error:
        return "\n".join([*lines, f"no Caffe: {error}"])
    pycaffe = Path(caffe.__file__).resolve().parent
    lines.append(f"Caffe {caffe.__version__} with ActiveConvolution, {pycaffe}")
    ours = locate.INSTALLED or (locate.BUILD / "fork").resolve() in pycaffe.parents
    lines.append(built() if ours else "built elsewhere: how is not known here")
    return "\n".join(lines)


def built():
    known = locate.built()
    if not _SAID <= known.keys():
        return "how it was built is not known: ./scripts/build.sh writes that down"
    source = known["CAFFE_SOURCE_DIR"] or "BVLC's Caffe 99bd997"
    return ", ".join(
        [
            f"built from {source} {_device(known)}",
            f"BLAS {known['BLAS']}",
            f"OpenMP {'on' if locate.is_on(known['USE_OPENMP']) else 'off'}",
            f"{known['CMAKE_BUILD_TYPE']}",
        ]
    )


def _device(known):
    if locate.is_on(known["CPU_ONLY"]):
        return "for the CPU"
    nccl = "with" if locate.is_on(known["USE_NCCL"]) else "without"
    return f"for GPUs of compute capability {known['CUDA_ARCH_BIN']} {nccl} NCCL"
