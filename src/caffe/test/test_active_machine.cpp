#include <new>

#include "gtest/gtest.h"

#include "caffe/util/active_cpu_kernels.hpp"
#include "caffe/util/active_machine.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

TEST(ActiveMachineTest, TestMemoryThatRunsOutInALoopIsCaffesMessage) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(ActiveForEach(4, [](int i) { if (i == 2) { throw std::bad_alloc(); } }),
               "for want of memory: std::bad_alloc");
}

TEST(ActiveMachineTest, TestTheFirstKernelsHaveTheWidestVectors) {
  EXPECT_EQ(ActiveVectorBytes() / sizeof(float), AllActiveCpuKernels<float>()[0].lanes);
}

}  // namespace caffe
