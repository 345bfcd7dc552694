// SPDX-License-Identifier: GPL-2.0-or-later
// The side of the model of the kernel, with whatever server it has.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tests/iomap/kernel.h"
#include "tests/iomap/oracle/side.h"

namespace fuse4fs::iomap_model {

class ModelSide final : public Side {
 public:
  // `kernel` is mounted. `server`: its volume, and what its ticks do.
  ModelSide(Kernel& kernel, ext4::FileSystem& server, std::size_t files);

  Outcome apply(const Operation& operation) override;
  [[nodiscard]] std::uint64_t size(std::size_t file) override { return files_[file]->size(); }
  [[nodiscard]] Layout layout(std::size_t file) override;
  [[nodiscard]] std::uint64_t free_bytes() override;
  [[nodiscard]] File& file(std::size_t number) { return *files_[number]; }
  // To the kernel the files are what they are: it has not seen them being written.
  Result<void> adopt(std::size_t file) { return files_[file]->adopt(); }

 private:
  Result<void> change(const Operation& operation);
  Result<void> replace(const Operation& operation);
  [[nodiscard]] Result<std::uint64_t> seek(const Operation& operation);

  Kernel& kernel_;
  ext4::FileSystem& server_;
  std::vector<std::shared_ptr<File>> files_;
};

}  // namespace fuse4fs::iomap_model
