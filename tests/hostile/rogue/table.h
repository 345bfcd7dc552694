// SPDX-License-Identifier: GPL-2.0-or-later
// What was seen, kept in seen.tsv (one line an attempt, one column a way of running it), and the table that
// docs/security.md shows of it.
#pragma once

#include <string>

namespace fuse4fs::rogue {

// Each returns an exit status, and says on standard output what is wrong.
int merge_results(const std::string& seen, const std::string& results, const std::string& column);
int write_document(const std::string& seen, const std::string& document);
int check_document(const std::string& seen, const std::string& document);

}  // namespace fuse4fs::rogue
