# SPDX-License-Identifier: GPL-2.0-or-later
# Cases under a kernel of its own, a user-mode Linux with the tree as its root: what takes a memory controller, AppArmor, udev,
# device mapper targets and root's full capabilities, whatever this machine's kernel has. Sourced by run.
modules=/usr/lib/uml/modules
# Those of the first boot: AppArmor is on, and no profile loaded but by its case. udev-* have a boot with udev and disks.
user_mode_cases="20-sandbox 55-memory uml-apparmor uml-faults udev-fstab"

prepare_user_mode() {
  prepare_root
  install_ours
  [ ! -d "$modules" ] || { mkdir -p "$root/usr/lib/modules"; cp -a "$modules"/* "$root/usr/lib/modules/"; }
  cp -r "$here" "$root/tests"
  mkdir "$root/shared"
  cp -r "$top/policy/apparmor" "$root/shared/apparmor"
  cat >"$root/etc/systemd/system/vm-cases.service" <<UNIT
[Unit]
After=multi-user.target fuse4fs.socket
Requires=fuse4fs.socket
[Service]
Type=oneshot
ExecStart=/bin/sh /tests/run-inside $*
StandardOutput=file:/shared/said
StandardError=file:/shared/said
ExecStopPost=systemctl --no-block poweroff
TimeoutStartSec=infinity
UNIT
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
  ln -s ../vm-cases.service "$root/etc/systemd/system/multi-user.target.wants/vm-cases.service"
}

# Boots, runs the cases, and waits for the end.
boot_user_mode() { # CASES KERNEL-ARGUMENT...
  local name status=0 started=$SECONDS cases=$1
  shift
  timeout 1500 "$kernel" mem=768M root=/dev/root rootfstype=hostfs rootflags="$root" rw quiet con=null con0=null,fd:1 \
    init=/usr/lib/systemd/systemd systemd.unit=multi-user.target "$@" </dev/null >"$work/console" 2>&1 || status=$?
  cat "$root/shared/said" 2>/dev/null || true
  if ! [ -e "$root/shared/booted" ]; then
    tail -n 20 "$work/console"
    # Of the floating-point state it saves a fixed size, and AMX makes it larger.
    ! grep -q 'put_fp_registers' "$work/console" || ! grep -qw amx_tile /proc/cpuinfo ||
      skip "$kernel cannot run programs on a processor with AMX (panic in put_fp_registers)"
    skip "$kernel does not boot the tree here (status $status)"
  fi
  echo "user-mode Linux, from boot to end: $((SECONDS - started)) s"
  for name in $cases; do
    grep -q -e "^ok      $name " -e "^SKIPPED $name:" "$root/shared/said" || failed="$failed $name"
  done
}

run_user_mode() { # CASE...
  local name first= second= failed=
  for name in ${*:-$user_mode_cases}; do
    case $name in
      udev-*) second="$second $name" ;;
      *) first="$first $name" ;;
    esac
  done
  if [ -n "$first" ]; then
    # shellcheck disable=SC2086 # one word a case
    prepare_user_mode $first
    boot_user_mode "$first" systemd.mask=systemd-udevd.service apparmor=1 security=apparmor
  fi
  if [ -n "$second" ]; then
    # shellcheck disable=SC2086
    prepare_user_mode $second
    mkdir "$work/disks"
    sh -eu "$here/udev-setup" "$root" "$work/disks"
    boot_user_mode "$second" "ubdb=$work/disks/at-boot" "ubdc=$work/disks/disk"
    if [ -z "$failed" ]; then
      for name in $second; do
        [ ! -e "$here/cases/$name.after" ] || sh -eu "$here/cases/$name.after" "$work/disks" || failed="$failed $name.after"
      done
    fi
  fi
  [ -z "$failed" ] || fail "$failed"
  echo "all passed in $SECONDS s"
}
