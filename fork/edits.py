"""Every change that the fork makes to Caffe's own files, at named anchors.

An anchor is a regular expression that must match exactly once. Where ``done`` already matches, the tree has the change
(a fork that was assembled before, or a newer Caffe) and is left as it is. ``required=False`` is for what only some trees
need: a tree without the anchor needs no mending.
"""
import re
from dataclasses import dataclass

import fast_layers

MESSAGES = '''
// Parameters of ActiveConvolution, beside convolution_param; see layers/active_convolution_layer.hpp.
message ActiveConvolutionParameter {
  // A synapse's place relative to the base pixel, in pixels; x to the right, y downwards.
  message Position {
    optional float x = 1 [default = 0];
    optional float y = 2 [default = 0];
  }
  optional uint32 warmup_iter = 1 [default = 0];  // solver iterations with frozen positions
  optional bool normalize_gradient = 2 [default = true];  // unit length per synapse (eq. 15 and 16)
  optional float position_lr_mult = 3 [default = 0.01];  // lr_mult of both position blobs
  optional uint32 position_group = 4 [default = 1];  // sets of positions
  optional bool fix_origin = 5 [default = true];  // a synapse that starts at (0, 0) never moves
  repeated Position position = 6;  // an explicit starting shape; default: the kernel's grid
}

// Parameters of AConvFast, the layer type of the paper's published code; see layers/aconv_fast_layer.hpp.
message AConvParameter {
  enum FilterType {
    SQUARE = 0;
    CIRCLE = 1;
    RANDOM = 2;
  }
  optional FilterType type = 1 [default = SQUARE];
  optional int32 pad = 2 [default = 0];
  optional int32 pad_h = 3 [default = 0];
  optional int32 pad_w = 4 [default = 0];
  optional float base_radius = 5 [default = 1];
  optional float base_angle = 6 [default = 0];  // radians
  optional float pos_filler_std = 7 [default = 0.05];  // of base_radius; negative: whole pixels, no noise
  optional bool normalize = 8 [default = false];
  optional uint32 position_group = 9 [default = 1];
}
'''

# The arXiv number of the paper: far above the layer-specific IDs of known forks.
FIELDS = '''
  optional ActiveConvolutionParameter active_convolution_param = 170309076;
  optional AConvParameter aconv_param = 170309077;
'''

LAYER_HOOK = '''
  /**
   * @brief Lets the layer adjust its finished parameter gradients; the solver
   *        calls it once per iteration, right before it applies the update.
   *
   * By then the gradients of all iter_size passes are summed, and reduced over
   * the GPUs. ApplyUpdate still divides them by iter_size.
   */
  virtual void BeforeUpdate(int iter, int iter_size) {}
'''

SOLVER_CALL = '''
    for (int i = 0; i < net_->layers().size(); ++i) {
      net_->layers()[i]->BeforeUpdate(iter_, param_.iter_size());
    }
'''


class AnchorError(Exception):
    """An anchor is missing or ambiguous: this Caffe differs from every one that the fork knows."""


@dataclass(frozen=True)
class Edit:
    """One replacement. ``name`` is what an error calls it; ``new`` may refer to groups of ``anchor``."""
    name: str
    file: str
    anchor: str
    new: str
    done: str
    required: bool = True
    everywhere: bool = False

    def apply(self, text):
        """Returns the edited text of ``file``, or raises AnchorError."""
        if self.done and re.search(self.done, text):
            return text
        found = len(re.findall(self.anchor, text, re.MULTILINE))
        if found == 0 and not self.required:
            return text
        if found != 1 and not self.everywhere:
            raise AnchorError(f"{self.file}: the anchor of '{self.name}' matches {found} times, not once: /{self.anchor}/")
        return re.sub(self.anchor, self.new, text, flags=re.MULTILINE)


def _literal(text):
    return text.replace("\\", r"\\")


OURS = [
    Edit("messages of the layer", "src/caffe/proto/caffe.proto",
         anchor=r"\Z", new=_literal(MESSAGES), done=r"message ActiveConvolutionParameter"),
    Edit("fields of LayerParameter", "src/caffe/proto/caffe.proto",
         anchor=r"(?<=^message LayerParameter \{$)", new=_literal(FIELDS.rstrip("\n")), done=r"active_convolution_param ="),
    Edit("hook in Layer", "include/caffe/layer.hpp",
         anchor=r"(?<=^  const LayerParameter& layer_param\(\) const \{ return layer_param_; \}$)\n",
         new=_literal("\n" + LAYER_HOOK), done=r"virtual void BeforeUpdate\("),
    Edit("call of the hook in Solver::Step", "src/caffe/solver.cpp",
         anchor=r"(callbacks_\[i\]->on_gradients_ready\(\);\n    \})\n(?=    ApplyUpdate\(\);)",
         new=r"\1" + _literal(SOLVER_CALL), done=r"->BeforeUpdate\("),
]

# HDF5 takes "/" for a path, so that Caffe can neither save nor find a layer such as conv1/1 in an HDF5 snapshot.
HDF5 = [
    Edit("HDF5 snapshots: layers with / in their names are saved", "src/caffe/net.cpp",
         anchor=r"^(    string layer_name = layer_param\.name\(\);\n)(?=    hid_t layer_data_hid)",
         new=r"\1    std::replace(layer_name.begin(), layer_name.end(), '/', '\\\\');\n",
         done=r"layer_name\.end\(\), '/'", required=False),
    Edit("HDF5 snapshots: layers with / in their names are found", "src/caffe/net.cpp",
         anchor=r"^(    string source_layer_name = )(hdf5_get_name_by_idx\(data_hid, i\);\n)",
         new=r"    const string group_name = \2\1group_name;\n    if (!layer_names_index_.count(group_name)) {\n"
             r"      std::replace(source_layer_name.begin(), source_layer_name.end(), '\\\\', '/');\n    }\n",
         done=r"string group_name = ", required=False),
    Edit("HDF5 snapshots: layers with / in their names are opened", "src/caffe/net.cpp",
         anchor=r"H5Gopen2\(data_hid, source_layer_name\.c_str\(\)", new="H5Gopen2(data_hid, group_name.c_str()",
         done=r"data_hid, group_name", required=False),
    Edit("HDF5 snapshots: a blob of wrong shape is named", "src/caffe/util/hdf5.cpp",
         anchor=r"^( *)(string source_shape_string = stream\.str\(\);\n(?:.*\n){1,4}?"
                r".* target shape is \" << blob->shape_string\(\))",
         new=r'\1char layer[256] = "";\n\1H5Iget_name(file_id, layer, sizeof(layer));\n'
             r'\1\2 << "; it is blob " << dataset_name_ << " of " << layer',
         done=r"H5Iget_name", required=False),
]

TOOLCHAIN = [
    Edit("protobuf >= 3.11: SetTotalBytesLimit lost its second argument", "src/caffe/util/io.cpp",
         anchor=r"SetTotalBytesLimit\((\w+), *\w+\)", new=r"SetTotalBytesLimit(\1)", done="", required=False),
    Edit("CUDA 13: clockRate is gone", "src/caffe/common.cpp",
         anchor=r"^( *LOG\(INFO\) << \"Clock rate: +\" << prop\.clockRate;\n)",
         new="#if CUDART_VERSION < 13000\n\\1#endif\n", done=r"CUDART_VERSION < 13000\n.*Clock", required=False),
    Edit("CUDA 13: deviceOverlap is gone", "src/caffe/common.cpp",
         anchor=r"prop\.deviceOverlap", new="prop.asyncEngineCount > 0", done="", required=False),
    Edit("CUDA 13: kernelExecTimeoutEnabled is gone", "src/caffe/common.cpp",
         anchor=r"^( *LOG\(INFO\) << \"Kernel execution timeout: [^;]*;\n)",
         new="#if CUDART_VERSION < 13000\n\\1#endif\n", done=r"CUDART_VERSION < 13000\n.*Kernel", required=False),
    # Python 3 got it only up to its first zero byte, which since NCCL 2 comes early.
    Edit("pycaffe's name of an NCCL session", "python/caffe/_caffe.cpp",
         anchor=r"PyBytes_FromString\(uid\.c_str\(\)\)", new="PyBytes_FromStringAndSize(uid.data(), uid.size())", done="",
         required=False),
    Edit("Boost >= 1.67: names of the Python component", "cmake/Dependencies.cmake",
         anchor=r"python-py\$\{boost_py_version\}", new="python${boost_py_version}", done="",
         required=False, everywhere=True),
    Edit("Boost >= 1.67: result of the Python component", "cmake/Dependencies.cmake",
         anchor=r"Boost_PYTHON-PY\$\{boost_py_version\}_FOUND", new="Boost_PYTHON${boost_py_version}_FOUND", done="",
         required=False, everywhere=True),
] + [
    Edit("OpenCV 4: CV_LOAD_IMAGE_* became cv::IMREAD_*", file,
         anchor=r"\bCV_LOAD_IMAGE_(COLOR|GRAYSCALE)\b", new=r"cv::IMREAD_\1", done="", required=False, everywhere=True)
    for file in ("src/caffe/util/io.cpp", "src/caffe/layers/window_data_layer.cpp", "src/caffe/test/test_io.cpp")
]

# A thread of Caffe's asks for the GPU even to work for the CPU: without a driver, a GPU build could not read data.
CPU_MODE = [
    Edit("threads that work for the CPU: started without a GPU", "src/caffe/internal_thread.cpp",
         anchor=r"^  (CUDA_CHECK\(cudaGetDevice\(&device\)\);)", new=r"  if (Caffe::mode() == Caffe::GPU) { \1 }",
         done=r"\{ CUDA_CHECK\(cudaGetDevice", required=False),
    Edit("threads that work for the CPU: running without a GPU", "src/caffe/internal_thread.cpp",
         anchor=r"^  (CUDA_CHECK\(cudaSetDevice\(device\)\);)", new=r"  if (mode == Caffe::GPU) { \1 }",
         done=r"\{ CUDA_CHECK\(cudaSetDevice", required=False),
]

# Left out by assemble.py --no-fast-layers.
FAST_LAYERS = fast_layers.edits(Edit)

EDITS = OURS + HDF5 + TOOLCHAIN + CPU_MODE + FAST_LAYERS
