#!/bin/sh
# Record a robot's episodes, then find the reuse settings for it: record_and_calibrate.sh [CONFIG] [FOLDER]
#
# Stands in for a day with your robot: two short episodes of a picture in which something moves.
set -eu
config=${1:-configs/jaco-tiny.yaml}
folder=${2:-runs/calibration}
port=${PORT:-8765}
mkdir -p "$folder"

stillframe serve "$config" --port "$port" --record "$folder/recordings" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true' EXIT

python - "http://127.0.0.1:$port" <<'PYTHON'
import sys

import numpy as np

from stillframe_client import PolicyClient

table = np.random.default_rng(0).integers(90, 110, (224, 224, 3), np.uint8)
with PolicyClient(sys.argv[1], timeout_s=30.0) as policy:
    policy.wait_ready(timeout_s=120)
    for episode in range(2):
        policy.reset()
        for step in range(6):
            picture = table.copy()
            picture[100:130, 20 * step : 20 * step + 30] = (200, 30, 30)
            policy.act(picture, "pick up the red cube")
PYTHON

kill "$daemon" # drains, and writes what is still to be recorded
wait "$daemon"
trap - EXIT

stillframe calibrate "$config" --episodes "$folder/recordings" --out "$folder/calibrated.yaml" \
  --drift-budget "${DRIFT_BUDGET:-0.05}"
echo "serve it: stillframe serve $folder/calibrated.yaml"
