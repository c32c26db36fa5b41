#!/bin/sh
# Everything measured against its peers; arguments go to `python -m bench` (see --help).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
PYTHONPATH="$root:$root/tests" exec "${PYTHON:-python3}" -m bench "$@"
