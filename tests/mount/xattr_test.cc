// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes and ACLs on our mount and on one of the kernel's ext4: the same calls come to the same.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// What a call came to, in one line.
std::string outcome(ssize_t result) {
  if (result < 0) return ::strerrorname_np(errno);
  return std::to_string(result);
}

std::string get(const fs::path& path, const std::string& name, std::size_t room = 65536) {
  std::string value(room, '\0');
  const ssize_t got = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (got < 0 || room == 0) return outcome(got);
  return outcome(got) + " " +
         std::to_string(std::hash<std::string>()(value.substr(0, static_cast<std::size_t>(got))));
}

std::string list(const fs::path& path) {
  std::string names(65536, '\0');
  const ssize_t got = ::llistxattr(path.c_str(), names.data(), names.size());
  if (got < 0) return outcome(got);
  names.resize(static_cast<std::size_t>(got));
  std::ranges::replace(names, '\0', ' ');
  return names;
}

std::vector<std::string> names_of(const fs::path& path) {
  std::vector<std::string> names;
  std::string rest = list(path);
  for (std::size_t blank; (blank = rest.find(' ')) != std::string::npos; rest.erase(0, blank + 1))
    names.push_back(rest.substr(0, blank));
  return names;
}

std::string mode(const fs::path& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return outcome(-1);
  char text[16];
  std::snprintf(text, sizeof text, "%o", status.st_mode);
  return text;
}

// Everything about the attributes of everything below, and the blocks that they take.
std::map<std::string, std::string> attributes_below(const fs::path& root) {
  std::map<std::string, std::string> found;
  const auto add = [&](const fs::path& path) {
    struct stat status{};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    std::string words = mode(path) + " " + list(path);
    for (const auto& name : names_of(path)) words += " " + get(path, name);
    if (!S_ISDIR(status.st_mode)) words += " blocks " + std::to_string(status.st_blocks);
    found[path.lexically_relative(root)] = words;
  };
  add(root);
  for (const auto& entry : fs::recursive_directory_iterator(root)) add(entry.path());
  return found;
}

void expect_same(const std::map<std::string, std::string>& found,
                 const std::map<std::string, std::string>& wanted) {
  EXPECT_EQ(found.size(), wanted.size());
  for (const auto& [path, words] : wanted) {
    const auto at = found.find(path);
    EXPECT_EQ(at == found.end() ? "nothing" : at->second, words) << path;
  }
}

// One random call after another, the same for the same seed.
class Steps {
 public:
  // kAttributes: what a file or directory holds stays.
  enum class Kinds { kAttributes, kAll };
  Steps(std::uint32_t seed, Kinds kinds) : random_(seed), kinds_(kinds) {}

  struct Step {
    std::string words;
    std::function<std::string(const fs::path& root)> call;
  };
  Step next() {
    const std::string object = pick(kObjects);
    switch (below(kinds_ == Kinds::kAll ? 14 : 12)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return set(object);
      case 5:
      case 6: {
        const std::string name = some_name();
        return {"remove " + name + " of " + object, [=](const fs::path& root) {
                  return outcome(::lremovexattr((root / object).c_str(), name.c_str()));
                }};
      }
      case 7: {
        const std::string name = some_name();
        const std::size_t room = below(2) == 0 ? 65536 : below(300);
        return {"get " + name + " of " + object + " into " + std::to_string(room),
                [=](const fs::path& root) { return get(root / object, name, room); }};
      }
      case 8:
      case 9:
        return set_acl(object);
      case 10: {
        const mode_t wanted = below(010000);
        return {"chmod " + std::to_string(wanted) + " of " + object, [=](const fs::path& root) {
                  return outcome(::fchmodat(AT_FDCWD, (root / object).c_str(), wanted, 0));
                }};
      }
      case 11: {
        const std::size_t room = below(200);
        return {"list " + object + " into " + std::to_string(room), [=](const fs::path& root) {
                  std::string names(room, '\0');
                  return outcome(::llistxattr((root / object).c_str(), names.data(), room));
                }};
      }
      case 12:
        return make();
      default: {
        const std::string text(below(300), 't');
        return {"write " + std::to_string(text.size()) + " bytes to small", [=](const fs::path& root) {
                  const UniqueFd file(::open((root / "small").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
                  return outcome(::write(file.get(), text.data(), text.size()));
                }};
      }
    }
  }

  static void prepare(const fs::path& root) {
    write_file(root / "file", "content");
    write_file(root / "small", "s");
    ASSERT_EQ(::mkdir((root / "directory").c_str(), 0755), 0);
    ASSERT_EQ(::symlink("file", (root / "link").c_str()), 0);
    ASSERT_EQ(::mkfifo((root / "fifo").c_str(), 0644), 0);
  }

 private:
  using Words = std::vector<std::string>;
  inline static const Words kObjects{"file", "small", "directory", "link", "fifo", "file", "directory", ""};
  inline static const Words kNames{"user.a",
                                   "user.b",
                                   "user.name_of_some_length",
                                   "trusted.a",
                                   "trusted.overlay.opaque",
                                   "security.something",
                                   "gnu.translator",
                                   "user.",
                                   "system.data",
                                   "system.posix_acl_access",
                                   "system.posix_acl_default",
                                   "unknown.x",
                                   "user",
                                   "security.capability",
                                   "user.\xc3\xa4"};

  unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }
  const std::string& pick(const Words& words) { return words[below(static_cast<unsigned>(words.size()))]; }
  std::string some_name() {
    if (below(4) == 0) return "user.number_" + std::to_string(below(30));
    if (below(40) == 0) return "user." + std::string(245 + below(8), 'n');
    return pick(kNames);
  }

  Step set(const std::string& object) {
    static constexpr unsigned kLengths[]{4, 30, 100, 100, 300, 1000, 4000, 9000, 66000};
    std::string value(below(kLengths[below(std::size(kLengths))]), '\0');
    for (char& byte : value) byte = static_cast<char>(random_());
    const int flags = below(2) == 0 ? 0 : static_cast<int>(below(4));
    std::string name = some_name();
    // What it must look like is the kernel's business, before it comes to the file system.
    if (name == "security.capability") name = "security.other";
    return {"set " + name + " of " + object + " to " + std::to_string(value.size()) + " bytes, flags " +
                std::to_string(flags),
            [=](const fs::path& root) {
              return outcome(
                  ::lsetxattr((root / object).c_str(), name.c_str(), value.data(), value.size(), flags));
            }};
  }

  Step set_acl(const std::string& object) {
    std::string acl("\2\0\0\0", 4);
    const auto add = [&](unsigned tag, std::uint32_t id) {
      const std::uint16_t fields[]{static_cast<std::uint16_t>(tag), static_cast<std::uint16_t>(below(8))};
      acl.append(reinterpret_cast<const char*>(fields), sizeof fields);
      acl.append(reinterpret_cast<const char*>(&id), sizeof id);
    };
    add(0x01, UINT32_MAX);
    const unsigned users = below(3) == 0 ? 0 : below(12);
    for (unsigned i = 0; i < users; ++i) add(0x02, i + 1000);
    add(0x04, UINT32_MAX);
    if (below(3) == 0) add(0x08, 2000);
    if (users != 0 || below(8) != 0) add(0x10, UINT32_MAX);
    if (below(20) != 0) add(0x20, UINT32_MAX);
    const std::string name = below(2) == 0 ? "system.posix_acl_access" : "system.posix_acl_default";
    return {"set " + name + " of " + object + " with " + std::to_string(acl.size() / 8) + " entries",
            [=](const fs::path& root) {
              const fs::path path = root / object;
              return outcome(::lsetxattr(path.c_str(), name.c_str(), acl.data(), acl.size(), 0));
            }};
  }

  Step make() {
    const mode_t mask = below(01000);
    const mode_t wanted = below(01000);
    const std::string name = "directory/made_" + std::to_string(++made_);
    const bool is_directory = below(2) == 0;
    return {"make " + name + (is_directory ? ", a directory" : ""), [=](const fs::path& root) {
              const mode_t old = ::umask(mask);
              const auto done = is_directory ? ::mkdir((root / name).c_str(), wanted)
                                             : ::mknod((root / name).c_str(), S_IFREG | wanted, 0);
              const auto words = outcome(done);
              ::umask(old);
              return words + " " + mode(root / name) + " " + list(root / name);
            }};
  }

  std::mt19937 random_;
  Kinds kinds_;
  unsigned made_ = 0;
};

class XattrMount : public MountTest {
 protected:
  // A second mount, by the kernel's ext4.
  [[nodiscard]] fs::path kernels() const { return scratch() / "kernels"; }
  void mount_kernels(const fs::path& image) {
    fs::create_directories(kernels());
    const auto mounted = run({"mount", "-t", "ext4", "-o", "loop", image, kernels()});
    ASSERT_EQ(mounted.status, 0) << mounted.output;
  }
  void unmount_kernels(const fs::path& image) {
    ASSERT_EQ(run({"umount", kernels()}).status, 0);
    ASSERT_TRUE(is_free(image));
  }
  ~XattrMount() override { run({"umount", "-l", kernels()}); }
};

class XattrsLikeTheKernel : public XattrMount, public testing::WithParamInterface<const char*> {};

TEST_P(XattrsLikeTheKernel, CallByCall) {
  Command arguments;
  std::string words = GetParam();
  for (std::size_t blank; (blank = words.find(' ')) != std::string::npos; words.erase(0, blank + 1))
    arguments.push_back(words.substr(0, blank));
  arguments.push_back(words);
  // We make no such files ourselves: the kernel makes them for both, and they must stay where they are.
  const bool is_inline = std::string_view(GetParam()).find("inline_data") != std::string_view::npos;
  for (const std::uint32_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto theirs = make_image("64M", arguments, "theirs");
    mount_kernels(theirs);
    Steps::prepare(kernels());
    unmount_kernels(theirs);
    const auto ours = is_inline ? scratch() / "ours" : make_image("64M", arguments, "ours");
    if (is_inline) fs::copy_file(theirs, ours, fs::copy_options::overwrite_existing);
    mount_or_fail(ours);
    if (!is_inline) Steps::prepare(mount_point());
    mount_kernels(theirs);
    Steps steps(seed, is_inline ? Steps::Kinds::kAttributes : Steps::Kinds::kAll);
    std::string history;
    for (int i = 0; i < 500; ++i) {
      const auto step = steps.next();
      const auto got = step.call(mount_point());
      const auto wanted = step.call(kernels());
      history += step.words + ": " + wanted + "\n";
      ASSERT_EQ(got, wanted) << history.substr(history.size() - std::min<std::size_t>(history.size(), 2000));
      for (const char* const object : {"", "file", "small", "directory", "link", "fifo"}) {
        ASSERT_EQ(list(mount_point() / object), list(kernels() / object))
            << object << " after " << step.words;
        ASSERT_EQ(mode(mount_point() / object), mode(kernels() / object))
            << object << " after " << step.words;
      }
    }
    unmount_and_check(ours);
    unmount_kernels(theirs);
    // Each reads what the other wrote.
    mount_kernels(theirs);
    const auto wanted = attributes_below(kernels());
    unmount_kernels(theirs);
    mount_or_fail(theirs, "ro");
    expect_same(attributes_below(mount_point()), wanted);
    EXPECT_EQ(unmount().status, 0);
    mount_kernels(ours);
    expect_same(attributes_below(kernels()), wanted);
    unmount_kernels(ours);
    expect_clean(ours);
    // What is inside of inodes can still grow out of them, and all of it goes.
    mount_or_fail(ours);
    EXPECT_EQ(contents_of(mount_point() / "file"), "content");
    const auto kept = list(mount_point() / "file");
    UniqueFd file(::open((mount_point() / "file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    EXPECT_EQ(::write(file.get(), std::string(5000, 'm').data(), 5000), 5000);
    file.reset();
    EXPECT_EQ(contents_of(mount_point() / "file"), "content" + std::string(5000, 'm'));
    EXPECT_EQ(list(mount_point() / "file"), kept);
    for (int i = 0; i < 40; ++i)
      write_file(mount_point() / "directory" / ("grown_" + std::to_string(i)), "g");
    for (const auto& entry : fs::directory_iterator(mount_point())) {
      if (entry.path().filename() == "lost+found") continue;
      EXPECT_GT(fs::remove_all(entry.path()), 0U);
    }
    unmount_and_check(ours);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, XattrsLikeTheKernel,
                         testing::Values("-b 4096", "-b 1024", "-b 1024 -I 128",
                                         "-t ext2 -b 1024 -I 128 -O ^ext_attr", "-t ext3 -b 4096",
                                         "-b 4096 -O ^metadata_csum", "-b 4096 -O inline_data -I 256",
                                         "-b 1024 -O inline_data -I 1024", "-b 4096 -O ea_inode",
                                         "-b 1024 -O ea_inode -I 128",
                                         "-b 1024 -O ea_inode,inline_data,^metadata_csum",
                                         "-b 4096 -O bigalloc -C 16384 -N 4096"));

TEST_F(XattrMount, TheToolsWork) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "file";
  write_file(file, "x");
  EXPECT_EQ(run({"setfattr", "-n", "user.comment", "-v", "hello", file}).status, 0);
  EXPECT_EQ(run({"setfattr", "-n", "trusted.secret", "-v", "no", file}).status, 0);
  EXPECT_THAT(run({"getfattr", "-d", "-m", "-", file}).output,
              ::testing::AllOf(HasSubstr("user.comment=\"hello\""), HasSubstr("trusted.secret=\"no\"")));
  const auto by_another =
      run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "getfattr", "-d", "-m", "-", file});
  EXPECT_THAT(by_another.output, HasSubstr("user.comment"));
  EXPECT_THAT(by_another.output, ::testing::Not(HasSubstr("trusted")));
  EXPECT_EQ(run({"setfattr", "-x", "user.comment", file}).status, 0);
  EXPECT_THAT(run({"getfattr", "-n", "user.comment", file}).output, HasSubstr("No such attribute"));
  unmount_and_check(image);
}

TEST_F(XattrMount, WritingTakesCapabilitiesAway) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "program";
  write_file(file, "#!");
  ASSERT_EQ(::chmod(file.c_str(), 0777), 0);
  // CAP_NET_RAW, permitted and effective.
  const std::string capability("\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  const auto set = [&] {
    return ::setxattr(file.c_str(), "security.capability", capability.data(), capability.size(), 0);
  };
  ASSERT_EQ(set(), 0) << std::strerror(errno);
  EXPECT_EQ(list(file), "security.capability ");
  EXPECT_EQ(run({"sh", "-c", "echo more >>" + file.string()}).status, 0);
  EXPECT_EQ(list(file), "");
  ASSERT_EQ(set(), 0);
  ASSERT_EQ(::truncate(file.c_str(), 0), 0);
  EXPECT_EQ(list(file), "");
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
