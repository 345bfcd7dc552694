# SPDX-License-Identifier: GPL-2.0-or-later
# Cases under a kernel of its own, a user-mode Linux with the tree as its root: what takes a memory controller, device mapper
# targets and root's full capabilities, whatever this machine's kernel has. Sourced by run.
modules=/usr/lib/uml/modules

run_user_mode() { # CASE...
  local name cases status=0
  prepare_root
  install_ours
  [ ! -d "$modules" ] || { mkdir -p "$root/usr/lib/modules"; cp -a "$modules"/* "$root/usr/lib/modules/"; }
  cp -r "$here" "$root/tests"
  mkdir "$root/shared"
  cases=${*:-$(cd "$here/cases" && ls -d uml-* 20-sandbox)}
  cat >"$root/etc/systemd/system/vm-cases.service" <<UNIT
[Unit]
After=multi-user.target fuse4fs.socket
Requires=fuse4fs.socket
[Service]
Type=oneshot
ExecStart=/bin/sh /tests/run-inside $(echo $cases)
StandardOutput=file:/shared/said
StandardError=file:/shared/said
ExecStopPost=systemctl --no-block poweroff
TimeoutStartSec=infinity
UNIT
  ln -s ../vm-cases.service "$root/etc/systemd/system/default.target.wants/vm-cases.service" 2>/dev/null || {
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -s ../vm-cases.service "$root/etc/systemd/system/multi-user.target.wants/vm-cases.service"
  }
  timeout 600 "$kernel" mem=768M root=/dev/root rootfstype=hostfs rootflags="$root" rw quiet con=null con0=null,fd:1 \
    init=/usr/lib/systemd/systemd systemd.unit=multi-user.target systemd.mask=systemd-udevd.service \
    </dev/null >"$work/console" 2>&1 || status=$?
  cat "$root/shared/said" 2>/dev/null || true
  if ! [ -e "$root/shared/booted" ]; then
    tail -n 20 "$work/console"
    skip "$kernel does not boot the tree here (status $status)"
  fi
  for name in $cases; do grep -qx "ok      $name" "$root/shared/said" || fail "$name under $kernel"; done
  echo "all passed in $SECONDS s"
}
