// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/rogue/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "tests/hostile/rogue/attempt.h"
#include "tests/hostile/rogue/outside.h"

namespace fuse4fs::rogue {
namespace {

constexpr std::array<std::string_view, 4> kColumns{"standalone", "standalone-behind", "service",
                                                   "service-behind"};
enum Column : std::size_t { kStandalone, kStandaloneBehind, kService, kServiceBehind };
constexpr std::string_view kBegin = "<!-- rogue: table begins (tests/hostile/rogue/README.md) -->\n";
constexpr std::string_view kEnd = "<!-- rogue: table ends -->\n";

using Row = std::array<std::string, kColumns.size()>;
using Rows = std::map<std::string, Row, std::less<>>;

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
  return fields;
}

Rows read_rows(const std::string& path) {
  Rows rows;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto fields = fields_of(line);
    if (fields.empty() || fields[0].starts_with('#')) continue;
    Row& row = rows[fields[0]];
    for (std::size_t i = 1; i < fields.size() && i <= row.size(); ++i)
      row[i - 1] = fields[i] == "-" ? "" : fields[i];
  }
  return rows;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

std::string_view first_layer(const Attempt& attempt) {
  switch (attempt.expected) {
    case Expected::kKilled:
      return "system-call filter";
    case Expected::kErrno:
      return "";
    case Expected::kRefused:
    case Expected::kEnded:
      return "";
    case Expected::kAllowed:
      return "**allowed**";
  }
  return "";
}

// "system-call filter; behind it: no capabilities". For what needs no filter the layer is the one that is
// named.
std::string layers_of(const Attempt& attempt) {
  const auto first = first_layer(attempt);
  if (first.empty()) return std::string(attempt.behind.layers);
  if (attempt.expected == Expected::kAllowed) return fmt::format("{}: {}", first, attempt.behind.layers);
  if (attempt.behind.alone == Behind::Alone::kYes)
    return fmt::format("{}; without it: {}", first, attempt.behind.layers);
  return fmt::format("{}; {}", first, attempt.behind.layers);
}

std::string cell(const Row& row, Column with, Column behind) {
  if (row[with].empty()) return "not run";
  return row[behind].empty() ? row[with] : fmt::format("{}; {}", row[with], row[behind]);
}

std::string escaped(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.replace(at, 1, "\\|");
  return text;
}

std::string table_of(const Rows& rows) {
  std::size_t total = 0;
  for (const Theme& theme : themes()) total += theme.attempts.size();
  std::string text = fmt::format("{} attempts.\n", total);
  for (const Theme& theme : themes()) {
    text += fmt::format(
        "\n### {}\n\n| attempt | layers | standalone | service |\n| --- | --- | --- | --- |\n", theme.title);
    for (const Attempt& attempt : theme.attempts) {
      const auto found = rows.find(attempt.name);
      const Row row = found == rows.end() ? Row{} : found->second;
      text += fmt::format("| {} | {} | {} | {} |\n", escaped(attempt.what), escaped(layers_of(attempt)),
                          escaped(cell(row, kStandalone, kStandaloneBehind)),
                          escaped(cell(row, kService, kServiceBehind)));
    }
  }
  return text;
}

// The document with `table` between its marks.
std::optional<std::string> with_table(const std::string& document, const std::string& table) {
  const auto begin = document.find(kBegin);
  const auto end = document.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) return std::nullopt;
  return document.substr(0, begin + kBegin.size()) + table + document.substr(end);
}

// What must hold of the recorded results whatever machine they come from.
int complaints_about(const Rows& rows) {
  int complaints = 0;
  const auto complain = [&](std::string_view name, std::string_view what) {
    fmt::print("seen.tsv: {}: {}\n", name, what);
    ++complaints;
  };
  for (const Theme& theme : themes())
    for (const Attempt& attempt : theme.attempts) {
      const auto found = rows.find(attempt.name);
      if (found == rows.end() || found->second[kStandalone].empty()) {
        complain(attempt.name, "never run standalone");
        continue;
      }
      for (const Column column : {kStandalone, kService}) {
        const std::string& seen = found->second[column];
        if (!seen.empty() && seen.starts_with("works") != (attempt.expected == Expected::kAllowed))
          complain(attempt.name, "what was seen is not what the table of attempts says");
      }
    }
  for (const auto& [name, row] : rows)
    if (find_attempt(name) == nullptr) complain(name, "there is no such attempt");
  return complaints;
}

}  // namespace

int merge_results(const std::string& seen, const std::string& results, const std::string& column) {
  const auto* const found = std::ranges::find(kColumns, column);
  if (found == kColumns.end()) {
    fmt::print("--column: no such column\n");
    return 1;
  }
  const auto index = static_cast<std::size_t>(found - kColumns.begin());
  Rows rows = read_rows(seen);
  for (auto& [name, row] : rows) row[index].clear();
  std::ifstream file(results);
  for (std::string line; std::getline(file, line);)
    if (const auto fields = fields_of(line); fields.size() == 2) rows[fields[0]][index] = fields[1];
  std::ofstream out(seen, std::ios::trunc);
  out << "# attempt\t" << fmt::format("{}", fmt::join(kColumns, "\t")) << '\n';
  for (const Theme& theme : themes())
    for (const Attempt& attempt : theme.attempts) {
      const Row& row = rows[attempt.name];
      out << attempt.name;
      for (const std::string& text : row) out << '\t' << or_dash(text);
      out << '\n';
    }
  return out.good() ? 0 : 1;
}

int write_document(const std::string& seen, const std::string& document) {
  const auto made = with_table(outside::contents_of(document), table_of(read_rows(seen)));
  if (!made) {
    fmt::print("{}: the marks of the table are missing\n", document);
    return 1;
  }
  std::ofstream file(document, std::ios::binary | std::ios::trunc);
  file << *made;
  return file.good() ? 0 : 1;
}

int check_document(const std::string& seen, const std::string& document) {
  const Rows rows = read_rows(seen);
  int complaints = complaints_about(rows);
  const std::string present = outside::contents_of(document);
  if (const auto made = with_table(present, table_of(rows)); !made || *made != present) {
    fmt::print("{} is not what tests/hostile/rogue/seen.tsv and the attempts make of it: run update-table\n",
               document);
    ++complaints;
  }
  return complaints == 0 ? 0 : 1;
}

}  // namespace fuse4fs::rogue
