#include "caffe/util/active_threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace caffe {

#ifdef _OPENMP
int ActiveMaxThreads() { return omp_get_max_threads(); }
void ActiveSetThreads(int threads) { omp_set_num_threads(threads); }
int ActiveThisThread() { return omp_get_thread_num(); }
#else
int ActiveMaxThreads() { return 1; }
void ActiveSetThreads(int) {}
int ActiveThisThread() { return 0; }
#endif

}  // namespace caffe
