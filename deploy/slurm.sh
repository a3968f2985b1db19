#!/bin/bash
# A study on Slurm: sbatch deploy/slurm.sh --trials 500 --name big       (whatever follows is for study.launch)
#SBATCH --job-name=spinlock-dist
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --exclusive
# When the time is over, submit the same line again with --resume: trials that have ended are kept, and those that ran
# go on from their snapshots.
set -euo pipefail

# shellcheck disable=SC1091
source .venv/bin/activate # from the checkout, on a file system that all nodes share
# With the image (deploy/Dockerfile) in its place: apptainer build spinlock-dist.sif docker-archive:spinlock-dist.tar, and
# `apptainer exec --nv spinlock-dist.sif` before `ray` and `python` below.
export RAY_USAGE_STATS_ENABLED=0

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=6379

# One token for this job: without it, whoever reaches a node's ports could run code.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# Since Slurm 22.05 a step does not inherit --cpus-per-task, and would run all of Ray on one core.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" ray symmetric-run \
  --address "$head:$port" \
  --min-nodes "$SLURM_NNODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" \
  --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
  --disable-usage-stats \
  -- python -m study.launch --address "$head:$port" --runs "$PWD/runs" "$@"
