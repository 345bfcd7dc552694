// SPDX-License-Identifier: GPL-2.0-or-later
// /etc/fstab, read by libmount, and what its sources mean at this moment.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "helper/user_mount_policy.h"

namespace fuse4fs::helper {

// Empty where there is no such file. Lines that libmount cannot read are left out.
Result<std::vector<FstabLine>> read_fstab();

// The device or the file that a source (a path, LABEL=, UUID=, …) means: from the root, links followed, but
// /dev/mapper's names kept. Empty if nothing.
std::string meaning_of_source(const std::string& source);

}  // namespace fuse4fs::helper
