#include "caffe/layers/python_layer.hpp"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "caffe/layer_factory.hpp"
#include "caffe/util/c_objects.hpp"

namespace caffe {

PythonLayerCalls python_layer_calls = {NULL, NULL, NULL};

/// Caffe's program has no Python in it: it begins anew inside one. Returns where it cannot.
static void BeginAnewInPython() {
  std::ifstream file("/proc/self/cmdline");
  std::stringstream text;
  text << file.rdbuf();
  vector<string> words;
  for (string word; std::getline(text, word, '\0');) {
    words.push_back(word);
  }
  const string program = words.empty() ? "" : words[0].substr(words[0].rfind('/') + 1);
  if (program != "caffe" && program != "caffe.bin") {
    return;
  }
  const char* start[] = {"python3", "-m", "caffe"};
  vector<char*> arguments;
  for (int i = 0; i < 3; ++i) {
    arguments.push_back(const_cast<char*>(start[i]));
  }
  for (size_t i = 1; i < words.size(); ++i) {
    arguments.push_back(&words[i][0]);
  }
  arguments.push_back(NULL);
  LOG(INFO) << "A layer of the type Python: going on in python3 -m caffe";
  execvp(arguments[0], arguments.data());
}

template <typename Dtype>
PythonLayer<Dtype>::PythonLayer(const LayerParameter& param) : Layer<Dtype>(param), id_(-1) {
  if (!python_layer_calls.create) {
    BeginAnewInPython();
    LOG(FATAL) << "A layer of the type Python needs Python: import caffe, or run python3 -m caffe";
  }
  CHECK_EQ(sizeof(Dtype), sizeof(float)) << "Layers written in Python compute with float";
  if (python_layer_calls.create(param.python_param().module().c_str(), param.python_param().layer().c_str(),
                                Lent(static_cast<Layer<Dtype>*>(this)), &id_)) {
    throw CallbackFailed();
  }
}

template <typename Dtype>
PythonLayer<Dtype>::~PythonLayer() {
  if (id_ >= 0) {
    python_layer_calls.destroy(id_);
  }
}

template <typename Dtype>
void PythonLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
#ifndef CAFFE_BEFORE_1_0
  // Threads for several GPUs would wait for each other's Python (BVLC/caffe#2936).
  CHECK(this->phase_ != TRAIN || Caffe::solver_count() == 1 || Caffe::multiprocess())
      << "A layer of the type Python trains on several GPUs by processes alone: python/train.py";
#endif
  Call(CAFFE_SETUP, bottom, top);
}

template <typename Dtype>
void PythonLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Call(CAFFE_RESHAPE, bottom, top);
}

template <typename Dtype>
void PythonLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Call(CAFFE_FORWARD, bottom, top);
}

template <typename Dtype>
void PythonLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                      const vector<Blob<Dtype>*>& bottom) {
  Call(CAFFE_BACKWARD, bottom, top, propagate_down);
}

/// Handles that own nothing; Python releases them.
template <typename Dtype>
static vector<caffe_handle> LentAll(const vector<Blob<Dtype>*>& blobs) {
  vector<caffe_handle> handles;
  for (size_t i = 0; i < blobs.size(); ++i) {
    handles.push_back(Lent(blobs[i]));
  }
  return handles;
}

template <typename Dtype>
void PythonLayer<Dtype>::Call(caffe_python_task task, const vector<Blob<Dtype>*>& bottom,
                              const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down) {
  const vector<caffe_handle> bottoms = LentAll(bottom), tops = LentAll(top);
  const vector<int> down(propagate_down.begin(), propagate_down.end());
  if (python_layer_calls.call(id_, task, bottoms.data(), static_cast<int>(bottoms.size()), tops.data(),
                              static_cast<int>(tops.size()), down.data(),
                              this->layer_param_.python_param().param_str().c_str(),
                              static_cast<int>(this->phase_))) {
    throw CallbackFailed();
  }
}

INSTANTIATE_CLASS(PythonLayer);
REGISTER_LAYER_CLASS(Python);

}  // namespace caffe
