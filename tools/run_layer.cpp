// Runs single layers, forward and backward, in float or double: what acu check talks to.
//
//   run_layer {float|double} [GPU] < requests > answers
//
// Both streams are NetParameter messages, each behind its length, a uint32 of this machine. A request holds three layers:
// the one to run, with its parameters as blobs (double_data); "bottom", with one blob of data for each bottom; "top", with
// one blob for each top, whose double_diff is the gradient to start from. The answer holds "top" (data), "bottom" (diff)
// and "parameters" (diff). GPU is a device number; without it the layer runs on the CPU.
#include <glog/logging.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "caffe/caffe.hpp"

using caffe::Blob;
using caffe::BlobProto;
using caffe::Layer;
using caffe::LayerParameter;
using caffe::NetParameter;
using caffe::shared_ptr;
using std::string;
using std::vector;

namespace {

/// The blobs of one side of the layer, owned, and as Caffe passes them.
template <typename Dtype>
struct Side {
  vector<shared_ptr<Blob<Dtype> > > owned;
  vector<Blob<Dtype>*> blobs;

  explicit Side(int count) {
    for (int i = 0; i < count; ++i) {
      owned.push_back(shared_ptr<Blob<Dtype> >(new Blob<Dtype>()));
      blobs.push_back(owned.back().get());
    }
  }
};

template <typename Dtype, typename Blobs>
void Write(const string& name, const Blobs& blobs, bool diff, NetParameter* answer) {
  LayerParameter* layer = answer->add_layer();
  layer->set_name(name);
  for (int i = 0; i < blobs.size(); ++i) {
    BlobProto* proto = layer->add_blobs();
    for (int axis = 0; axis < blobs[i]->num_axes(); ++axis) {
      proto->mutable_shape()->add_dim(blobs[i]->shape(axis));
    }
    const Dtype* values = diff ? blobs[i]->cpu_diff() : blobs[i]->cpu_data();
    for (int j = 0; j < blobs[i]->count(); ++j) {
      proto->add_double_data(values[j]);
    }
  }
}

template <typename Dtype>
NetParameter Run(const NetParameter& request) {
  CHECK_EQ(request.layer_size(), 3) << "a request holds the layer, bottom and top";
  Side<Dtype> bottom(request.layer(1).blobs_size()), top(request.layer(2).blobs_size());
  for (int i = 0; i < bottom.blobs.size(); ++i) {
    bottom.blobs[i]->FromProto(request.layer(1).blobs(i));
  }
  shared_ptr<Layer<Dtype> > layer = caffe::LayerRegistry<Dtype>::CreateLayer(request.layer(0));
  layer->SetUp(bottom.blobs, top.blobs);
  layer->Forward(bottom.blobs, top.blobs);
  NetParameter answer;
  Write<Dtype>("top", top.blobs, false, &answer);
  for (int i = 0; i < top.blobs.size(); ++i) {
    const BlobProto& diff = request.layer(2).blobs(i);
    CHECK_EQ(diff.double_diff_size(), top.blobs[i]->count()) << "the diff of top " << i << " has another size";
    for (int j = 0; j < diff.double_diff_size(); ++j) {
      top.blobs[i]->mutable_cpu_diff()[j] = diff.double_diff(j);
    }
  }
  for (int i = 0; i < layer->blobs().size(); ++i) {
    caffe::caffe_set(layer->blobs()[i]->count(), Dtype(0), layer->blobs()[i]->mutable_cpu_diff());
  }
  layer->Backward(top.blobs, vector<bool>(bottom.blobs.size(), true), bottom.blobs);
  Write<Dtype>("bottom", bottom.blobs, true, &answer);
  Write<Dtype>("parameters", layer->blobs(), true, &answer);
  return answer;
}

/// Reads the next message; false where there is none.
bool Receive(NetParameter* message) {
  uint32_t length;
  if (std::cin.read(reinterpret_cast<char*>(&length), sizeof(length)).gcount() == 0) {
    return false;
  }
  string content(std::cin ? length : 0, 0);
  std::cin.read(&content[0], content.size());
  CHECK(std::cin && message->ParseFromString(content)) << "a damaged request";
  return true;
}

void Send(const NetParameter& message) {
  const string content = message.SerializeAsString();
  const uint32_t length = content.size();
  std::cout.write(reinterpret_cast<const char*>(&length), sizeof(length));
  std::cout.write(content.data(), content.size()).flush();
}

}  // namespace

int main(int argc, char** argv) {
  caffe::GlobalInit(&argc, &argv);
  const string type = argc > 1 ? argv[1] : "";
  CHECK(argc <= 3 && (type == "float" || type == "double")) << "usage: run_layer {float|double} [GPU] < requests > answers";
  if (argc == 3) {
    caffe::Caffe::SetDevice(std::stoi(argv[2]));
    caffe::Caffe::set_mode(caffe::Caffe::GPU);
  }
  NetParameter request;
  while (Receive(&request)) {
    Send(type == "float" ? Run<float>(request) : Run<double>(request));
  }
  return 0;
}
