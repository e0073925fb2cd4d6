#!/usr/bin/env bash
# One job on several nodes of Slurm: srun starts a process for each GPU, and they share every batch.
#   sbatch --nodes=2 scripts/slurm/job.sh outputs/long device=cuda pretext=simclr model=resnet50 length=200ep
# The first word is the run folder, which every node sees. Preempted, out of time or submitted again, the run goes on in it.
#SBATCH --job-name=ssl-runner
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
set -euo pipefail
folder=${1:?a run folder, and the settings of its job, as in: sbatch job.sh outputs/long device=cuda pretext=simclr}
shift
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

words=("$@" "hydra.run.dir=$folder")
if [ -f "$folder/config.yaml" ]; then
    words=(resume "$folder")
fi
status=0
srun ssl-runner "${words[@]}" || status=$?
# 128 + SIGUSR1: out of time, and saved. A preempted job is queued again by Slurm itself, a cancelled one by nobody.
if [ "$status" -eq 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
