// SPDX-License-Identifier: GPL-2.0-or-later
// Mutated images through the real helper: each is refused in words, or served to its end; the file does not
// grow, and a new file that was written and fsynced is there after another mount. In memory there are many
// more of them: tests/hostile/images.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::Not;

// Written, fsynced and closed, each with success.
bool write_durably(const fs::path& path, const std::string& content) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  return file &&
         ::write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()) &&
         ::fsync(file.get()) == 0;
}

constexpr const char* kUse = R"(
cd "$1" || exit 0
ls -lR . | head -n 500
cat * >/dev/null
for f in *; do getfattr -d "$f"; truncate -s 100 "$f"; mv "$f" "moved $f"; done
mkdir made
rm -rf moved*
)";

class Mutated : public MountTest, public testing::WithParamInterface<int> {
 protected:
  static constexpr int kAtOnce = 15;

  void try_image(int number) {
    const auto image = scratch() / "image";
    const Finished made = run({FUSE4FS_IMAGES, "--write", std::to_string(number), image});
    ASSERT_EQ(made.status, 0) << made.output;
    struct stat before{};
    ASSERT_EQ(::stat(image.c_str(), &before), 0);
    const std::string content(50'000, 'n');
    bool written = false;
    for (int round = 0; round < 2; ++round) {
      const Finished mounted = mount(image, "errors=continue");
      if (mounted.status != 0) {
        EXPECT_THAT(mounted.output, Not(IsEmpty()));
        EXPECT_FALSE(written) << "what was unmounted well can be mounted again: " << mounted.output;
      } else {
        ASSERT_NO_FATAL_FAILURE(use(content, round, written));
      }
      EXPECT_TRUE(server_ends());
      ASSERT_TRUE(is_free(image));
      struct stat after{};
      ASSERT_EQ(::stat(image.c_str(), &after), 0);
      EXPECT_EQ(after.st_size, before.st_size);
      if (!written) break;
      read_back_ += round;
    }
    fs::remove(image);
  }

  int read_back_ = 0;  // images whose new file was

 private:
  void use(const std::string& content, int round, bool& written) {
    const auto server_then = server();
    ASSERT_TRUE(server_then);
    const auto file = mount_point() / "new file";
    if (round == 0) {
      written = write_durably(file, content);
      // Whatever comes of it; but nowhere else, should the root not be one.
      (void)run({"timeout", "60", "sh", "-c", kUse, "sh", mount_point()});
      written = written && write_durably(mount_point() / "later file", content);
    } else {
      EXPECT_EQ(contents_of(mount_point() / "later file"), content);
    }
    EXPECT_EQ(server(), server_then) << "the server ended: " << log();
    const Finished unmounted = unmount();
    EXPECT_EQ(unmounted.status, 0) << unmounted.output;
    written = written && unmounted.status == 0;
  }
};

TEST_P(Mutated, IsRefusedInWordsOrServedToItsEnd) {
  for (int number = GetParam(); number < GetParam() + kAtOnce; ++number) {
    SCOPED_TRACE(number);
    ASSERT_NO_FATAL_FAILURE(try_image(number));
  }
  // Else this tests nothing.
  EXPECT_GT(read_back_, kAtOnce / 4);
}

INSTANTIATE_TEST_SUITE_P(Images, Mutated, testing::Values(0, 15, 30, 45));

}  // namespace
}  // namespace fuse4fs::test
