// SPDX-License-Identifier: GPL-2.0-or-later
// How much a test does, from outside: FUSE4FS_SEED, FUSE4FS_SEEDS.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace fuse4fs::iomap_model {

// The variable's number; `usual` where it is not set.
inline std::uint64_t number_from_environment(const char* variable, std::uint64_t usual) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : usual;
}

inline std::uint64_t first_seed() { return number_from_environment("FUSE4FS_SEED", 1); }
inline std::uint64_t number_of_seeds(std::uint64_t usual = 1) {
  return number_from_environment("FUSE4FS_SEEDS", usual);
}

}  // namespace fuse4fs::iomap_model
