# SPDX-License-Identifier: GPL-2.0-or-later
# Cases under a kernel that is given: the tree as its root, what was built in it, and the cases as a unit of its systemd.
# Sourced by run; user-mode.bash and qemu.bash are the two ways to boot.

kernel_kind() { # FILE: prints user-mode or bzimage, or nothing
  if [ "$(od -A n -j 510 -N 2 -t x2 "$1" | tr -d ' ')" = aa55 ] && [ "$(od -A n -j 514 -N 4 -c "$1" | tr -d ' ')" = HdrS ]; then
    echo bzimage
  elif [ -x "$1" ] && [ "$(od -A n -N 4 -c "$1" | tr -d ' ')" = 177ELF ] &&
    timeout 10 "$1" --showconfig </dev/null 2>/dev/null | grep -qx CONFIG_UML=y; then
    echo user-mode
  fi
}

# The programs of the tests find each other by the paths that they were built with: run-inside puts them there.
install_tests() {
  local file
  for file in sbin/mount.fuse4fs libexec/fuse4fs/fuse4fs tests/mount/mount_tests tests/hostile/images/images \
    tests/oracle/oracle tests/oracle/exerciser tests/crash/cuts tests/bench/metadata_load; do
    [ ! -e "$build/$file" ] || install -D "$build/$file" "$root/built/$file"
  done
  cp -r "$top/tests/bench" "$root/tests/bench"
}

# SAID: where the unit writes what run-inside prints. The longest time is for each case.
prepare_kernel_root() { # SAID CASE...
  local said=$1
  shift
  prepare_root
  install_ours
  cp -r "$here" "$root/tests"
  install_tests
  mkdir "$root/shared"
  cp -r "$top/policy/apparmor" "$root/shared/apparmor"
  cat >"$root/etc/systemd/system/vm-cases.service" <<UNIT
[Unit]
After=multi-user.target fuse4fs.socket
Requires=fuse4fs.socket
[Service]
Type=oneshot
Environment=FUSE4FS_BUILD=$build FUSE4FS_VM_CASE_SECONDS=$case_seconds
ExecStart=/bin/sh /tests/run-inside $*
StandardOutput=file:$said
StandardError=file:$said
ExecStopPost=systemctl --no-block poweroff
TimeoutStartSec=infinity
LimitNOFILE=65536
UNIT
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
  ln -s ../vm-cases.service "$root/etc/systemd/system/multi-user.target.wants/vm-cases.service"
}

# A disk for what the tests write, on the machine's own disk and not in its memory.
make_scratch_disk() { # prints its name
  truncate -s 12G "$work/scratch"
  mkfs.ext4 -q -F -L vm-scratch -E lazy_itable_init=1,lazy_journal_init=1 "$work/scratch"
  echo "$work/scratch"
}

# What the unit has said, on standard output; whoever is missing in it has failed.
judge_cases() { # FILE CASE...
  local said=$1 name
  shift
  for name; do
    grep -q -e "^ok      $name " -e "^SKIPPED $name:" "$said" || failed="$failed $name"
  done
}

run_kernel() { # PATTERN...
  local cases=
  failed=
  # The longest time, for machines that hang and not for slow ones.
  case_seconds=600
  boot_seconds=1500
  if [ "$kind" = user-mode ]; then
    source "$here/user-mode.bash"
    # shellcheck disable=SC2086 # one word a case
    [ $# -gt 0 ] || set -- $user_mode_cases 'kernel-*'
    cases=$(matching_cases "$@")
    # shellcheck disable=SC2086
    run_user_mode $cases
  else
    source "$here/qemu.bash"
    [ $# -gt 0 ] || set -- 'kernel-*'
    cases=$(matching_cases "$@")
    case_seconds=3600
    boot_seconds=14400
    # shellcheck disable=SC2086
    run_qemu $cases
  fi
  [ -z "$failed" ] || fail "$failed"
  echo "all passed in $SECONDS s"
}
