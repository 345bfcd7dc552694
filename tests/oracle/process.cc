// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "base/unique_fd.h"

namespace fuse4fs::oracle {

Ran run(const std::vector<std::string>& command) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return {.status = 127, .output = command[0] + " cannot be started"};

  writing.reset();
  Ran ran;
  std::array<char, 4096> chunk{};
  for (ssize_t bytes; (bytes = ::read(reading.get(), chunk.data(), chunk.size())) > 0;)
    ran.output.append(chunk.data(), static_cast<std::size_t>(bytes));
  int status = 0;
  ::waitpid(child, &status, 0);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

std::string contents_of(const std::filesystem::path& path) {
  std::ostringstream contents;
  contents << std::ifstream(path, std::ios::binary).rdbuf();
  return contents.str();
}

void copy_image(const std::filesystem::path& from, const std::filesystem::path& to) {
  const Ran copied = run({"cp", "--sparse=always", "--reflink=never", from, to});
  if (copied.status != 0) throw std::runtime_error(copied.output);
}

}  // namespace fuse4fs::oracle
