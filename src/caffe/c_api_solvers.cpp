#include "caffe/c_api.h"

#include <stdexcept>
#include <string>

#include "caffe/layers/python_layer.hpp"
#include "caffe/sgd_solvers.hpp"
#include "caffe/util/c_objects.hpp"
#include "caffe/util/upgrade_proto.hpp"
#ifdef USE_NCCL
#include "caffe/parallel.hpp"
#endif

namespace caffe {

#ifndef CAFFE_BEFORE_1_0
class SolverCallback : public Solver<float>::Callback {
 public:
  explicit SolverCallback(caffe_callback function) : function_(function) {}

 protected:
  virtual void on_start() { Run(0); }
  virtual void on_gradients_ready() { Run(1); }

 private:
  void Run(int number) {
    if (function_(number)) {
      throw CallbackFailed();
    }
  }

  caffe_callback function_;
};
#endif

}  // namespace caffe

using namespace caffe;  // NOLINT(build/namespaces)

extern "C" {

// ---- Solvers

caffe_handle caffe_solver_new(const char* file, const char* type) {
  return Made([&] {
    MustBeReadable(file);
    SolverParameter param;
    ReadSolverParamsFromTextFileOrDie(file, &param);
    if (type) {
      param.set_type(type);
    }
    return shared_ptr<Solver<float> >(SolverRegistry<float>::CreateSolver(param));
  });
}
const char* caffe_solver_type(caffe_handle solver) { return SolverOf(solver).type(); }
caffe_handle caffe_solver_net(caffe_handle solver) { return ToC(SolverOf(solver).net()); }
int caffe_solver_test_nets(caffe_handle solver) { return static_cast<int>(SolverOf(solver).test_nets().size()); }
caffe_handle caffe_solver_test_net(caffe_handle solver, int index) { return ToC(SolverOf(solver).test_nets()[index]); }
int caffe_solver_iter(caffe_handle solver) { return SolverOf(solver).iter(); }
int caffe_solver_solve(caffe_handle solver, const char* resume_file) {
  return Done([&] { SolverOf(solver).Solve(resume_file); });
}
int caffe_solver_step(caffe_handle solver, int steps) { return Done([&] { SolverOf(solver).Step(steps); }); }
int caffe_solver_restore(caffe_handle solver, const char* file) {
  return Done([&] {
    MustBeReadable(file);
    SolverOf(solver).Restore(file);
  });
}
int caffe_solver_snapshot(caffe_handle solver) { return Done([&] { SolverOf(solver).Snapshot(); }); }
int caffe_solver_apply_update(caffe_handle solver) {
  return Done([&] {
#ifndef CAFFE_BEFORE_1_0
    SolverOf(solver).ApplyUpdate();
#else
    throw std::runtime_error("This Caffe is from before 1.0, and keeps its update for itself");
#endif
  });
}
int caffe_solver_share_weights(caffe_handle solver, caffe_handle net) {
  return Done([&] { NetOf(net).ShareTrainedLayersWith(SolverOf(solver).net().get()); });
}
int caffe_solver_call(caffe_handle solver, caffe_callback function) {
  return Done([&] {
#ifndef CAFFE_BEFORE_1_0
    SolverOf(solver).add_callback(new SolverCallback(function));
#else
    throw std::runtime_error("This Caffe is from before 1.0, and calls nobody back");
#endif
  });
}
float caffe_solver_lr(caffe_handle solver) {
#ifndef CAFFE_BEFORE_1_0
  return Guarded(-1.f, [&] { return dynamic_cast<SGDSolver<float>&>(SolverOf(solver)).GetLearningRate(); });
#else
  return -1;
#endif
}
void caffe_solver_param(caffe_handle solver, int* max_iter, int* display, int* layer_wise_reduce, float* base_lr) {
  const SolverParameter& param = SolverOf(solver).param();
  *max_iter = param.max_iter();
  *display = param.display();
  *base_lr = param.base_lr();
#ifndef CAFFE_BEFORE_1_0
  *layer_wise_reduce = param.layer_wise_reduce();
#endif
}
void caffe_solver_set_base_lr(caffe_handle solver, float rate) {
  const_cast<SolverParameter&>(SolverOf(solver).param()).set_base_lr(rate);
}

// ---- Several GPUs

#ifdef USE_NCCL
int caffe_has_nccl() { return 1; }
caffe_handle caffe_nccl_new(caffe_handle solver, const char* uid, int size) {
  return Made([&] {
    const shared_ptr<Solver<float> > of = boost::static_pointer_cast<Solver<float> >(FromC(solver));
    return shared_ptr<NCCL<float> >(new NCCL<float>(of, string(uid, size)));
  });
}
int caffe_nccl_new_uid(char* uid, int most) {
  return Guarded(-1, [&] { return static_cast<int>(NCCL<float>::new_uid().copy(uid, most)); });
}
int caffe_nccl_bcast(caffe_handle nccl) { return Done([&] { FromC<NCCL<float> >(nccl).Broadcast(); }); }
int caffe_nccl_join_solver(caffe_handle nccl, caffe_handle solver) {
  return Done([&] { SolverOf(solver).add_callback(&FromC<NCCL<float> >(nccl)); });
}
int caffe_nccl_join_net(caffe_handle nccl, caffe_handle net) {
  return Done([&] { NetOf(net).add_after_backward(&FromC<NCCL<float> >(nccl)); });
}
#else
static int NoNccl() { return Done([] { throw std::runtime_error("This Caffe is built without NCCL"); }); }
int caffe_has_nccl() { return 0; }
caffe_handle caffe_nccl_new(caffe_handle, const char*, int) { NoNccl(); return NULL; }
int caffe_nccl_new_uid(char*, int) { return NoNccl(); }
int caffe_nccl_bcast(caffe_handle) { return NoNccl(); }
int caffe_nccl_join_solver(caffe_handle, caffe_handle) { return NoNccl(); }
int caffe_nccl_join_net(caffe_handle, caffe_handle) { return NoNccl(); }
#endif

}  // extern "C"
