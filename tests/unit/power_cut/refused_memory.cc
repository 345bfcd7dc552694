// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/power_cut/refused_memory.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace fuse4fs {

RefusedMemory refused_memory;

}  // namespace fuse4fs

void* operator new(std::size_t size) {
  auto& memory = fuse4fs::refused_memory;
  if (memory.counting && memory.allocations++ == memory.refused) throw std::bad_alloc();
  if (void* const fresh = std::malloc(std::max<std::size_t>(size, 1))) return fresh;
  throw std::bad_alloc();
}
void operator delete(void* old) noexcept { std::free(old); }
void operator delete(void* old, std::size_t) noexcept { std::free(old); }
