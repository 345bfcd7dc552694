// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/page_cache.h"

#include <gtest/gtest.h>

namespace fuse4fs::fuse {
namespace {

TEST(PageCacheFor, WritesGoThroughItWhereTheKernelLosesBlocksInPages) {
  for (const char* const kernel : {"6.19.0", "7.0.0", "7.1.0-rc3+", "10.2", "6.100"}) {
    EXPECT_EQ(page_cache_for(kernel, 1024, 4096), PageCache::kWriteThrough) << kernel;
    EXPECT_EQ(page_cache_for(kernel, 2048, 4096), PageCache::kWriteThrough) << kernel;
    EXPECT_EQ(page_cache_for(kernel, 4096, 65536), PageCache::kWriteThrough) << kernel;
    EXPECT_EQ(page_cache_for(kernel, 4096, 4096), PageCache::kWriteBack) << kernel;
    EXPECT_EQ(page_cache_for(kernel, 65536, 4096), PageCache::kWriteBack) << kernel;
  }
}

TEST(PageCacheFor, OthersWriteBack) {
  for (const char* const kernel : {"6.18.44", "6.1.0-40-amd64", "5.10", "6.12.43+deb13-amd64"})
    EXPECT_EQ(page_cache_for(kernel, 1024, 4096), PageCache::kWriteBack) << kernel;
}

TEST(PageCacheFor, OfAKernelWithoutANumberTheWorstIsExpected) {
  for (const char* const kernel : {"", "next"})
    EXPECT_EQ(page_cache_for(kernel, 1024, 4096), PageCache::kWriteThrough) << kernel;
}

}  // namespace
}  // namespace fuse4fs::fuse
