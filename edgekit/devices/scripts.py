"""The POSIX shell that runs on a device: constants only, every varying word comes in as an argument.

They need `sh` and the small tools that coreutils, toybox and busybox share (for the rest, what toybox has or
python3), and write what they have to say
between two marks, so that a noisy login script is told from an answer and half an answer from a whole one.
"""

from __future__ import annotations

BEGIN = "edgekit:begin"
END = "edgekit:end"

PRELUDE = """
set -eu
LC_ALL=C
export LC_ALL
umask 022
"""

# GNU sync -f flushes one file system, toybox ignores arguments and flushes all, others have no such option and say so.
FLUSH = """
flush() {
  if ! told=$(sync -f "$1" 2>&1); then
    case $told in
      *option*|*sage*) sync ;;
      *) echo "$told" >&2; exit 1 ;;
    esac
  fi
}
"""

FACTS = """
case $1 in
  /*) root=$1 ;;
  *) root=$PWD/$1 ;;
esac
fact() { printf '%s\\n' "$*"; }
fact root "$root"
fact uname "$(uname -smr)"
class=$(od -An -tu1 -j4 -N1 /proc/self/exe 2>/dev/null || true)
case $class in
  *1*) fact bits 32 ;;
  *2*) fact bits 64 ;;
  *) fact bits "$(getconf LONG_BIT)" ;;
esac
libc=unknown
if [ -e /system/bin/linker64 ] || [ -e /system/bin/linker ]; then libc=bionic
elif command -v getconf >/dev/null; then libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=unknown
else
  for library in /lib/*-linux-gnu*/libc.so.6 /lib64/libc.so.6 /lib/libc.so.6; do
    if [ -x "$library" ]; then libc=$("$library" | head -n 1); break; fi
  done
fi
fact libc "$libc"
if command -v python3 >/dev/null; then fact python "$(python3 -V 2>&1)"; fi
for python in /usr/bin/python3.[0-9]* /usr/local/bin/python3.[0-9]*; do
  case $python in
    *[!0-9./a-z]*|*config|*[0-9][a-z]*|*"*"*) ;;
    *) if [ -x "$python" ]; then fact also "${python##*/}"; fi ;;
  esac
done
for tool in python3 timeout flock tar sync sha256sum shasum systemctl vcgencmd; do
  if command -v $tool >/dev/null; then fact tool $tool; fi
done
at=$root
while [ ! -d "$at" ]; do at=${at%/*}; at=${at:-/}; done
fact disk "$(df -Pk "$at" | tail -n 1)"
if [ -w "$at" ]; then fact writable yes; else fact writable no; fi
if [ -r /proc/meminfo ]; then
  total= available=
  while read -r key size unit; do
    case $key in
      MemTotal:) total=$size ;;
      MemAvailable:) available=$size; break ;;
    esac
  done < /proc/meminfo
  fact ram "$total" "$available"
else
  size=$(sysctl -n hw.memsize)
  fact ram $((size / 1024)) $((size / 1024))
fi
fact cores "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)"
if [ -r /proc/cpuinfo ]; then
  sort -u /proc/cpuinfo | while IFS= read -r line; do
    case $line in "model name"*|flags*|Features*|"CPU implementer"*|"CPU part"*) fact cpu "$line" ;; esac
  done
else
  fact cpu "model name : $(sysctl -n machdep.cpu.brand_string)"
fi
for model in /sys/firmware/devicetree/base/model /proc/device-tree/model; do
  if [ -r $model ]; then fact board "$(tr -d '\\000' < $model)"; break; fi
done
if command -v getprop >/dev/null; then
  fact phone "$(getprop ro.product.model)"
  fact abi "$(getprop ro.product.cpu.abi)"
fi
clock
fact clock "$(date +%s)" "$now" "$boot"
fact user "$(id -u)"
if [ -x "$root/bin/edgekit" ]; then fact launcher yes; fi
for layer in "$root/layers"/*; do
  if [ -d "$layer" ]; then fact layer "${layer##*/}"; fi
done
for left in "$root/incoming"/*; do
  if [ -e "$left" ]; then fact incoming "${left##*/}"; fi
done
for app in "$root/apps"/*; do
  if [ -d "$app" ]; then
    name=${app##*/}
    fact app "$name"
    if [ -f "$app/state.json" ]; then fact state "$name" "$(head -n 1 "$app/state.json")"; fi
    if [ -f "$app/restart.json" ]; then fact restart "$name" "$(head -n 1 "$app/restart.json")"; fi
    for release in "$app/releases"/*; do
      if [ -d "$release" ]; then
        if [ -f "$release/release.json" ]; then record=$(head -n 1 "$release/release.json"); else record=; fi
        fact release "$name" "${release##*/}" "$record"
      fi
    done
  fi
done
"""

# Calls `act` with the plain files of a folder and of those below, many at a time since a slow board feels each start of
# a process, and tells of anything that is neither file nor folder. The words that are evaluated name variables only.
WALK = """
files=0 words=
gather() {
  for entry in "$1"/* "$1"/.[!.]*; do
    if [ -L "$entry" ]; then echo "odd $entry"
    elif [ -d "$entry" ]; then gather "$entry"
    elif [ -f "$entry" ]; then
      files=$((files + 1))
      eval "file$files=\\$entry"
      words="$words \\"\\$file$files\\""
      if [ $files = 200 ]; then hand_over; fi
    elif [ -e "$entry" ]; then echo "odd $entry"
    fi
  done
}
hand_over() {
  if [ $files != 0 ]; then eval "act $words"; fi
  files=0 words=
}
walk() {
  gather "$1"
  hand_over
}
"""

# Folders as arguments: sizes and hashes of what each holds.
INSPECT = """
if command -v sha256sum >/dev/null; then hash=sha256sum; else hash="shasum -a 256"; fi
act() {
  wc -c "$@"
  $hash "$@"
}
number=0
for folder; do
  echo "folder $number"
  number=$((number + 1))
  if [ -d "$folder" ]; then
    echo there
    cd "$folder"
    walk .
  fi
done
"""


# folder, "anew" or "on"; names on standard input: clears what is wrong in a transfer, and makes its folder.
PREPARE = """
if [ "$2" = anew ]; then rm -rf "$1"; fi
mkdir -p "$1"
cd "$1"
while IFS= read -r name; do rm -rf "./$name"; done
"""

# folder; lines of words between tabs on standard input: "folders" and those to make, or "copy", where to and what.
# One process for a line: a slow board starts ten of them in a second. What is not there any more is left out, which
# the hashes then tell.
COPY = """
cd "$1"
tab=$(printf '\\t')
set -f
IFS=$tab
while read -r what words; do
  set -- $words
  case $what in
    folders) mkdir -p "$@" ;;
    copy)
      target=$1
      shift
      for source; do
        shift
        if [ -f "$source" ]; then set -- "$@" "$source"; fi
      done
      if [ $# -gt 0 ]; then cp "$@" "$target"; fi ;;
  esac
done
"""

# file: its folder, and what is there of it can be written: a copy that was cut may have its source's mode.
MAKE_PARENT = """
mkdir -p "${1%/*}"
if [ -f "$1" ]; then chmod u+w "$1"; fi
"""

# folder; a tar on standard input.
UNPACK = """
mkdir -p "$1"
cd "$1"
if command -v tar >/dev/null; then tar -xomf -
else python3 -c 'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|").extractall()'
fi
"""

# folder final trash: plain files that nobody changes any more, durable before they get their name.
SEAL = """
act() { chmod 444 "$@"; }
walk "$1"
flush "$1"
"""
INSTALL = """
mkdir -p "${2%/*}"
if [ -e "$2" ]; then
  mkdir -p "${3%/*}"
  mv "$2" "$3"
fi
mv "$1" "$2"
flush "${2%/*}"
"""

# layer: byte code that an earlier check wrote, and that a power cut may have torn before anything was switched to.
FORGET_BYTECODE = """
forget() {
  for entry in "$1"/*; do
    case $entry in
      */__pycache__) rm -rf "$entry" ;;
      *) if [ -d "$entry" ]; then forget "$entry"; fi ;;
    esac
  done
}
forget "$1"
"""

# file mode; its new content on standard input.
REPLACE = """
mkdir -p "${1%/*}"
cat > "$1.new"
chmod "$2" "$1.new"
flush "${1%/*}"
mv -f "$1.new" "$1"
flush "${1%/*}"
"""
READ = """
if [ -f "$1" ]; then printf '%s\\n' "$(head -n 1 "$1")"; fi
"""

# Whether nobody else has a lock on descriptor 9; where there is neither tool, nobody can have one.
ALONE = """
alone() {
  if command -v flock >/dev/null; then flock -n -x 9
  elif command -v python3 >/dev/null; then
    python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null
  fi
}
"""

# trash, then folders to put there: each only while no predictor holds a shared lock on it.
DISCARD = """
trash=$1
shift
mkdir -p "$trash"
number=0
for folder; do
  number=$((number + 1))
  if [ -d "$folder" ]; then
    if { alone && mv "$folder" "$trash/$number"; } 9< "$folder"; then echo "gone $number"; else echo "kept $number"; fi
  elif [ -e "$folder" ] || [ -L "$folder" ]; then
    rm -f "$folder"
  fi
done
"""

# folders: prints those that a predictor holds a shared lock on.
IN_USE = """
for folder; do
  if ! alone 9< "$folder"; then echo "$folder"; fi
done
"""

# incoming: everything in it goes; what was moved there is durable under no other name by now.
SWEEP = """
flush "$1"
for left in "$1"/* "$1"/.[!.]*; do
  if [ -e "$left" ]; then rm -rf "$left"; fi
done
"""
