#ifndef CAFFE_UTIL_ACTIVE_THREADS_HPP_
#define CAFFE_UTIL_ACTIVE_THREADS_HPP_

/// The threads of the CPU's loops, as the library knows them, which alone is compiled for OpenMP.
namespace caffe {

/// How many the calling thread's next loop has; 1 without OpenMP.
int ActiveMaxThreads();
void ActiveSetThreads(int threads);

/// The number of the calling thread in its loop, from 0 on.
int ActiveThisThread();

}  // namespace caffe

#endif  // CAFFE_UTIL_ACTIVE_THREADS_HPP_
