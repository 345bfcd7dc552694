// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs: mounts ext4 through the contained server. See mount_command.h.
#include "helper/program.h"

int main(int argc, char** argv) { return fuse4fs::helper::run_program(argc, argv); }
