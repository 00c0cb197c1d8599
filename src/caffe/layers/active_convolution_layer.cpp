#include <algorithm>
#include <climits>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layers/active_convolution_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

typedef long long Wide;  // for products of what fits an int
/// Synapses of a layer, and pixels along an axis of a padded input: far more than anybody needs, and no sum overflows.
const int kMostSynapses = 1 << 20, kMostPixels = 1 << 30;

/// One two-dimensional field of convolution_param: once for both dimensions, once per dimension, or as *_h and *_w.
struct Field {
  const char* name;
  const google::protobuf::RepeatedField<google::protobuf::uint32>& repeated;
  bool has_h, has_w;
  unsigned h, w;
};

/// Reads a field into *h and *w; `otherwise` where it is absent. Dies naming the field unless both reach `least`.
void ReadField(const std::string& where, const Field& field, int otherwise, int least, int* h, int* w) {
  const std::string name = std::string("convolution_param.") + field.name;
  if (field.has_h || field.has_w) {
    CHECK_EQ(field.repeated.size(), 0) << where << name << " and its _h, _w forms exclude each other; give one of them";
    CHECK(least == 0 || (field.has_h && field.has_w)) << where << name << "_h and _w must be given together";
    *h = field.h;
    *w = field.w;
  } else {
    CHECK_LE(field.repeated.size(), 2) << where << name << " is given " << field.repeated.size()
        << " times; allowed: once, or twice (vertical, horizontal)";
    *h = field.repeated.size() ? field.repeated.Get(0) : otherwise;
    *w = field.repeated.size() ? field.repeated.Get(field.repeated.size() - 1) : otherwise;
  }
  const int kMost = 1 << 20;
  CHECK(*h >= least && *w >= least && *h <= kMost && *w <= kMost) << where << name << " is "
      << static_cast<unsigned>(*h) << " x " << static_cast<unsigned>(*w) << "; allowed: " << least
      << " to " << kMost << " in each dimension";
}

}  // namespace

template <typename Dtype>
std::string ActiveConvolutionLayer<Dtype>::Where() const {
  return "Layer '" + this->layer_param_.name() + "' (" + type() + "): ";
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_EQ(bottom[0]->num_axes(), 4) << Where() << "the bottom has shape " << bottom[0]->shape_string()
      << "; allowed: num x channels x height x width";
  ReadGeometry(*bottom[0]);
  CheckGeometry();
  ReadPositions();
  SetUpBlobs();
  SetUpParamSpecs();
  SetUpUpdates();
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::ReadGeometry(const Blob<Dtype>& bottom) {
  const ConvolutionParameter& p = this->layer_param_.convolution_param();
  const Field kernel = {"kernel_size", p.kernel_size(), p.has_kernel_h(), p.has_kernel_w(), p.kernel_h(), p.kernel_w()};
  const Field stride = {"stride", p.stride(), p.has_stride_h(), p.has_stride_w(), p.stride_h(), p.stride_w()};
  const Field pad = {"pad", p.pad(), p.has_pad_h(), p.has_pad_w(), p.pad_h(), p.pad_w()};
  const Field dilation = {"dilation", p.dilation(), false, false, 1, 1};
  ActiveGeometry& g = geometry_;
  ReadField(Where(), kernel, 0, 1, &g.kernel_h, &g.kernel_w);
  ReadField(Where(), stride, 1, 1, &g.stride_h, &g.stride_w);
  ReadField(Where(), pad, 0, 0, &pad_h_, &pad_w_);
  ReadField(Where(), dilation, 1, 1, &dilation_h_, &dilation_w_);
  g.channels = bottom.shape(1);
  g.num_output = p.num_output();
  g.group = p.group();
  g.position_group = this->layer_param_.active_convolution_param().position_group();
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::CheckGeometry() const {
  const ConvolutionParameter& p = this->layer_param_.convolution_param();
  const ActiveConvolutionParameter& a = this->layer_param_.active_convolution_param();
  const ActiveGeometry& g = geometry_;
  CHECK(p.axis() == 1 || p.axis() == -3) << Where() << "convolution_param.axis is " << p.axis() << "; allowed: 1";
  CHECK(!p.force_nd_im2col()) << Where() << "convolution_param.force_nd_im2col is true; allowed: false";
  CHECK(p.engine() != ConvolutionParameter_Engine_CUDNN) << Where()
      << "convolution_param.engine is CUDNN; allowed: DEFAULT, CAFFE";
  CHECK_GE(g.num_output, 1) << Where() << "convolution_param.num_output is " << p.num_output()
      << "; allowed: 1 to " << INT_MAX;
  CHECK_GE(g.channels, 1) << Where() << "the bottom has no channels; allowed: 1 and more";
  CHECK(g.group >= 1 && g.channels % g.group == 0 && g.num_output % g.group == 0) << Where()
      << "convolution_param.group is " << p.group() << "; allowed: divisors of both the " << g.channels
      << " input channels and num_output " << g.num_output;
  CHECK(g.position_group >= 1 && g.num_output % g.position_group == 0) << Where()
      << "active_convolution_param.position_group is " << a.position_group() << "; allowed: divisors of num_output "
      << g.num_output;
  CHECK(a.position_lr_mult() >= 0 && std::isfinite(a.position_lr_mult())) << Where()
      << "active_convolution_param.position_lr_mult is " << a.position_lr_mult() << "; allowed: 0 and more";
  CheckSize();
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::CheckSize() const {
  const ActiveGeometry& g = geometry_;
  const Wide synapses = Wide(g.kernel_h) * g.kernel_w;
  CHECK_LE(synapses, kMostSynapses) << Where() << "convolution_param.kernel_size is " << g.kernel_h << " x "
      << g.kernel_w << ", which is " << synapses << " synapses; allowed: at most " << kMostSynapses;
  CHECK_LE(synapses * g.group_channels(), INT_MAX / g.num_output) << Where() << "the weights are " << g.num_output
      << " x " << g.group_channels() << " x " << g.kernel_h << " x " << g.kernel_w << "; allowed: at most " << INT_MAX
      << " of them (lower convolution_param.num_output or kernel_size, or raise group)";
  const Wide extent = std::max(Wide(g.kernel_h - 1) * dilation_h_, Wide(g.kernel_w - 1) * dilation_w_) + 1;
  CHECK_LE(extent, kMostPixels) << Where() << "convolution_param.dilation is " << dilation_h_ << " x " << dilation_w_
      << ", and the kernel covers " << extent << " pixels; allowed: at most " << kMostPixels;
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::ReadPositions() {
  const ActiveConvolutionParameter& a = this->layer_param_.active_convolution_param();
  ActiveGeometry& g = geometry_;
  const int synapses = g.synapses(), sets = g.position_group;
  const int centre_h = (g.kernel_h - 1) / 2, centre_w = (g.kernel_w - 1) / 2;
  const bool grid = a.position_size() == 0;
  CHECK(grid || a.position_size() == synapses || a.position_size() == synapses * sets) << Where()
      << "active_convolution_param has " << a.position_size() << " positions; allowed: none, the " << synapses
      << " synapses that kernel_h x kernel_w counts, or " << synapses * sets << " (as many for each position_group)";
  CHECK(grid || (dilation_h_ == 1 && dilation_w_ == 1)) << Where() << "convolution_param.dilation is " << dilation_h_
      << " x " << dilation_w_ << "; allowed with explicit positions: 1 (scale the positions instead)";
  start_x_.resize(sets * synapses);
  start_y_.resize(sets * synapses);
  for (int i = 0; i < sets * synapses; ++i) {
    const int k = i % synapses;
    if (grid) {
      start_x_[i] = (k % g.kernel_w - centre_w) * dilation_w_;
      start_y_[i] = (k / g.kernel_w - centre_h) * dilation_h_;
    } else {
      const ActiveConvolutionParameter::Position& position = a.position(i % a.position_size());
      CHECK(std::isfinite(position.x()) && std::isfinite(position.y())) << Where()
          << "active_convolution_param.position " << i << " is (" << position.x() << ", " << position.y()
          << "); allowed: finite numbers";
      start_x_[i] = position.x();
      start_y_[i] = position.y();
    }
  }
  extent_h_ = grid ? (g.kernel_h - 1) * dilation_h_ + 1 : 1;
  extent_w_ = grid ? (g.kernel_w - 1) * dilation_w_ + 1 : 1;
  g.base_h = (grid ? centre_h * dilation_h_ : 0) - pad_h_;
  g.base_w = (grid ? centre_w * dilation_w_ : 0) - pad_w_;
}

template <typename Dtype>
vector<int> ActiveConvolutionLayer<Dtype>::BlobShape(int blob) const {
  const ActiveGeometry& g = geometry_;
  const bool bias = this->layer_param_.convolution_param().bias_term();
  vector<int> shape(4, 1);
  if (blob == kBias) { return bias ? vector<int>(1, g.num_output) : shape; }
  shape[0] = blob == kWeight ? g.num_output : g.position_group;
  shape[1] = blob == kWeight ? g.group_channels() : 1;
  shape[2] = g.kernel_h;
  shape[3] = g.kernel_w;
  return shape;
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::SetUpBlobs() {
  this->param_propagate_down_.resize(kBlobs, true);
  if (this->blobs_.size() > 0) {
    CheckBlobs();
    return;
  }
  this->blobs_.resize(kBlobs);
  for (int i = 0; i < kBlobs; ++i) {
    this->blobs_[i].reset(new Blob<Dtype>(BlobShape(i)));
  }
  FillBlobs();
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::CheckBlobs() const {
  CHECK_EQ(this->blobs_.size(), kBlobs) << Where() << "has " << this->blobs_.size()
      << " blobs; expected: " << kBlobs << " (weight, bias, x, y)";
  for (int i = 0; i < kBlobs; ++i) {
    const Blob<Dtype> expected(BlobShape(i));
    CHECK(this->blobs_[i]->shape() == expected.shape()) << Where() << "blob " << i << " has shape "
        << this->blobs_[i]->shape_string() << "; expected: " << expected.shape_string();
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::FillBlobs() {
  const ConvolutionParameter& p = this->layer_param_.convolution_param();
  shared_ptr<Filler<Dtype> > weight_filler(GetFiller<Dtype>(p.weight_filler()));
  weight_filler->Fill(this->blobs_[kWeight].get());
  if (p.bias_term()) {
    shared_ptr<Filler<Dtype> > bias_filler(GetFiller<Dtype>(p.bias_filler()));
    bias_filler->Fill(this->blobs_[kBias].get());
  } else {
    this->blobs_[kBias]->mutable_cpu_data()[0] = 0;
  }
  std::copy(start_x_.begin(), start_x_.end(), this->blobs_[kX]->mutable_cpu_data());
  std::copy(start_y_.begin(), start_y_.end(), this->blobs_[kY]->mutable_cpu_data());
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::SetUpParamSpecs() {
  while (this->layer_param_.param_size() < kBlobs) {
    this->layer_param_.add_param();
  }
  for (int blob = kX; blob <= kY; ++blob) {
    ParamSpec* spec = this->layer_param_.mutable_param(blob);
    given_specs_[blob - kX] = *spec;
    if (!spec->has_lr_mult()) {
      spec->set_lr_mult(this->layer_param_.active_convolution_param().position_lr_mult());
    }
    if (!spec->has_decay_mult()) {
      spec->set_decay_mult(0);
    }
  }
  if (!this->layer_param_.convolution_param().bias_term()) {
    this->layer_param_.mutable_param(kBias)->set_lr_mult(0);
    this->layer_param_.mutable_param(kBias)->set_decay_mult(0);
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::SetUpUpdates() {
  CheckLimit();
  const vector<int> shape(1, start_x_.size());
  owns_positions_ = true;
  fixed_.Reshape(shape);
  directions_[0].Reshape(shape);
  directions_[1].Reshape(shape);
  for (int i = 0; i < start_x_.size(); ++i) {
    const bool origin = start_x_[i] == 0 && start_y_[i] == 0;
    fixed_.mutable_cpu_data()[i] = origin && this->layer_param_.active_convolution_param().fix_origin();
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::CheckLimit() const {
  const float limit = this->layer_param_.active_convolution_param().position_limit();
  CHECK(limit >= 0 && std::isfinite(limit)) << Where() << "active_convolution_param.position_limit is " << limit
      << "; allowed: 0 (none) and more, in pixels";
  for (int i = 0; limit > 0 && i < start_x_.size(); ++i) {
    CHECK(std::max(std::abs(start_x_[i]), std::abs(start_y_[i])) <= limit) << Where()
        << "active_convolution_param.position_limit is " << limit << ", and synapse " << i << " starts at ("
        << start_x_[i] << ", " << start_y_[i] << "); allowed: 0 (none), or no less than where synapses start";
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  ActiveGeometry& g = geometry_;
  for (int i = 0; i < bottom.size(); ++i) {
    CHECK(bottom[i]->shape() == bottom[0]->shape()) << Where() << "bottom " << i << " has shape "
        << bottom[i]->shape_string() << "; allowed: that of bottom 0, " << bottom[0]->shape_string();
    CHECK(std::find(top.begin(), top.end(), bottom[i]) == top.end()) << Where() << "bottom " << i
        << " is a top, too; allowed: a top of its own, since the layer reads pixels again after it wrote their neighbours";
  }
  CHECK(bottom[0]->num_axes() == 4 && bottom[0]->shape(1) == g.channels) << Where() << "the bottom has shape "
      << bottom[0]->shape_string() << "; allowed: num x " << g.channels << " channels x height x width";
  g.height = bottom[0]->shape(2);
  g.width = bottom[0]->shape(3);
  const Wide padded_h = g.height + 2 * Wide(pad_h_), padded_w = g.width + 2 * Wide(pad_w_);
  CHECK(padded_h <= kMostPixels && padded_w <= kMostPixels) << Where() << "the padded input is " << padded_h << " x "
      << padded_w << " pixels; allowed: at most " << kMostPixels << " in each dimension";
  const int room_h = padded_h - extent_h_, room_w = padded_w - extent_w_;
  CHECK(room_h >= 0 && room_w >= 0) << Where() << "the kernel covers " << extent_h_ << " x " << extent_w_
      << " pixels; allowed: at most the padded input, " << padded_h << " x " << padded_w;
  g.out_height = room_h / g.stride_h + 1;
  g.out_width = room_w / g.stride_w + 1;
  vector<int> shape(4, bottom[0]->shape(0));
  shape[1] = g.num_output;
  shape[2] = g.out_height;
  shape[3] = g.out_width;
  CheckTop(shape);
  for (int i = 0; i < top.size(); ++i) {
    top[i]->Reshape(shape);
  }
}

/// Caffe counts a blob's elements in an int.
template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::CheckTop(const vector<int>& shape) const {
  Wide count = 1;
  for (int i = 0; i < shape.size(); ++i) {
    count *= shape[i];
    CHECK_LE(count, INT_MAX) << Where() << "the top is " << shape[0] << " x " << shape[1] << " x " << shape[2] << " x "
        << shape[3] << "; allowed: at most " << INT_MAX << " elements (lower convolution_param.num_output or "
        << "pad, or the batch size)";
  }
}

template <typename Dtype>
ActiveParameters<Dtype> ActiveConvolutionLayer<Dtype>::Parameters(Data data) const {
  const bool bias = this->layer_param_.convolution_param().bias_term();
  ActiveParameters<Dtype> parameters = {(this->blobs_[kWeight].get()->*data)(),
                                        bias ? (this->blobs_[kBias].get()->*data)() : NULL,
                                        (this->blobs_[kX].get()->*data)(), (this->blobs_[kY].get()->*data)()};
  return parameters;
}

/// Where the gradients go that anybody wants; bottom is NULL where that of the input is not wanted.
template <typename Dtype>
ActiveGradients<Dtype> ActiveConvolutionLayer<Dtype>::Gradients(Mutable diff, Blob<Dtype>* bottom) const {
  const bool positions = Learns(kX) || Learns(kY);
  ActiveGradients<Dtype> gradients = {Learns(kWeight) ? (this->blobs_[kWeight].get()->*diff)() : NULL,
                                      Learns(kBias) ? (this->blobs_[kBias].get()->*diff)() : NULL,
                                      positions ? (this->blobs_[kX].get()->*diff)() : NULL,
                                      positions ? (this->blobs_[kY].get()->*diff)() : NULL,
                                      bottom ? (bottom->*diff)() : NULL};
  return gradients;
}

/// Whether anybody wants the gradient of a blob; param_propagate_down is the net's view, made before the layer set lr_mult.
template <typename Dtype>
bool ActiveConvolutionLayer<Dtype>::Learns(int blob) const {
  return this->param_propagate_down_[blob] && this->layer_param_.param(blob).lr_mult() != 0;
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  cpu_workspace_ = ActiveCpuWorkspace<Dtype>::OfThisThread();
  for (int i = 0; i < bottom.size(); ++i) {
    active_convolution_forward_cpu(geometry_, bottom[i]->shape(0), Parameters(&Blob<Dtype>::cpu_data),
                                   bottom[i]->cpu_data(), top[i]->mutable_cpu_data(), cpu_workspace_.get());
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                                 const vector<Blob<Dtype>*>& bottom) {
  cpu_workspace_ = ActiveCpuWorkspace<Dtype>::OfThisThread();
  for (int i = 0; i < top.size(); ++i) {
    const ActiveGradients<Dtype> gradients =
        Gradients(&Blob<Dtype>::mutable_cpu_diff, propagate_down[i] ? bottom[i] : NULL);
    active_convolution_backward_cpu(geometry_, bottom[i]->shape(0), Parameters(&Blob<Dtype>::cpu_data),
                                    bottom[i]->cpu_data(), top[i]->cpu_diff(), gradients, cpu_workspace_.get());
  }
}

template <typename Dtype>
ActiveSetAsideKernel<Dtype> ActiveConvolutionLayer<Dtype>::SetAside(bool frozen, const int* fixed, Mutable diff,
                                                                    Mutable data) {
  const ActiveSetAsideKernel<Dtype> kernel = {fixed_.count(), Learns(kX) && !frozen, Learns(kY) && !frozen,
                                              this->layer_param_.active_convolution_param().normalize_gradient(), fixed,
                                              (this->blobs_[kX].get()->*diff)(), (this->blobs_[kY].get()->*diff)(),
                                              (directions_[0].*data)(), (directions_[1].*data)()};
  return kernel;
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::BeforeClipping(int iter) {
  if (!owns_positions_) { return; }
  const ActiveConvolutionParameter& a = this->layer_param_.active_convolution_param();
  const bool frozen = iter >= 0 && static_cast<unsigned>(iter) < a.warmup_iter();
  if (Caffe::mode() == Caffe::CPU) {
    const ActiveSetAsideKernel<Dtype> kernel =
        SetAside(frozen, fixed_.cpu_data(), &Blob<Dtype>::mutable_cpu_diff, &Blob<Dtype>::mutable_cpu_data);
    for (int i = 0; i < kernel.count(); ++i) { kernel(i); }
  } else {
#ifdef CPU_ONLY
    NO_GPU;
#else
    active_update_gpu(
        SetAside(frozen, fixed_.gpu_data(), &Blob<Dtype>::mutable_gpu_diff, &Blob<Dtype>::mutable_gpu_data));
#endif
  }
}

/// Directions become gradients again, or, where the solver's rule is not for them, steps.
template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::AfterClipping(int iter_size, bool adaptive, Dtype rate) {
  if (!owns_positions_ || !this->layer_param_.active_convolution_param().normalize_gradient()) { return; }
  for (int blob = kX; blob <= kY; ++blob) {
    Blob<Dtype>* positions = this->blobs_[blob].get();
    const Dtype factor = adaptive ? -rate * this->layer_param_.param(blob).lr_mult() : Dtype(iter_size);
    if (Caffe::mode() == Caffe::CPU) {
      caffe_axpy(positions->count(), factor, directions_[blob - kX].cpu_data(),
                 adaptive ? positions->mutable_cpu_data() : positions->mutable_cpu_diff());
    } else {
#ifdef CPU_ONLY
      NO_GPU;
#else
      caffe_gpu_axpy(positions->count(), factor, directions_[blob - kX].gpu_data(),
                     adaptive ? positions->mutable_gpu_data() : positions->mutable_gpu_diff());
#endif
    }
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::AfterUpdate() {
  const Dtype limit = this->layer_param_.active_convolution_param().position_limit();
  if (!owns_positions_ || limit == 0) { return; }
  Blob<Dtype>* x = this->blobs_[kX].get();
  Blob<Dtype>* y = this->blobs_[kY].get();
  if (Caffe::mode() == Caffe::CPU) {
    const ActiveLimitKernel<Dtype> kernel = {x->count(), limit, x->mutable_cpu_data(), y->mutable_cpu_data()};
    for (int i = 0; i < kernel.count(); ++i) { kernel(i); }
  } else {
#ifdef CPU_ONLY
    NO_GPU;
#else
    const ActiveLimitKernel<Dtype> kernel = {x->count(), limit, x->mutable_gpu_data(), y->mutable_gpu_data()};
    active_update_gpu(kernel);
#endif
  }
}

template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::ParamShared(int param_id, const Layer<Dtype>& owner, int owner_param_id) {
  const ActiveConvolutionLayer<Dtype>* first = dynamic_cast<const ActiveConvolutionLayer<Dtype>*>(&owner);
  if (param_id < kX || !first) { return; }
  const LayerParameter& theirs = first->layer_param_;
  const int other = kX + kY - param_id;
  const std::string& other_name = this->layer_param_.param(other).name();
  CHECK(owner_param_id == param_id && other_name.size() && other_name == theirs.param(other).name()) << Where()
      << "shares blob " << param_id << " with layer '" << theirs.name() << "', but not blob " << other
      << "; allowed: both position blobs or none (give `param` entries 2 and 3 the same names in both layers)";
  owns_positions_ = false;
  ShareSpec(param_id, theirs);
  const ActiveConvolutionParameter& a = this->layer_param_.active_convolution_param();
  const ActiveConvolutionParameter& b = theirs.active_convolution_param();
  CheckShared("warmup_iter", a.has_warmup_iter(), a.warmup_iter(), b.warmup_iter(), theirs.name());
  CheckShared("normalize_gradient", a.has_normalize_gradient(), a.normalize_gradient(), b.normalize_gradient(),
              theirs.name());
  CheckShared("position_limit", a.has_position_limit(), a.position_limit(), b.position_limit(), theirs.name());
  CheckShared("fix_origin", a.has_fix_origin(), a.fix_origin(), b.fix_origin(), theirs.name());
}

/// Takes lr_mult and decay_mult of a blob from the layer whose it is, where nobody gave them here.
template <typename Dtype>
void ActiveConvolutionLayer<Dtype>::ShareSpec(int blob, const LayerParameter& theirs) {
  const ParamSpec& given = given_specs_[blob - kX];
  const bool rate = given.has_lr_mult() || this->layer_param_.active_convolution_param().has_position_lr_mult();
  ParamSpec* spec = this->layer_param_.mutable_param(blob);
  CheckShared("lr_mult", rate, spec->lr_mult(), theirs.param(blob).lr_mult(), theirs.name());
  CheckShared("decay_mult", given.has_decay_mult(), spec->decay_mult(), theirs.param(blob).decay_mult(), theirs.name());
  spec->set_lr_mult(theirs.param(blob).lr_mult());
  spec->set_decay_mult(theirs.param(blob).decay_mult());
}

template <typename Dtype>
template <typename Value>
void ActiveConvolutionLayer<Dtype>::CheckShared(const char* field, bool given, Value mine, Value theirs,
                                                const std::string& owner) const {
  CHECK(!given || mine == theirs) << Where() << field << " of the positions is " << mine << "; allowed: " << theirs
      << ", as in layer '" << owner << "', which has the positions in common (or leave it out here)";
}

#ifdef CPU_ONLY
STUB_GPU(ActiveConvolutionLayer);
#endif

INSTANTIATE_CLASS(ActiveConvolutionLayer);
REGISTER_LAYER_CLASS(ActiveConvolution);

}  // namespace caffe
