# SPDX-License-Identifier: GPL-2.0-or-later
# For the cases, which run inside: . /tests/lib.sh
# They are sh -eu: a command that fails ends the case. What takes its time is waited for, generously.

mkdir -p /run/t

fail() {
  echo "FAILED: $*"
  exit 1
}

skip() {
  echo "$*"
  exit 77
}

not_tried() { # WHAT, AND WHY: a part that is left out of a case that passes; the run shows the line
  echo "not tried: $*"
}

uptime_seconds() {
  read -r now _ </proc/uptime
  now=${now%.*}
}

wait_for() { # COMMAND... (a minute at most)
  uptime_seconds
  until_then=$((now + 60))
  until "$@" >/dev/null 2>&1; do
    uptime_seconds
    [ "$now" -lt $until_then ] || fail "waited a minute for: $*"
    sleep 0.1
  done
}

expect() { # WORDS TEXT PATTERN: TEXT matches the shell pattern
  # shellcheck disable=SC2254
  case $2 in $3) ;; *) fail "$1: wanted $3, got: $2" ;; esac
}

image() { # NAME: a fresh volume, with a file that says its name. On the host's disk: what is not synced may be lost.
  rm -f "/shared/$1"
  mkdir -p "/run/t/$1-files"
  echo "$1" >"/run/t/$1-files/name"
  mkfs.ext4 -q -d "/run/t/$1-files" "/shared/$1" "${2:-16M}"
}

dir() { # NAME: prints a directory to mount on
  mkdir -p "/run/t/$1"
  echo "/run/t/$1"
}

# The unit that serves what is mounted at a directory, by the record that the helper wrote.
unit_of() { # DIRECTORY
  grep -lsx "MOUNT_POINT=$1" /run/fuse4fs/mounts/* | xargs -r sed -n 's/^UNIT=//p'
}
server_of() { systemctl show -P MainPID "$(unit_of "$1")"; }

units() { systemctl list-units --plain --no-legend --all 'fuse4fs@*' | cut -d ' ' -f 1; }
no_units() { [ -z "$(units)" ]; }
ended() { ! systemctl -q is-active "$1"; }
no_loops() { [ -z "$(losetup -n -O NAME -j "/shared/$1")" ]; }
no_records() { [ -z "$(ls /run/fuse4fs/mounts)" ]; }

# Nothing of a mount of this image is left: no process, no mount, no loop device, no record.
nothing_left() { # IMAGE DIRECTORY
  wait_for no_units
  ! findmnt -n "$2" || fail "$2 is still a mount point"
  wait_for no_loops "$1"
  wait_for no_records
}

clean() { # IMAGE: e2fsck finds nothing
  e2fsck -fn "/shared/$1" || fail "e2fsck finds something in $1"
}

# The N-th code block of a section of a document.
block() { # FILE HEADING N
  awk -v heading="## $2" -v wanted="$3" '
    /^## / { here = ($0 == heading) }
    here && /^```/ { inside = !inside; if (inside) n++; next }
    here && inside && n == wanted' "/shared/$1" | grep . || fail "$1, $2: no block $3"
}

# ---- for kernel-* ----

need_fuse() { [ -c /dev/fuse ] || skip "no FUSE in this kernel"; }
need_loop() { [ -e /dev/loop-control ] || skip "no loop devices in this kernel"; }
need_ext4() { grep -qw ext4 /proc/filesystems || skip "no ext4 in this kernel"; }
at_least() { # VERSION: of the kernel
  [ "$(printf '%s\n%s\n' "$1" "$(uname -r)" | sort -V | head -n 1)" = "$1" ]
}
built() { # FILE: where it is; the case is skipped if it was not built
  [ -x "$FUSE4FS_BUILD/$1" ] || skip "$1 is not built"
  echo "$FUSE4FS_BUILD/$1"
}
