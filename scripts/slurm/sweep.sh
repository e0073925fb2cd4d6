#!/usr/bin/env bash
# A sweep on Slurm: this small job, which needs no GPU, submits the jobs of the sweep as one array and watches over them.
#   sbatch scripts/slurm/sweep.sh outputs/sweeps/rates hydra.launcher.partition=gpu pretext=simclr optimizer.lr=0.1,0.3 seed=0,1
# The first word is the sweep's folder, which every node sees. Out of time or submitted again, the sweep goes on in it.
#SBATCH --job-name=ssl-runner-sweep
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=3-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@180
set -euo pipefail
folder=${1:?a folder, and the words of the sweep, as in: sbatch sweep.sh outputs/sweeps/rates pretext=simclr seed=0,1}
shift

place="hydra.sweep.dir=$folder"
if [ -f "$folder/sweep.json" ]; then
    place="sweep.resume=$folder"
fi
status=0
# The jobs are none of this one's: its own variables would be limits for them.
# shellcheck disable=SC2016
srun bash -c 'unset "${!SLURM_@}"; exec ssl-runner -m hydra/launcher=submitit_slurm "$@"' sweep "$@" "$place" || status=$?
if [ "$status" -eq 138 ]; then # 128 + SIGUSR1: out of time; the jobs have saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
