// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel shows as command line what stands where it put the arguments, and, if the byte behind them is no
// longer zero, goes on into the environment behind. So the environment moves elsewhere and its place is used
// as well. (prctl(PR_SET_MM) would do the same, but wants CAP_SYS_RESOURCE.)
#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "server/sandbox/sandbox.h"

namespace fuse4fs::sandbox {
namespace {

std::span<char> title_area;

// The moved environment: strings and the array of pointers to them. Lives as long as the process.
struct Environment {
  std::vector<std::string> strings;
  std::vector<char*> pointers;
};

}  // namespace

void set_title_area(int argc, char** argv) {
  if (argc < 1 || argv[0] == nullptr) return;
  char* const start = argv[0];
  char* end = start;
  // Somebody may have put strings from elsewhere into argv or environ: only what follows without a gap
  // counts.
  const auto extend_over = [&end](const char* text) {
    if (text == end) end += std::strlen(text) + 1;
  };
  for (int i = 0; i < argc; ++i) extend_over(argv[i]);

  static Environment moved;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    extend_over(*variable);
    moved.strings.emplace_back(*variable);
  }
  for (std::string& text : moved.strings) moved.pointers.push_back(text.data());
  moved.pointers.push_back(nullptr);
  environ = moved.pointers.data();

  // glibc puts these into its messages; they point into argv[0].
  static char name[] = "fuse4fs";
  program_invocation_name = name;
  program_invocation_short_name = name;
  title_area = {start, static_cast<std::size_t>(end - start)};
}

void set_title(const std::string& title) {
  if (title_area.empty()) return;
  const std::size_t length = std::min(title.size(), title_area.size() - 1);
  std::ranges::copy_n(title.begin(), static_cast<std::ptrdiff_t>(length), title_area.begin());
  std::ranges::fill(title_area.subspan(length), '\0');
}

}  // namespace fuse4fs::sandbox
