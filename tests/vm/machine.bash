# SPDX-License-Identifier: GPL-2.0-or-later
# The machine of tests/vm/run: how its tree is made, booted, entered and switched off. Sourced; uses $here, $top, $work, $build.
vm=${FUSE4FS_VM_DIR:-$top/build/vm}
loops=256

# The tree is made once for each list of packages and Debian release, under a lock, and appears when it is complete.
make_tree() {
  # shellcheck source=/dev/null
  local release packages sources=() name
  release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
  [ -n "$release" ] || skip "/etc/os-release does not say which Debian this is"
  packages=$(sed 's/#.*//' "$here/packages" ${kernel:+"$here/packages-kernel"} | xargs | tr ' ' ',')
  name=$release-$(echo "$packages" | sha256sum | cut -c 1-12)
  tree=$vm/tree-$name
  mkdir -p "$vm"
  exec 8>"$vm/lock"
  flock 8
  if [ ! -d "$tree" ]; then
    # The same packages that this machine uses: what was built here runs there.
    [ ! -f /etc/apt/sources.list.d/debian.sources ] || sources=(/etc/apt/sources.list.d/debian.sources)
    rm -rf --one-file-system "$tree.new"
    echo "making $tree"
    if ! timeout 480 mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='Acquire::Retries "3"' \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
      --customize-hook='rm -f "$1/etc/resolv.conf"; : >"$1/etc/machine-id"; echo vm >"$1/etc/hostname"' \
      "$release" "$tree.new" "${sources[@]}" >"$vm/mmdebstrap.log" 2>&1; then
      tail -n 15 "$vm/mmdebstrap.log"
      rm -rf --one-file-system "$tree.new"
      skip "mmdebstrap cannot make a tree here (see above)"
    fi
    mv "$tree.new" "$tree"
  fi
  exec 8>&-
}

# A fresh root over the tree; what is written to it is memory.
prepare_root() {
  root=$work/root
  umount -R "$root" "$work/over" 2>/dev/null || true
  mkdir -p "$root" "$work/over"
  mount -t tmpfs -o mode=755 over "$work/over"
  mkdir "$work/over/upper" "$work/over/work"
  mount -t overlay -o "lowerdir=$tree,upperdir=$work/over/upper,workdir=$work/over/work" overlay "$root"
  # Loop devices come as they are asked for, and no udev makes their nodes here.
  local n
  for ((n = 0; n < loops; n++)); do echo "b /dev/loop$n 0660 root disk - 7:$n"; done >"$root/etc/tmpfiles.d/loop.conf"
}

install_ours() {
  DESTDIR=$root cmake --install "$build" --prefix /usr >"$work/install.log" 2>&1 ||
    { cat "$work/install.log"; fail "cmake --install $build"; }
  systemctl --quiet --root="$root" enable fuse4fs.socket
}

in_machine() { nsenter --target "$(cat "$work/leader")" --mount --uts --ipc --net --pid -- "$@"; }

# Until a command succeeds; the limit is for a machine that hangs, not for a slow one.
wait_until() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

find_leader() {
  local child
  gone && return 1
  for child in $(cat "/proc/$nspawn/task/$nspawn/children"); do
    [ "$(cat "/proc/$child/comm")" = systemd ] || continue
    echo "$child" >"$work/leader"
    return 0
  done
  return 1
}

booted() {
  case $(in_machine systemctl is-system-running) in running | degraded) return 0 ;; esac
  gone
}

# A process that nobody has waited for is there still.
gone() {
  case $(sed 's/.*) //' "/proc/$nspawn/stat" 2>/dev/null) in "" | Z*) return 0 ;; esac
  return 1
}

boot_machine() {
  local binds=(--bind=/dev/fuse --bind=/dev/loop-control)
  [ ! -c /dev/autofs ] || binds+=(--bind=/dev/autofs)
  [ ! -d "$work/shared" ] || binds+=(--bind="$work/shared:/shared" --bind-ro="$here:/tests")
  [ ! -d "$build/tests/hostile/rogue" ] || binds+=(--bind="$build/tests/hostile/rogue:/rogue")
  rm -f "$work/leader"
  # No filter of nspawn's own: a bare systemd has none. The machine's name is this run's alone.
  SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$root" --machine="fuse4fs-$$-$RANDOM" \
    --register=no --keep-unit --console=pipe --private-network --capability=CAP_SYS_RAWIO --link-journal=no --resolv-conf=off --timezone=off \
    --setenv=SYSTEMD_LOG_COLOR=0 "${binds[@]}" </dev/null >"$work/console" 2>&1 &
  nspawn=$!
  wait_until 120 find_leader || return 1
  wait_until 120 booted || return 1
  ! gone || return 1
}

power_off() {
  # The manager may hang up on the one who asks before it has said yes.
  in_machine systemctl --no-block poweroff || in_machine systemctl --no-block poweroff || true
  wait_until 180 gone
}

stop_machine() {
  [ -z "${nspawn-}" ] || kill -KILL "$nspawn" 2>/dev/null || true
  [ ! -e "$work/leader" ] || kill -KILL "$(cat "$work/leader")" 2>/dev/null || true
}
