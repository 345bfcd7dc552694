# SPDX-License-Identifier: GPL-2.0-or-later
# Boots a user-mode Linux with the tree as its root (hostfs). Sourced by run.
# What takes a memory controller, AppArmor, udev, device mapper targets and root's full capabilities, whatever this machine's
# kernel has. uml-* and the like are of the first boot: AppArmor is on, and no profile loaded but by its case. udev-* have a boot
# with udev and disks, kernel-* one with a disk to write on.
user_mode_cases="20-sandbox 55-memory uml-apparmor uml-faults udev-fstab"
modules=/usr/lib/uml/modules

prepare_user_mode() { # CASE...
  prepare_kernel_root /shared/said "$@"
  [ ! -d "$modules" ] || { mkdir -p "$root/usr/lib/modules"; cp -a "$modules"/* "$root/usr/lib/modules/"; }
}

# Boots, runs the cases, and waits for the end.
boot_user_mode() { # CASES KERNEL-ARGUMENT...
  local status=0 started=$SECONDS cases=$1
  shift
  timeout "$boot_seconds" "$kernel" mem=1G root=/dev/root rootfstype=hostfs rootflags="$root" rw quiet con=null con0=null,fd:1 \
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
  # shellcheck disable=SC2086 # one word a case
  judge_cases "$root/shared/said" $cases
}

run_user_mode() { # CASE...
  local name first= second= third=
  for name; do
    case $name in
      udev-*) second="$second $name" ;;
      kernel-*) third="$third $name" ;;
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
  if [ -n "$third" ]; then
    # shellcheck disable=SC2086
    case_seconds=3600
    boot_seconds=14400
    prepare_user_mode $third
    boot_user_mode "$third" systemd.mask=systemd-udevd.service "ubdb=$(make_scratch_disk)"
  fi
}
