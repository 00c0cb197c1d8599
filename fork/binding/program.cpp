// Caffe's program as a function, which caffe/__main__.py calls by caffe_run_main().
#include "caffe/c_api.h"

extern "C" CAFFE_API int caffe_program(int argc, char** argv);
#define main caffe_program
#include "../tools/caffe.cpp"
