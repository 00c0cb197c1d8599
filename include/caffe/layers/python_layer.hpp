#ifndef CAFFE_PYTHON_LAYER_HPP_
#define CAFFE_PYTHON_LAYER_HPP_

#include <exception>
#include <string>
#include <vector>

#include "caffe/c_api.h"
#include "caffe/layer.hpp"

namespace caffe {

/// What the Python process that loaded the library gave it to make and run its layers; null without Python.
struct PythonLayerCalls {
  caffe_python_create create;
  caffe_python_call call;
  caffe_python_destroy destroy;
};
extern PythonLayerCalls python_layer_calls;

/// A callback failed. Python keeps the exception until the call that this one goes through has returned.
class CallbackFailed : public std::exception {
 public:
  virtual const char* what() const throw() { return "a callback failed"; }
};

/**
 * @brief A layer written in Python, in place of Caffe's layer of Boost.Python.
 *
 * Its class is python_param's `layer` of the module `module`, and derives from caffe.Layer.
 */
template <typename Dtype>
class PythonLayer : public Layer<Dtype> {
 public:
  explicit PythonLayer(const LayerParameter& param);
  virtual ~PythonLayer();
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline const char* type() const { return "Python"; }
  /// What Python calls the layer.
  int id() const { return id_; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

 private:
  void Call(caffe_python_task task, const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top,
            const vector<bool>& propagate_down = vector<bool>());

  int id_;
};

}  // namespace caffe

#endif  // CAFFE_PYTHON_LAYER_HPP_
