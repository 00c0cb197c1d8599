#include "caffe/c_api.h"

#include <gflags/gflags.h>
#include <glog/logging.h>

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "caffe/caffe.hpp"
#include "caffe/layers/python_layer.hpp"
#include "caffe/util/c_objects.hpp"

namespace caffe {

static thread_local string error_text;
static thread_local int error_kind;
static thread_local int api_calls;  // under way on this thread

ApiCall::ApiCall() { ++api_calls; }
ApiCall::~ApiCall() { --api_calls; }

class CheckFailed : public std::runtime_error {
 public:
  explicit CheckFailed(const string& text) : std::runtime_error(text) {}
};

#if __has_include(<glog/types.h>)  // glog 0.7 or later, whose fatal message may throw
static thread_local string fatal_text;

[[noreturn]] static void ThrowOrAbort() {
  if (api_calls) {
    throw CheckFailed(fatal_text);
  }
  abort();
}

/// Keeps the text, and says what then happens: whoever starts glog has it end the process.
class FatalText : public google::LogSink {
 public:
  virtual void send(google::LogSeverity severity, const char*, const char*, int, const google::LogMessageTime&,
                    const char* message, size_t size) {
    if (severity == google::GLOG_FATAL) {
      fatal_text.assign(message, size);
      google::InstallFailureFunction(ThrowOrAbort);
    }
  }
};
#endif

static void Keep(int kind, const string& text) {
  error_kind = kind;
  error_text = text;
}

void ApiCall::Failed() {
  try {
    throw;
  } catch (const CallbackFailed& raised) {
    Keep(CAFFE_CALLBACK_ERROR, raised.what());
  } catch (const CheckFailed& raised) {
    Keep(CAFFE_CHECK_FAILED, raised.what());
  } catch (const std::bad_alloc& raised) {
    Keep(CAFFE_MEMORY_ERROR, raised.what());
  } catch (const std::exception& raised) {
    Keep(CAFFE_RUNTIME_ERROR, raised.what());
  } catch (...) {
    Keep(CAFFE_RUNTIME_ERROR, "an exception of an unknown type");
  }
}

}  // namespace caffe

using namespace caffe;  // NOLINT(build/namespaces)

extern "C" {

int caffe_error(const char** text) {
  *text = error_text.c_str();
  return error_kind;
}

void caffe_release(caffe_handle object) { delete &FromC(object); }

const char* caffe_version() { return AS_STRING(CAFFE_VERSION); }

const char* caffe_layer_type_list() {
  static thread_local string list;
  list.clear();
  const vector<string> types = LayerRegistry<float>::LayerTypeList();
  for (size_t i = 0; i < types.size(); ++i) {
    list += (i ? "\n" : "") + types[i];
  }
  return list.c_str();
}

void caffe_init_log(int level, int to_stderr) {
  if (level >= 0) {
    FLAGS_minloglevel = level;
  }
  if (to_stderr >= 0) {
    FLAGS_logtostderr = to_stderr;
  }
  google::InitGoogleLogging("");
  google::InstallFailureSignalHandler();
}

void caffe_log(int warning, const char* text) {
  if (warning) {
    LOG(WARNING) << text;
  } else {
    LOG(INFO) << text;
  }
}

int caffe_checks_are_errors() {
#if __has_include(<glog/types.h>)
  static FatalText* sink = NULL;
  if (!sink) {
    sink = new FatalText();
    google::AddLogSink(sink);
  }
  return 1;
#else
  return 0;
#endif
}

int caffe_run_main(int (*function)(int, char**), int argc, char** argv) {
  return Guarded(-1, [&] { return function(argc, argv); });
}

int caffe_set_mode(int gpu) { return Done([&] { Caffe::set_mode(gpu ? Caffe::GPU : Caffe::CPU); }); }
int caffe_set_device(int device) { return Done([&] { Caffe::SetDevice(device); }); }
int caffe_set_random_seed(unsigned seed) { return Done([&] { Caffe::set_random_seed(seed); }); }
int caffe_solver_count() { return Caffe::solver_count(); }
void caffe_set_solver_count(int count) { Caffe::set_solver_count(count); }
#ifndef CAFFE_BEFORE_1_0
int caffe_solver_rank() { return Caffe::solver_rank(); }
void caffe_set_solver_rank(int rank) { Caffe::set_solver_rank(rank); }
void caffe_set_multiprocess(int several) { Caffe::set_multiprocess(several); }
#else
int caffe_solver_rank() { return 0; }
void caffe_set_solver_rank(int) {}
void caffe_set_multiprocess(int) {}
#endif

void caffe_set_python_layers(caffe_python_create create, caffe_python_call call, caffe_python_destroy destroy) {
  python_layer_calls.create = create;
  python_layer_calls.call = call;
  python_layer_calls.destroy = destroy;
}

// ---- Time

caffe_handle caffe_timer_new() { return Made([] { return shared_ptr<Timer>(new Timer()); }); }
int caffe_timer_start(caffe_handle timer) { return Done([&] { FromC<Timer>(timer).Start(); }); }
int caffe_timer_stop(caffe_handle timer) { return Done([&] { FromC<Timer>(timer).Stop(); }); }
float caffe_timer_ms(caffe_handle timer) { return FromC<Timer>(timer).MilliSeconds(); }

}  // extern "C"
