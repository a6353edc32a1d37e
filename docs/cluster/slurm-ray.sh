#!/bin/bash
# A grid on Ray over several SLURM nodes: one queue of points for all of them, four small trainings to a GPU.
#   sbatch docs/cluster/slurm-ray.sh
# Submit it from the repository, again after any end: it goes on.
#SBATCH --job-name=kdnb-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --mem=128G
#SBATCH --time=12:00:00
#SBATCH --output=kdnb-ray-%j.log
set -euo pipefail

export KDNB_OUTPUTS="${KDNB_OUTPUTS:-$SLURM_SUBMIT_DIR/outputs}" # on a file system that all nodes share
export HF_HUB_OFFLINE=1                                          # kdnb fetch was run before, where there is a network
export RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" # who has it may run code on these nodes: one per job
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

cd "$SLURM_SUBMIT_DIR"
source .venv/bin/activate
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
port=$((20000 + SLURM_JOB_ID % 20000)) # another job on the same node has another one

# Ray starts on every node, the command after -- runs on the first, and all end with it.
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" \
  ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_PER_NODE" --dashboard-host 127.0.0.1 -- \
  kdnb sweep table1 --task mrpc,qnli,sst2,mnli --profile paper \
  --engine ray --address auto --threads 1 --gpus-per-run 0.25
