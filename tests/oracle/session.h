// SPDX-License-Identifier: GPL-2.0-or-later
// Two mounts of two equal images, and one step after the other on both.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "tests/oracle/comparison.h"
#include "tests/oracle/step.h"
#include "tests/oracle/volumes.h"
#include "tests/oracle/watchdog.h"

namespace fuse4fs::oracle {

// Who serves image 0. kKernel: the kernel against itself, which tests the harness.
struct Setup {
  const Kind* kind = nullptr;
  std::filesystem::path scratch{};                  // a directory of this run's own
  std::array<std::filesystem::path, 2> pristine{};  // what the images start as
  // Without: the kernel only reads our image in the end, instead of changing places (see
  // Kind::kernel_arguments).
  enum class Places { kChange, kKeep };
  Places places = Places::kChange;
  Server first = Server::kOurs;
  Look look{};  // its depth does not count
};

class Session {
 public:
  explicit Session(const Setup& setup);

  // The step on both sides; compares what it returned and what it touched.
  std::optional<Failure> run(const Step& step);
  // Compares everything.
  std::optional<Failure> check_whole();
  // Unmounts, e2fsck, mounts each image by the other side: the same trees again. Then deletes everything and
  // compares the free figures.
  std::optional<Failure> finish();

  // What the kernel's ext4 returned last.
  [[nodiscard]] const Returned& last() const { return last_; }
  // The kernel's mount, for the generator to see what there is.
  [[nodiscard]] const Tree& tree() const { return tree_; }
  [[nodiscard]] std::string log() const;
  [[nodiscard]] std::uint64_t free_percent() const;

 private:
  enum class Next { kSame, kSwapped };

  void note_unsure(const Step& step);
  bool is_left_out(const Step& step, const Circumstances& there);
  bool would_hurt_the_kernel(const Step& step);
  [[nodiscard]] std::uint64_t kernel_attributes(const std::string& path, int slot);
  [[nodiscard]] Circumstances circumstances(const Step& step);
  std::optional<Failure> run_all(const std::vector<Step>& steps);
  std::optional<Failure> compare_step(const Step& step, const Circumstances& there, const Returned& first,
                                      const Returned& second);
  std::optional<Failure> check_touched(const Step& step, const Returned& returned);
  std::optional<Failure> check_trace(const Step& step, const Returned& returned, const std::string& path,
                                     const std::array<std::optional<Entry>, 2>& found);
  std::optional<Failure> check_free();
  std::optional<Failure> mount_again(Next next);
  std::optional<Failure> kernel_reads(const Tree& ours);
  std::optional<Failure> delete_everything();
  [[nodiscard]] Comparison comparison() const { return {timeline_, rules_, unsure_}; }
  [[nodiscard]] Look look(Depth depth) const {
    Look look = setup_.look;
    look.depth = depth;
    return look;
  }
  Mounted& side(std::size_t image) { return *sides_[image]; }
  // With the kernel on both sides the second is the judge.
  [[nodiscard]] std::size_t kernels_image() const { return servers_[1] == Server::kKernel ? 1 : 0; }
  // Adds who served what.
  [[nodiscard]] std::optional<Failure> signed_by(std::optional<Failure> failure) const;

  Setup setup_;
  std::array<Server, 2> servers_;  // of image 0 and 1
  Timeline timeline_;
  VolumeRules rules_;
  UnsureInodes unsure_;
  Returned last_;
  Tree tree_;
  Watchdog watchdog_;
  std::array<std::unique_ptr<Mounted>, 2> sides_;  // after the watchdog: unmounted before it ends
};

}  // namespace fuse4fs::oracle
