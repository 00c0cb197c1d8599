"""Every change that the fork makes to Caffe's own files, at named anchors.

An anchor is a regular expression that must match exactly once. Where ``done`` already matches, the
tree has the change (a fork that was assembled before, or a newer Caffe) and is left as it is.
``required=False`` is for what only some trees need: a tree without the anchor needs no mending, and
the report of an assembly names it. Edits that only make sense ``together`` are made all or none, in
whichever files they are."""

import re
from dataclasses import dataclass

import fast_layers

MESSAGES = """
// Parameters of ActiveConvolution, beside convolution_param; see its header.
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
  optional float position_limit = 7 [default = 0];  // |x| and |y| at most so many pixels; 0: none
}

// Parameters of AConvFast, the layer type of the paper's published code; see its header.
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
  optional float pos_filler_std = 7 [default = 0.05];  // of base_radius; negative: integers
  optional bool normalize = 8 [default = false];
  optional uint32 position_group = 9 [default = 1];
}
"""

# The arXiv number of the paper: far above the layer-specific IDs of known forks.
FIELDS = """
  optional ActiveConvolutionParameter active_convolution_param = 170309076;
  optional AConvParameter aconv_param = 170309077;
"""

LAYER_HOOKS = """
  /**
   * @brief Lets the layer take from the finished parameter gradients what the
   *        clipping must not see. By then those of all iter_size passes are
   *        summed, and reduced over the GPUs.
   */
  virtual void BeforeClipping(int iter) {}

  /**
   * @brief Lets the layer bring back what it took. The solver still divides
   *        every gradient by iter_size, and multiplies it by its rate; an
   *        adaptive one has a rule of its own instead of momentum.
   */
  virtual void AfterClipping(int iter_size, bool adaptive, Dtype rate) {}

  /**
   * @brief Lets the layer mend its parameters after the solver changed them.
   */
  virtual void AfterUpdate() {}

  /**
   * @brief Tells the layer that one of its blobs will be a blob of `owner`,
   *        before the net compares what both layers say about it.
   */
  virtual void ParamShared(int param_id, const Layer& owner,
      int owner_param_id) {}
"""

CLIPPING = """
  const string solver_type = this->type();
  const bool adaptive = solver_type != "SGD" && solver_type != "Nesterov";
  for (int i = 0; i < this->net_->layers().size(); ++i) {
    this->net_->layers()[i]->BeforeClipping(this->iter_);
  }
  ClipGradients();
  const Dtype adaptive_rate = adaptive ? GetLearningRate() : Dtype(0);
  for (int i = 0; i < this->net_->layers().size(); ++i) {
    this->net_->layers()[i]->AfterClipping(this->param_.iter_size(), adaptive,
        adaptive_rate);
  }
"""

UPDATED = """
  for (int i = 0; i < this->net_->layers().size(); ++i) {
    this->net_->layers()[i]->AfterUpdate();
  }
"""

SHARING = """
    layers_[layer_id]->ParamShared(param_id, *layers_[owner_layer_id],
        owner_param_id);
"""


CONTINUE_TRANSFORMER = """
  /**
   * @brief Brings the random numbers to where they stand after so many
   *        images, each of which takes one for the mirror and two for the crop.
   */
  void ContinueAt(uint64_t images);
"""

CONTINUE_TRANSFORMER_CPP = """
template <typename Dtype>
void DataTransformer<Dtype>::ContinueAt(uint64_t images) {
  if (rng_) {
    rng_.reset(new Caffe::RNG(rng_seed_));
    const bool crops = phase_ == TRAIN && param_.crop_size();
    static_cast<caffe::rng_t*>(rng_->generator())->discard(
        images * (param_.mirror() + 2 * crops));
  }
}

"""

CONTINUE_BASE = """
  /**
   * @brief Lets the layer give next what it gives after so many forward
   *        passes since it was made: the training goes on from a snapshot.
   *        A layer without this begins anew.
   */
  virtual void ContinueAt(uint64_t passes) {}
#define CAFFE_DATA_CONTINUES  // for c_api_nets.cpp
"""

CONTINUE_DATA_CPP = """
template <typename Dtype>
void DataLayer<Dtype>::ContinueAt(uint64_t passes) {
  this->StopInternalThread();
  Batch<Dtype>* batch = NULL;
  if (this->prefetch_current_) {
    this->prefetch_free_.push(this->prefetch_current_);
  }
  while (this->prefetch_full_.try_pop(&batch)) {
    this->prefetch_free_.push(batch);
  }
  this->prefetch_current_ = NULL;

  // Of all ranks' images, each rank keeps its own.
  const int ranks = this->phase_ == TEST ? 1 : Caffe::solver_count();
  const uint64_t images = passes * this->layer_param_.data_param().batch_size();
  this->data_transformer_->ContinueAt(images);
  offset_ = images * ranks;
  cursor_->SeekToFirst();
  uint64_t walked = 0;
  for (uint64_t left = offset_; left > 0; --left) {
    cursor_->Next();
    ++walked;
    if (!cursor_->valid()) {
      cursor_->SeekToFirst();
      left = (left - 1) % walked + 1;  // whole rounds lead nowhere
    }
  }
  this->StartInternalThread();
}

"""

CONTINUE_SOLVER = """
  for (int i = 0; i < net_->layers().size(); ++i) {
    BaseDataLayer<Dtype>* data =
        dynamic_cast<BaseDataLayer<Dtype>*>(net_->layers()[i].get());
    if (data) {
      data->ContinueAt(uint64_t(iter_) * param_.iter_size());
    }
  }
"""


class AnchorError(Exception):
    """An anchor is missing or ambiguous: this Caffe differs from every one that the fork knows."""


@dataclass(frozen=True)
class Edit:
    """One replacement. ``name`` is what an error calls it; ``new`` may refer to groups of
    ``anchor``."""

    name: str
    file: str
    anchor: str
    new: str
    done: str
    required: bool = True
    everywhere: bool = False
    together: str = ""

    def is_done(self, text):
        """Whether ``text`` has the change."""
        left = self.everywhere and re.search(self.anchor, text, re.MULTILINE)
        return bool(self.done and re.search(self.done, text) and not left)

    def has_anchor(self, text):
        """Whether the edit can be made in ``text``; raises AnchorError where it must be made and
        cannot."""
        found = len(re.findall(self.anchor, text, re.MULTILINE))
        if found == 0 and not self.required:
            return False
        if found != 1 and not self.everywhere:
            raise AnchorError(
                f"{self.file}: the anchor of '{self.name}' matches {found} times, not once: "
                f"/{self.anchor}/"
            )
        return True

    def apply(self, text):
        """Returns the edited text of ``file``, or raises AnchorError."""
        if self.is_done(text) or not self.has_anchor(text):
            return text
        return re.sub(self.anchor, self.new, text, flags=re.MULTILINE)


def groups_without_anchor(text, edits):
    """The ``together`` of those of ``edits``, of one file, that find no anchor in ``text`` (None:
    there is no such file)."""
    return {
        edit.together
        for edit in edits
        if text is None or not edit.is_done(text) and not edit.has_anchor(text)
    } - {""}


def edited(text, edits, broken=()):
    """Returns (``text`` after all of ``edits``, those of one file; [the optional ones that found no
    anchor]). Those are left out, too, that are ``together`` with one of these or in one of the
    ``broken`` groups."""
    without = [edit for edit in edits if not edit.is_done(text) and not edit.has_anchor(text)]
    broken = {edit.together for edit in without} - {""} | set(broken)
    left = [edit for edit in edits if edit in without or edit.together in broken]
    for edit in edits:
        if edit not in left:
            text = edit.apply(text)
    return text, left


def _literal(text):
    return text.replace("\\", r"\\")


OURS = [
    Edit(
        "messages of the layer",
        "src/caffe/proto/caffe.proto",
        anchor=r"\Z",
        new=_literal(MESSAGES),
        done=r"message ActiveConvolutionParameter",
    ),
    Edit(
        "fields of LayerParameter",
        "src/caffe/proto/caffe.proto",
        anchor=r"(?<=^message LayerParameter \{$)",
        new=_literal(FIELDS.rstrip("\n")),
        done=r"active_convolution_param =",
    ),
    Edit(
        "hooks in Layer",
        "include/caffe/layer.hpp",
        anchor=r"(?<=^  const LayerParameter& layer_param\(\) const \{ return layer_param_; \}$)\n",
        new=_literal("\n" + LAYER_HOOKS),
        done=r"virtual void BeforeClipping\(",
    ),
    Edit(
        "calls around the clipping, which every update passes",
        "src/caffe/solvers/sgd_solver.cpp",
        anchor=r"^  ClipGradients\(\);\n",
        new=_literal(CLIPPING.lstrip("\n")),
        done=r"->BeforeClipping\(",
    ),
    Edit(
        "our kernels are compiled by themselves, not in a batch with other files",
        "src/caffe/CMakeLists.txt",
        anchor=r"^(?=add_library\(caffe \$\{srcs\}\)$)",
        new="file(GLOB our_kernels util/active_*.cpp util/fast_*.cpp)\n"
        "set_source_files_properties(${our_kernels} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)\n",
        done=r"our_kernels",
        required=False,
    ),
    Edit(
        "call after every update",
        "src/caffe/solvers/sgd_solver.cpp",
        anchor=r"(?<=^  this->net_->Update\(\);$)\n",
        new=_literal(UPDATED),
        done=r"->AfterUpdate\(",
    ),
    Edit(
        "call where layers share a blob",
        "src/caffe/net.cpp",
        anchor=r"^(?=    const int learnable_param_id = "
        r"learnable_param_ids_\[owner_net_param_id\];)",
        new=_literal(SHARING.lstrip("\n")),
        done=r"->ParamShared\(",
    ),
]

# HDF5 takes "/" for a path, so that Caffe can neither save nor find a layer such as conv1/1 in an
# HDF5 snapshot.
HDF5 = [
    Edit(
        "HDF5 snapshots: layers with / in their names are saved",
        "src/caffe/net.cpp",
        anchor=r"^(    string layer_name = layer_param\.name\(\);\n)(?=    hid_t layer_data_hid)",
        new=r"\1    std::replace(layer_name.begin(), layer_name.end(), '/', '\\\\');\n",
        done=r"layer_name\.end\(\), '/'",
        required=False,
        together="HDF5",
    ),
    Edit(
        "HDF5 snapshots: layers with / in their names are found",
        "src/caffe/net.cpp",
        anchor=r"^(    string source_layer_name = )(hdf5_get_name_by_idx\(data_hid, i\);\n)",
        new=r"    const string group_name = \2\1group_name;\n"
        r"    if (!layer_names_index_.count(group_name)) {\n"
        r"      std::replace(source_layer_name.begin(), source_layer_name.end(), '\\\\',\n"
        r"          '/');\n    }\n",
        done=r"string group_name = ",
        required=False,
        together="HDF5",
    ),
    Edit(
        "HDF5 snapshots: layers with / in their names are opened",
        "src/caffe/net.cpp",
        anchor=r"H5Gopen2\(data_hid, source_layer_name\.c_str\(\)",
        new="H5Gopen2(data_hid, group_name.c_str()",
        done=r"data_hid, group_name",
        required=False,
        together="HDF5",
    ),
    Edit(
        "HDF5 snapshots: a blob of wrong shape is named",
        "src/caffe/util/hdf5.cpp",
        anchor=r"^( *)(string source_shape_string = stream\.str\(\);\n(?:.*\n){1,4}?"
        r".* target shape is \" << blob->shape_string\(\))",
        new=r'\1char layer[256] = "";\n\1H5Iget_name(file_id, layer, sizeof(layer));\n'
        r'\1\2 << "; it is blob " << dataset_name_ << " of " << layer',
        done=r"H5Iget_name",
        required=False,
    ),
]

TOOLCHAIN = (
    [
        Edit(
            "protobuf >= 3.11: SetTotalBytesLimit lost its second argument",
            "src/caffe/util/io.cpp",
            anchor=r"SetTotalBytesLimit\((\w+), *\w+\)",
            new=r"SetTotalBytesLimit(\1)",
            done=r"SetTotalBytesLimit\(\w+\)",
            required=False,
        ),
        Edit(
            "an empty blob, by which trees of before 1.0 may divide",
            "src/caffe/blob.cpp",
            anchor=r"INT_MAX / count_\)",
            new="INT_MAX / (count_ ? count_ : 1))",
            done=r"count_ != 0|count_ \? count_",
            required=False,
        ),
        Edit(
            "examples are not built",
            "CMakeLists.txt",
            anchor=r"^add_subdirectory\(examples\)$",
            new="# Examples are not built.",
            done=r"# Examples are not built",
            required=False,
        ),
        Edit(
            "CUDA 13: clockRate is gone",
            "src/caffe/common.cpp",
            anchor=r"^( *LOG\(INFO\) << \"Clock rate: +\" << prop\.clockRate;\n)",
            new="#if CUDART_VERSION < 13000\n\\1#endif\n",
            done=r"CUDART_VERSION < 13000\n.*Clock",
            required=False,
        ),
        Edit(
            "CUDA 13: deviceOverlap is gone",
            "src/caffe/common.cpp",
            anchor=r"prop\.deviceOverlap",
            new="prop.asyncEngineCount > 0",
            done=r"prop\.asyncEngineCount > 0",
            required=False,
        ),
        Edit(
            "CUDA 13: kernelExecTimeoutEnabled is gone",
            "src/caffe/common.cpp",
            anchor=r"^( *LOG\(INFO\) << \"Kernel execution timeout: [^;]*;\n)",
            new="#if CUDART_VERSION < 13000\n\\1#endif\n",
            done=r"CUDART_VERSION < 13000\n.*Kernel",
            required=False,
        ),
    ]
    + [
        Edit(
            "OpenCV 4: CV_LOAD_IMAGE_* became cv::IMREAD_*",
            file,
            anchor=r"\bCV_LOAD_IMAGE_(COLOR|GRAYSCALE)\b",
            new=r"cv::IMREAD_\1",
            done=r"cv::IMREAD_",
            required=False,
            everywhere=True,
        )
        for file in (
            "src/caffe/util/io.cpp",
            "src/caffe/layers/window_data_layer.cpp",
            "src/caffe/test/test_io.cpp",
        )
    ]
    + [
        # What SSD brings.
        Edit(
            "OpenCV 4: names that OpenCV 3 brought, too",
            "src/caffe/util/im_transforms.cpp",
            anchor=r"CV_VERSION_MAJOR == 3$",
            new="CV_VERSION_MAJOR >= 3",
            done=r"CV_VERSION_MAJOR >= 3",
            required=False,
        ),
        Edit(
            "OpenCV 4: CV_BGR2HSV and the like",
            "src/caffe/util/im_transforms.cpp",
            anchor=r"\bCV_(BGR2HSV|HSV2BGR|BGR2Lab|Lab2BGR)\b",
            new=r"cv::COLOR_\1",
            done=r"cv::COLOR_BGR2HSV",
            required=False,
            everywhere=True,
        ),
        Edit(
            "OpenCV 4: CV_FILLED",
            "src/caffe/util/bbox_util.cpp",
            anchor=r"\bCV_FILLED\b",
            new="cv::FILLED",
            done=r"cv::FILLED",
            required=False,
            everywhere=True,
        ),
        Edit(
            "OpenCV 4: CV_FOURCC",
            "src/caffe/util/bbox_util.cpp",
            anchor=r"\bCV_FOURCC\(",
            new="cv::VideoWriter::fourcc(",
            done=r"VideoWriter::fourcc",
            required=False,
            everywhere=True,
        ),
        Edit(
            "OpenCV 4: CV_CAP_PROP_*",
            "src/caffe/layers/video_data_layer.cpp",
            anchor=r"\bCV_(CAP_PROP_\w+)",
            new=r"cv::\1",
            done=r"cv::CAP_PROP_",
            required=False,
            everywhere=True,
        ),
    ]
)

# Every program that imports pycaffe would wait for them, and few read images with it.
LATER = """
# Imported where an image is read or resized: scikit-image and SciPy take longer than all the rest
# of pycaffe.
class _Skimage(object):
    def __getattr__(self, name):
        import skimage.io
        return getattr(skimage, name)


skimage = _Skimage()


def zoom(*arguments, **options):
    from scipy.ndimage import zoom
    return zoom(*arguments, **options)


def resize(*arguments, **options):
    from skimage.transform import resize
    return resize(*arguments, **options)
"""

# pycaffe's NumPy, its reading of images and its Datum, with the NumPy and scikit-image of Debian 12
# and later.
PYCAFFE = [
    Edit(
        "scikit-image >= 0.16: as_grey is as_gray",
        "python/caffe/io.py",
        anchor=r"\bas_grey=",
        new="as_gray=",
        done=r"as_gray=",
        required=False,
    ),
    Edit(
        "NumPy >= 2.3: tostring is tobytes",
        "python/caffe/io.py",
        anchor=r"\.tostring\(\)",
        new=".tobytes()",
        done=r"\.tobytes\(\)",
        required=False,
        everywhere=True,
    ),
    Edit(
        "NumPy >= 2.3: fromstring is frombuffer",
        "python/caffe/io.py",
        anchor=r"\bnp\.fromstring\(datum\.data, dtype=np\.uint8\)",
        new="np.frombuffer(datum.data, dtype=np.uint8).copy()",
        done=r"np\.frombuffer\(",
        required=False,
    ),
    *(
        Edit(
            f"Python >= 3.12: {old} is {new}",
            file,
            anchor=rf"\b{old}\b",
            new=new,
            done=rf"\b{new}\b",
            required=False,
            everywhere=True,
        )
        for file, old, new in (
            ("python/caffe/test/test_coord_map.py", "assertEquals", "assertEqual"),
            ("python/caffe/test/test_net_spec.py", "assertRaisesRegexp", "assertRaisesRegex"),
        )
    ),
    Edit(
        "scikit-image and SciPy are imported where an image is read",
        "python/caffe/io.py",
        anchor=r"^import skimage\.io\nfrom scipy\.ndimage import zoom\n"
        r"from skimage\.transform import resize\n",
        new=_literal(LATER.lstrip("\n")),
        done=r"class _Skimage",
        required=False,
    ),
]
TOOLCHAIN += PYCAFFE

# What our binding (fork/binding) needs of Caffe's own files.
BINDING = [
    Edit(
        "the program's main(), which our binding calls as a function",
        "tools/caffe.cpp",
        anchor=r"^(    gflags::ShowUsageWithFlagsRestrict\(.*\n  \}\n)(?=\})",
        new=r"\1  return 0;\n",
        done=r"UsageWithFlagsRestrict\(.*\n  \}\n  return 0;",
        required=False,
    ),
    Edit(
        "a failed check of Caffe's as an exception",
        "python/caffe/__init__.py",
        anchor=r"^(?=from \.proto\.caffe_pb2 import TRAIN, TEST$)",
        new="from ._caffe import Error\n",
        done=r"import Error\n",
        required=False,
    ),
]

# A thread of Caffe's asks for the GPU even to work for the CPU: without a driver, a GPU build could
# not read data.
CPU_MODE = [
    Edit(
        "threads that work for the CPU: started without a GPU",
        "src/caffe/internal_thread.cpp",
        anchor=r"^  (CUDA_CHECK\(cudaGetDevice\(&device\)\);)",
        new=r"  if (Caffe::mode() == Caffe::GPU) { \1 }",
        done=r"\{ CUDA_CHECK\(cudaGetDevice",
        required=False,
        together="CPU_MODE",
    ),
    Edit(
        "threads that work for the CPU: running without a GPU",
        "src/caffe/internal_thread.cpp",
        anchor=r"^  (CUDA_CHECK\(cudaSetDevice\(device\)\);)",
        new=r"  if (mode == Caffe::GPU) { \1 }",
        done=r"\{ CUDA_CHECK\(cudaSetDevice",
        required=False,
        together="CPU_MODE",
    ),
]

# A training that goes on from a snapshot sees the images that come next, cropped and mirrored as
# without the stop.
CONTINUE = [
    Edit(
        f"data that goes on from a snapshot: {what}",
        file,
        anchor=anchor,
        new=_literal(new) if literal else new,
        done=done,
        required=False,
        together="CONTINUE",
    )
    for what, file, anchor, new, done, literal in (
        (
            "the random numbers",
            "include/caffe/data_transformer.hpp",
            r"(?<=^  void InitRand\(\);$)\n",
            "\n" + CONTINUE_TRANSFORMER,
            r"void ContinueAt\(",
            True,
        ),
        (
            "their seed",
            "include/caffe/data_transformer.hpp",
            r"^  shared_ptr<Caffe::RNG> rng_;\n",
            r"\g<0>  unsigned int rng_seed_;  // of rng_\n",
            r"rng_seed_;",
            False,
        ),
        (
            "the seed is kept",
            "src/caffe/data_transformer.cpp",
            r"^( *const unsigned int rng_seed = caffe_rng_rand\(\);\n)( *)(?=rng_\.reset)",
            r"\1\2rng_seed_ = rng_seed;\n\2",
            r"rng_seed_ = rng_seed;",
            False,
        ),
        (
            "how the random numbers go on",
            "src/caffe/data_transformer.cpp",
            r"^(?=template ?<typename Dtype>\nint DataTransformer<Dtype>::Rand\(int n\))",
            CONTINUE_TRANSFORMER_CPP.lstrip("\n"),
            r"::ContinueAt\(",
            True,
        ),
        (
            "what a layer can be told",
            "include/caffe/layers/base_data_layer.hpp",
            r"(?<=^  virtual void DataLayerSetUp\(const vector<Blob<Dtype>\*>& bottom,\n"
            r"      const vector<Blob<Dtype>\*>& top\) \{\}$)\n",
            "\n" + CONTINUE_BASE,
            r"virtual void ContinueAt\(",
            True,
        ),
        (
            "the layer Data",
            "include/caffe/layers/data_layer.hpp",
            r"^(  virtual void DataLayerSetUp\(.*\n.*;\n)"
            r"(?=(?:.*\n)*?  shared_ptr<db::Cursor> cursor_;\n)",
            r"\1  virtual void ContinueAt(uint64_t passes);\n",
            r"virtual void ContinueAt\(",
            False,
        ),
        (
            "how the layer Data does",
            "src/caffe/layers/data_layer.cpp",
            r"^(?=INSTANTIATE_CLASS\(DataLayer\);)",
            CONTINUE_DATA_CPP.lstrip("\n"),
            r"::ContinueAt\(",
            True,
        ),
        (
            "what a solver must know",
            "src/caffe/solver.cpp",
            r'^#include "caffe/solver.hpp"\n',
            r'#include "caffe/layers/base_data_layer.hpp"\n\g<0>',
            r"base_data_layer",
            False,
        ),
        (
            "every restored solver says so",
            "src/caffe/solver.cpp",
            r"(?<=^    RestoreSolverStateFromBinaryProto\(state_filename\);\n  \}$)\n",
            CONTINUE_SOLVER,
            r"->ContinueAt\(",
            True,
        ),
    )
]

# LMDB wants a lock file to write even to read; data of another owner has none. Caffe has the way
# out, and leaves it out.
READ_ONLY_DATA = [
    Edit(
        "LMDB that one may only read",
        "src/caffe/util/db_lmdb.cpp",
        anchor=r"^(#include \"caffe/util/db_lmdb\.hpp\"\n)",
        new=r"\1\n#ifndef ALLOW_LMDB_NOLOCK\n#define ALLOW_LMDB_NOLOCK\n#endif\n",
        done=r"#define ALLOW_LMDB_NOLOCK",
        required=False,
    ),
]

# Left out by assemble.py --no-fast-layers.
FAST_LAYERS = fast_layers.edits(Edit)

EDITS = OURS + HDF5 + TOOLCHAIN + BINDING + CPU_MODE + CONTINUE + READ_ONLY_DATA + FAST_LAYERS


@dataclass(frozen=True)
class Family:
    """Caffe trees that are told by ``mark`` in ``file``: refused, or with more edits and without
    the files ``dropped``."""

    name: str
    file: str
    mark: str
    refused: str = ""
    edits: tuple = ()
    dropped: tuple = ()


FAMILIES = [
    # Their layer type of the same name gives way to ours, and their messages to ours under other
    # numbers: prototxts name fields, and weights are found by the names of layers.
    Family(
        "the paper's authors'",
        "src/caffe/proto/caffe.proto",
        mark=r"^  optional AConvParameter aconv_param = 147;",
        edits=(
            Edit(
                "their field aconv_param",
                "src/caffe/proto/caffe.proto",
                anchor=r"^  optional AConvParameter aconv_param = 147;.*\n",
                new="",
                done="",
            ),
            Edit(
                "their message AConvParameter",
                "src/caffe/proto/caffe.proto",
                anchor=r"^message AConvParameter \{\n(?:.*\n)*?\}\n",
                new="",
                done="",
            ),
        ),
        dropped=("src/caffe/layers/aconv_fast_layer.cu",),
    ),
    Family(
        "OpenCL",
        "include/caffe/layer.hpp",
        mark=r"\bMItype\b",
        refused="its layers have three types (Layer<Dtype, MItype, MOtype>), ours has Caffe's one",
    ),
    Family(
        "NVIDIA 0.16 and later",
        "include/caffe/layer.hpp",
        mark=r"^class LayerBase\b",
        refused="its layers and blobs choose their types at run time (LayerBase, TBlob), and "
        "its solver updates each parameter as soon as its gradient is there; take its branch "
        "caffe-0.15 or older",
    ),
    Family(
        "Intel",
        "cmake/Dependencies.cmake",
        mark=r"\bDownload_MKLDNN\b",
        refused="with several machines its solver updates layer by layer, past the call that "
        "freezes and normalises positions, and its build downloads and compiles a MKL-DNN of 2018",
    ),
]
