#include "caffe/c_api.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "caffe/layers/base_data_layer.hpp"
#include "caffe/layers/memory_data_layer.hpp"
#include "caffe/layers/python_layer.hpp"
#include "caffe/util/c_objects.hpp"
#include "caffe/util/upgrade_proto.hpp"

namespace caffe {

static vector<Blob<float>*> BlobsOf(const caffe_handle* handles, int count) {
  vector<Blob<float>*> blobs;
  for (int i = 0; i < count; ++i) {
    blobs.push_back(&BlobOf(handles[i]));
  }
  return blobs;
}

static int CopyShape(const Blob<float>& blob, int64_t* shape) {
  std::copy(blob.shape().begin(), blob.shape().end(), shape);
  return blob.num_axes();
}

#ifndef CAFFE_BEFORE_1_0
class NetCallback : public Net<float>::Callback {
 public:
  explicit NetCallback(caffe_callback function) : function_(function) {}

 protected:
  virtual void run(int layer) {
    if (function_(layer)) {
      throw CallbackFailed();
    }
  }

 private:
  caffe_callback function_;
};
#endif

}  // namespace caffe

using namespace caffe;  // NOLINT(build/namespaces)

extern "C" {

// ---- Nets

caffe_handle caffe_net_new(const char* file, int phase, int level, const char* const* stages, int count,
                           const char* weights) {
  return Made([&] {
    MustBeReadable(file);
    if (weights) {
      MustBeReadable(weights);
    }
    NetParameter param;
    ReadNetParamsFromTextFileOrDie(file, &param);
    param.mutable_state()->set_phase(static_cast<Phase>(phase));
    param.mutable_state()->set_level(level);
    for (int i = 0; i < count; ++i) {
      param.mutable_state()->add_stage(stages[i]);
    }
    shared_ptr<Net<float> > net(new Net<float>(param));
    if (weights) {
      net->CopyTrainedLayersFrom(string(weights));
    }
    return net;
  });
}

int caffe_net_forward(caffe_handle net, int start, int end, float* loss) {
  return Done([&] { *loss = NetOf(net).ForwardFromTo(start, end); });
}
int caffe_net_backward(caffe_handle net, int start, int end) {
  return Done([&] { NetOf(net).BackwardFromTo(start, end); });
}
int caffe_net_reshape(caffe_handle net) { return Done([&] { NetOf(net).Reshape(); }); }
int caffe_net_clear_param_diffs(caffe_handle net) { return Done([&] { NetOf(net).ClearParamDiffs(); }); }
int caffe_net_copy_from(caffe_handle net, const char* file) {
  return Done([&] { NetOf(net).CopyTrainedLayersFrom(string(file)); });
}
int caffe_net_load_hdf5(caffe_handle net, const char* file) {
  return Done([&] { NetOf(net).CopyTrainedLayersFromHDF5(file); });
}
int caffe_net_share_with(caffe_handle net, caffe_handle other) {
  return Done([&] { NetOf(net).ShareTrainedLayersWith(&NetOf(other)); });
}
int caffe_net_save(caffe_handle net, const char* file) {
  return Done([&] {
    NetParameter param;
    NetOf(net).ToProto(&param, false);
    WriteProtoToBinaryFile(param, file);
  });
}
int caffe_net_save_hdf5(caffe_handle net, const char* file) { return Done([&] { NetOf(net).ToHDF5(file); }); }

int caffe_net_blobs(caffe_handle net) { return static_cast<int>(NetOf(net).blobs().size()); }
caffe_handle caffe_net_blob(caffe_handle net, int index) { return ToC(NetOf(net).blobs()[index]); }
const char* caffe_net_blob_name(caffe_handle net, int index) { return NetOf(net).blob_names()[index].c_str(); }
float caffe_net_blob_loss_weight(caffe_handle net, int index) { return NetOf(net).blob_loss_weights()[index]; }
int caffe_net_layers(caffe_handle net) { return static_cast<int>(NetOf(net).layers().size()); }
caffe_handle caffe_net_layer(caffe_handle net, int index) { return ToC(NetOf(net).layers()[index]); }
const char* caffe_net_layer_name(caffe_handle net, int index) { return NetOf(net).layer_names()[index].c_str(); }

int caffe_net_ids(caffe_handle net, int what, int index, const int** ids) {
  const Net<float>& of = NetOf(net);
  const vector<int>& found = what == CAFFE_BOTTOMS ? of.bottom_ids(index) : what == CAFFE_TOPS ? of.top_ids(index) :
                             what == CAFFE_INPUTS ? of.input_blob_indices() : of.output_blob_indices();
  *ids = found.data();
  return static_cast<int>(found.size());
}

int caffe_net_memory_data(caffe_handle net, int* sizes) {
  MemoryDataLayer<float>* data = dynamic_cast<MemoryDataLayer<float>*>(NetOf(net).layers()[0].get());
  if (data) {
    sizes[0] = data->batch_size();
    sizes[1] = data->channels();
    sizes[2] = data->height();
    sizes[3] = data->width();
  }
  return data != NULL;
}
int caffe_net_set_input(caffe_handle net, float* data, float* labels, int count) {
  return Done([&] { dynamic_cast<MemoryDataLayer<float>&>(*NetOf(net).layers()[0]).Reset(data, labels, count); });
}

int caffe_net_call(caffe_handle net, int event, caffe_callback function) {
  return Done([&] {
#ifndef CAFFE_BEFORE_1_0
    NetCallback* call = new NetCallback(function);  // Caffe never deletes them, either
    switch (event) {
      case CAFFE_BEFORE_FORWARD: return NetOf(net).add_before_forward(call);
      case CAFFE_AFTER_FORWARD: return NetOf(net).add_after_forward(call);
      case CAFFE_BEFORE_BACKWARD: return NetOf(net).add_before_backward(call);
      default: return NetOf(net).add_after_backward(call);
    }
#else
    throw std::runtime_error("This Caffe is from before 1.0, and calls nobody back");
#endif
  });
}

// ---- Blobs

int caffe_blob_look(caffe_values* values) {
  return Guarded(-1, [&] {
    Blob<float>& blob = BlobOf(values->blob);
    const int64_t at = reinterpret_cast<int64_t>(values->diff ? blob.mutable_cpu_diff() : blob.mutable_cpu_data());
    const vector<int>& shape = blob.shape();
    if (at == values->at && static_cast<int64_t>(shape.size()) == values->axes &&
        std::equal(shape.begin(), shape.end(), values->shape)) {
      return 0;
    }
    values->at = at;
    values->axes = CopyShape(blob, values->shape);
    return 1;
  });
}
int caffe_blob_shape(caffe_handle blob, int64_t* shape) { return CopyShape(BlobOf(blob), shape); }
int caffe_blob_reshape(caffe_handle blob, const int* shape, int axes) {
  return Done([&] { BlobOf(blob).Reshape(vector<int>(shape, shape + axes)); });
}
#ifndef CPU_ONLY
void* caffe_blob_gpu_values(caffe_handle blob, int diff) {
  return Guarded(static_cast<void*>(NULL), [&]() -> void* {
    return diff ? BlobOf(blob).mutable_gpu_diff() : BlobOf(blob).mutable_gpu_data();
  });
}
#endif

// ---- Layers

const char* caffe_layer_type(caffe_handle layer) { return LayerOf(layer).type(); }
int caffe_layer_blobs(caffe_handle layer) { return static_cast<int>(LayerOf(layer).blobs().size()); }
caffe_handle caffe_layer_blob(caffe_handle layer, int index) { return ToC(LayerOf(layer).blobs()[index]); }
int caffe_layer_add_blob(caffe_handle layer, const int* shape, int axes) {
  return Done([&] {
    shared_ptr<Blob<float> > blob(new Blob<float>(vector<int>(shape, shape + axes)));
    LayerOf(layer).blobs().push_back(blob);
  });
}
int caffe_layer_set_up(caffe_handle layer, const caffe_handle* bottom, int bottoms, const caffe_handle* top, int tops) {
  return Done([&] { LayerOf(layer).LayerSetUp(BlobsOf(bottom, bottoms), BlobsOf(top, tops)); });
}
int caffe_layer_reshape(caffe_handle layer, const caffe_handle* bottom, int bottoms, const caffe_handle* top,
                        int tops) {
  return Done([&] { LayerOf(layer).Reshape(BlobsOf(bottom, bottoms), BlobsOf(top, tops)); });
}
int caffe_layer_continue_at(caffe_handle layer, uint64_t passes) {
  return Done([&] {
#ifdef CAFFE_DATA_CONTINUES
    if (BaseDataLayer<float>* data = dynamic_cast<BaseDataLayer<float>*>(&LayerOf(layer))) {
      data->ContinueAt(passes);
    }
#endif
  });
}
int caffe_layer_python_id(caffe_handle layer) {
  const PythonLayer<float>* python = dynamic_cast<PythonLayer<float>*>(&LayerOf(layer));
  return python ? python->id() : -1;
}

}  // extern "C"
