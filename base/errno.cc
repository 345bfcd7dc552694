// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/errno.h"

#include <system_error>

namespace fuse4fs {

std::string Errno::message() const { return std::generic_category().message(value_); }

}  // namespace fuse4fs
