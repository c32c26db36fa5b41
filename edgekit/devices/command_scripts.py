"""Shell that runs a command of somebody else on a device and says how it ended: the check, a restart."""

from __future__ import annotations

# The code is the one that the command itself ended with: toybox's timeout sometimes loses it and says 127
# (0.8.9, seen under load: it waits for a child that has been waited for). Without one, the timeout's own tells.
LIMITED = """
limited() {
  limit=$1
  shift
  if command -v timeout >/dev/null; then timeout -k 5 "$limit" "$@"; else "$@"; fi
}
"""

# seconds command...: its output, "edgekit:code N" if it came to an end, "edgekit:ended N", its standard error.
COMMAND = """
limit=$1
shift
set +e
{
  said=$(limited "$limit" sh -c '"$@"; code=$?; echo; echo "edgekit:code $code"' sh "$@" 2>&1 >&3 3>&- < /dev/null)
  ended=$?
} 3>&1
set -e
printf '\\nedgekit:ended %s\\n%s\\n' $ended "$said"
"""

# seconds command-line file: what it starts may stay and keep its output open, so that goes to a file.
RESTART = """
mkdir -p "${3%/*}"
rm -f "$3.code"
set +e
limited "$1" sh -c 'sh -c "$1"; echo "edgekit:code $?" > "$2"' sh "$2" "$3.code" > "$3" 2>&1 < /dev/null
ended=$?
set -e
if [ -f "$3.code" ]; then head -n 1 "$3.code"; fi
echo "edgekit:ended $ended"
printf '%s\\n' "$(tail -n 20 "$3")"
rm -f "$3" "$3.code"
"""
