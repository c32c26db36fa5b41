"""The lock's part of the shell that runs on a device; how it is used is in lock.py, the rules are in scripts.py."""

from __future__ import annotations

# The lock is a folder of numbered links, and the highest number says who holds it: taking, renewing and giving
# back are all "make number n + 1", which only one can do. Time is the device's uptime: no clock jump moves it.
LOCK = """
clock() {
  if [ -r /proc/sys/kernel/random/boot_id ] && [ -r /proc/uptime ]; then
    read -r boot < /proc/sys/kernel/random/boot_id
    read -r now rest < /proc/uptime
    now=${now%%.*}
  else
    boot=none
    now=$(date +%s)
  fi
}
highest() {
  gen=0
  for link in "$root/lock"/*; do
    link=${link##*/}
    case $link in
      *[!0-9]*) ;;
      *) if [ "$link" -gt "$gen" ]; then gen=$link; fi ;;
    esac
  done
}
holder() {
  for try in 1 2 3 4 5; do
    highest
    held=free
    if [ "$gen" = 0 ]; then return; fi
    if held=$(readlink "$root/lock/$gen"); then return; fi
  done
  echo "the lock changes too fast" >&2
  exit 1
}
succeed() {
  mine=$((gen + 1))
  if ! told=$(ln -s "$1" "$root/lock/$mine" 2>&1); then
    if [ -L "$root/lock/$mine" ]; then return 1; fi
    echo "$told" >&2
    exit 1
  fi
  highest
  if [ "$gen" != "$mine" ]; then
    rm -f "$root/lock/$mine"
    return 1
  fi
  old=$((mine - 1))
  while [ -L "$root/lock/$old" ]; do
    rm -f "$root/lock/$old"
    old=$((old - 1))
  done
}
fence() {
  holder
  case $held in
    *":$token") ;;
    *) echo "edgekit:lock-lost" >&2; exit 75 ;;
  esac
  clock
  left=${held#*:}
  left=$((${left%%:*} - now))
  if [ "$left" -lt "$lease" ]; then
    who=${held#*:*:}
    if ! succeed "$boot:$((now + lease + 60)):$who"; then
      echo "edgekit:lock-lost" >&2
      exit 75
    fi
  fi
}
"""

# root who lease take: `who` is host-boot:pid:pid-start:token; `take` a number whose holder is known to be dead.
ACQUIRE = """
root=$1 who=$2 lease=$3 take=$4
mkdir -p "$root/lock"
clock
holder
case $held in
  free) free=yes ;;
  *)
    free=no
    until=${held#*:}
    if [ "${held%%:*}" != "$boot" ] || [ "$now" -ge "${until%%:*}" ] || [ "$gen" = "$take" ]; then free=yes; fi ;;
esac
if [ $free = yes ] && succeed "$boot:$((now + lease)):$who"; then
  echo "acquired $mine"
else
  holder
  echo "held $gen $now $held"
fi
"""

# root token
RELEASE = """
root=$1 token=$2
holder
case $held in
  *":$token") if succeed free; then echo released; else echo lost; fi ;;
  *) echo lost ;;
esac
"""

# root token lease: what follows runs only while the lock is ours.
FENCED = "root=$1 token=$2 lease=$3\nfence\nshift 3\n"
