#!/bin/bash
# A grid as a SLURM array: each task trains its share of the points, and nothing but the outputs folder is shared.
#   sbatch docs/cluster/slurm-array.sh          all shares
#   sbatch --array=3,7 docs/cluster/slurm-array.sh   two of them again
# Submit it from the repository; the array's upper end and SHARDS are one number.
#SBATCH --job-name=kdnb
#SBATCH --array=1-16
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --mem=24G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=kdnb-%A_%a.log
set -euo pipefail

SHARDS=16
export KDNB_OUTPUTS="${KDNB_OUTPUTS:-$SLURM_SUBMIT_DIR/outputs}" # on a file system that all nodes share
export HF_HUB_OFFLINE=1                                          # kdnb fetch was run before, where there is a network

cd "$SLURM_SUBMIT_DIR"
source .venv/bin/activate
kdnb sweep table1 --task mrpc --profile paper \
  --engine shard --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --threads "$SLURM_CPUS_PER_TASK"
