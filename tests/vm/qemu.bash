# SPDX-License-Identifier: GPL-2.0-or-later
# Boots a bzImage under QEMU. Sourced by run.
# The tree is its initramfs: for that the kernel needs no driver but its serial port's. Modules are taken from where they are
# found; a disk to write on is offered, and where the kernel has no driver for it (virtio), memory takes its place.
modules=${FUSE4FS_VM_MODULES-}

kernel_release() { # of the bzImage, by its header
  local at
  at=$(od -A n -j 526 -N 2 -t u2 "$kernel")
  dd if="$kernel" bs=1 skip=$((at + 512)) count=200 2>/dev/null | tr '\0 ' '\n\n' | head -n 1
}

# Beside the kernel, as packages have it (boot/vmlinuz-*, lib/modules), or where FUSE4FS_VM_MODULES says.
find_modules() {
  local release candidate
  release=$(kernel_release)
  for candidate in "$modules" "$(dirname "$kernel")/../lib/modules" "$(dirname "$kernel")/../usr/lib/modules" /usr/lib/modules; do
    [ -z "$candidate" ] || [ ! -d "$candidate/$release" ] || { realpath "$candidate/$release"; return; }
  done
}

# The whole tree. Its /init steps onto a second mount of the same: what lies at the very bottom cannot be pivoted away from.
make_initramfs() {
  local from name folder
  from=$(find_modules)
  name=${from##*/}
  if [ -n "$from" ]; then
    # Of some thousand drivers these are enough.
    for folder in fs lib crypto arch drivers/block drivers/virtio drivers/md; do
      [ ! -d "$from/kernel/$folder" ] || {
        mkdir -p "$root/usr/lib/modules/$name/kernel/$folder"
        cp -a "$from/kernel/$folder/." "$root/usr/lib/modules/$name/kernel/$folder/"
      }
    done
    cp "$from"/modules.* "$root/usr/lib/modules/$name/"
    chroot "$root" depmod "$name" 2>/dev/null
  fi
  [ -c "$root/dev/console" ] || mknod "$root/dev/console" c 5 1
  cat >"$root/init" <<'INIT'
#!/bin/sh
mkdir -p /new
mount --bind / /new
cd /new
mount --move . /
exec chroot . /usr/lib/systemd/systemd
INIT
  chmod 755 "$root/init"
  chroot "$root" sh -c 'cd / && find . -xdev | cpio --quiet -o -H newc' >"$work/initramfs"
}

said_the_end() { grep -q '^end of the cases' "$work/said"; }
talks() { [ "$(wc -c <"$work/console")" -gt 1000 ]; }
qemu_gone() { case $(sed 's/.*) //' "/proc/$qemu/stat" 2>/dev/null) in "" | Z*) return 0 ;; esac; return 1; }

# By this accelerator, until the cases are through; whether they were begun.
boot_qemu() { # kvm | tcg
  : >"$work/said"
  : >"$work/console"
  $program -accel "$1" -cpu max,arch-capabilities=off -smp 2 -m 3G -nodefaults -display none -no-reboot \
    -kernel "$kernel" -initrd "$work/initramfs" -serial "file:$work/console" -serial "file:$work/said" \
    -drive "file=$work/scratch,format=raw,if=virtio" \
    -append "console=ttyS0 panic=-1 systemd.unit=multi-user.target systemd.mask=systemd-udevd.service" \
    </dev/null >"$work/qemu" 2>&1 &
  qemu=$!
  # Where this machine is a virtual one itself, KVM may be there and get nowhere.
  wait_until 90 eval 'qemu_gone || talks' || kill -KILL $qemu
  # A kernel without ACPI does not switch the machine off.
  wait_until "$boot_seconds" eval 'qemu_gone || said_the_end' || true
  wait_until 60 qemu_gone || kill -KILL $qemu
  { wait $qemu || true; } 2>/dev/null
  tr -d '\r' <"$work/said" >"$work/said-lines"
  grep -q '^booted' "$work/said-lines"
}

run_qemu() { # CASE...
  local started=$SECONDS program=qemu-system-x86_64 accelerators=tcg accelerator
  command -v $program >/dev/null || skip "$program is not installed (package qemu-system-x86)"
  [ ! -w /dev/kvm ] || accelerators="kvm tcg"
  prepare_kernel_root /dev/ttyS1 "$@"
  make_initramfs
  make_scratch_disk >/dev/null
  for accelerator in $accelerators; do
    if boot_qemu $accelerator; then
      cat "$work/said-lines"
      echo "QEMU ($accelerator), from boot to end: $((SECONDS - started)) s"
      judge_cases "$work/said-lines" "$@"
      return
    fi
    echo "not booted by $accelerator:"
    tail -n 20 "$work/qemu" "$work/console"
  done
  fail "$kernel does not boot the tree here"
}
