// SPDX-License-Identifier: GPL-2.0-or-later
// The kinds of images, and one image mounted by the kernel's ext4 or by ours.
//
// Errors are std::runtime_error: nothing can go on after them. A server that hangs is not noticed here (see
// watchdog.h).
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/oracle/executor.h"

namespace fuse4fs::oracle {

struct Kind {
  std::string_view name;
  std::string_view size;       // for mkfs
  std::string_view arguments;  // for mkfs, separated by spaces
  std::string_view about;
  // Of the kernel's image, where a kernel may be unable to write such a volume as ours. Empty: the same.
  std::string_view kernel_arguments{};
};
std::span<const Kind> kinds();
const Kind* find_kind(std::string_view name);

// Such a list of arguments, taken apart.
std::vector<std::string> words_of(std::string_view text);

void make_image(const Kind& kind, std::string_view arguments, const std::filesystem::path& image);

enum class Server { kOurs, kKernel };
enum class Writing { kAllowed, kForbidden };  // kForbidden: mounted read-only
std::string_view name_of(Server server);

class Mounted {
 public:
  // `point` is an empty directory. Ours logs to `point`.log.
  Mounted(Server server, std::filesystem::path image, std::filesystem::path point,
          Writing writing = Writing::kAllowed);
  ~Mounted();
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  // Closes everything and waits until the device is free. An empty string, or what went wrong: a sanitizer's
  // report, a server that died.
  std::string unmount();

  [[nodiscard]] Server server() const { return server_; }
  [[nodiscard]] const std::filesystem::path& image() const { return image_; }
  [[nodiscard]] const std::filesystem::path& point() const { return point_; }
  [[nodiscard]] int root() const { return files_.root.get(); }
  [[nodiscard]] OpenFiles& files() { return files_; }
  // The last lines of our server's log.
  [[nodiscard]] std::string log() const;

 private:
  Server server_;
  std::filesystem::path image_, point_;
  OpenFiles files_;
  UniqueFd process_;  // our server's pidfd
  bool mounted_ = false;
};

// What `e2fsck -fn` complains of; empty if nothing.
std::string complaints_about(const std::filesystem::path& image);

// A directory of its own below `parent`, which goes with all that is in it.
class Scratch {
 public:
  explicit Scratch(const std::filesystem::path& parent);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};
// Memory where there is any: many runs make many images.
std::filesystem::path usual_scratch();

// A mount namespace of its own, so that no other process's copy keeps a mount alive.
void enter_private_namespace();

}  // namespace fuse4fs::oracle
