#!/bin/bash
# Compares two recipes on the same prompts and seeds, with a judge that neither recipe selects on.
#
#   examples/compare.sh runs/compare
#
# Run it again after an interruption to make the missing videos. report.html in the folder has tables, plots and videos.
# For reliable numbers, use at least 30 prompts and the model's own number of frames.
set -euo pipefail

out=${1:-runs/compare}
mkdir -p "$(dirname "$out")"
cat > "$out.prompts.txt" <<PROMPTS
a red circle moving right on a blue background
a green square bouncing slowly on a white background
PROMPTS

streamt1 compare plain stream-t1 --prompts "$out.prompts.txt" --judge tinyworld-judge --num-frames 33 --out "$out"
