// SPDX-License-Identifier: GPL-2.0-or-later
// Some functions of glibc open a file or ask the kernel something the first time they are called, and keep
// the answer. Under the filter that first call would be the end of the process: so each is made here once.
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {
namespace {

constexpr int kWarmUpTrimThreshold = 128 * 1024;
// Buffers of a request's size stay in the heap, to be mapped (and zeroed) anew for each would be slow; malloc
// would come to the same by itself. Set for good, so that what was freed before does not decide what the
// warm-up reaches.
constexpr int kMmapThreshold = 2 << 20;
constexpr int kTrimThreshold = 4 << 20;

// When the heap of a second thread shrinks for the first time, malloc reads /proc/sys/vm/overcommit_memory.
// With a threshold that is never reached no heap would shrink, but then no memory would go back under
// pressure either.
void shrink_a_second_heap() {
  ::mallopt(M_TRIM_THRESHOLD, kWarmUpTrimThreshold);
  std::thread([] {
    std::array<void*, 32> blocks{};
    for (void*& block : blocks) {
      block = std::malloc(kWarmUpTrimThreshold / 4);
      asm volatile("" : : "r"(block) : "memory");  // or the compiler sees that nobody uses it
    }
    // Last first: each joins the free end of the heap, which shrinks once that is above the threshold.
    std::ranges::reverse(blocks);
    for (void* block : blocks) std::free(block);
  }).join();
  ::mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
  ::mallopt(M_TRIM_THRESHOLD, kTrimThreshold);
}

// For more than 1 KiB qsort asks once how much memory there is.
void sort_something() {
  std::array<int, 1024> numbers{};
  std::qsort(numbers.data(), numbers.size(), sizeof(int), [](const void* left, const void* right) {
    return *static_cast<const int*>(left) - *static_cast<const int*>(right);
  });
  asm volatile("" : : "r"(numbers.data()) : "memory");
}

}  // namespace

void prepare_c_library() {
#ifdef __GLIBC__
  // With many threads and no number malloc asks for the count of processors.
  ::mallopt(M_ARENA_MAX, static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 2U, 16U)));
  shrink_a_second_heap();
#endif
  sort_something();
  ::tzset();  // reads /etc/localtime, for localtime_r(3) in the log
}

}  // namespace fuse4fs::sandbox::internal
