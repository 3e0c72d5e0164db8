#!/bin/bash
# Does search help, and at which width? The same prompts and seeds under two recipes, with a judge that none selects on.
#
#   examples/compare.sh runs/compare
#
# Run again after an interruption, it makes what is missing. report.html in the folder has tables, plots and videos.
# For numbers to rely on, take at least 30 prompts and leave the number of frames to the model.
set -euo pipefail

out=${1:-runs/compare}
mkdir -p "$(dirname "$out")"
cat > "$out.prompts.txt" <<PROMPTS
a red circle moving right on a blue background
a green square bouncing slowly on a white background
PROMPTS

streamt1 compare plain stream-t1 --prompts "$out.prompts.txt" --judge tinyworld-judge --num-frames 33 --out "$out"
