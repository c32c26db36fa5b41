#!/bin/sh
# Makes the environment that tests/test_android_mediapipe.py runs MediaPipe in, and prints its interpreter:
#   EDGEKIT_MEDIAPIPE_PYTHON=$(tests/mediapipe_env.sh FOLDER) pytest tests/test_android_mediapipe.py
set -eu
folder=${1:?usage: mediapipe_env.sh FOLDER}
if [ ! -x "$folder/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$folder" >&2
fi
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "mediapipe==1.2.2" >&2
"$folder/bin/python" -c "from mediapipe.tasks.python import audio, vision" >&2
echo "$folder/bin/python"
