"""Several machines on this one: Slurm's commands, and two nodes of Ray. Each has a host's name of its own if it can."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from runs import below, put, wait_for


def can_rename(*command):
    return bool(shutil.which("unshare")) and subprocess.run([*command, "hostname", "x"], stderr=-3).returncode == 0


WAYS = (["unshare", "--uts"], ["unshare", "--map-root-user", "--uts"])
HOST = next((way for way in WAYS if can_rename(*way)), [])  # begins a command that may have another host's name
SBATCH = """\
import os, re, subprocess, sys
text = open(sys.argv[-1]).read()
assert not [name for name in os.environ if name.startswith("SLURM_")], "limits of the job that submits"
job = 7 + sum(name.startswith("script-") for name in os.listdir(HERE))
script = f"{HERE}/script-{job}"
with open(script, "w") as file:  # what was submitted is moved meanwhile
    file.write(text)
array = re.search(r"--array=0-(\\d+)%(\\d+)", text)
count, at_once = int(array[1]) + 1, int(array[2])
for first in range(min(count, at_once)):
    if os.fork() == 0:
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        host = ["bash", "-c", f"hostname host-{first % 2}; exec bash {script}"] if HOST else ["bash", script]
        for task in range(first, count, at_once):
            own = dict(SLURM_JOB_ID=str(job), SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0", SLURM_NTASKS="1")
            own |= dict(SLURM_ARRAY_JOB_ID=str(job), SLURM_ARRAY_TASK_ID=str(task))
            queued = f"{HERE}/queued-{job}_{task}"
            open(queued, "w")
            while os.path.exists(queued) and not os.path.exists(f"{HERE}/cancelled-{job}_{task}"):
                os.remove(queued)
                subprocess.call([*HOST, *host], env={**os.environ, **own})
        os._exit(0)
print(f"Submitted batch job {job}")
"""
SRUN = """\
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:] if words[0] == "--unbuffered" else words[2:]
os.execvp(words[0], words)
"""
SCONTROL = """\
import sys
assert sys.argv[1] == "requeue"
open(f"{HERE}/queued-{sys.argv[2]}", "w")
open(f"{HERE}/requeued", "a").write(sys.argv[2] + " ")
"""
SCANCEL = 'import sys\nfor job in sys.argv[1:]:\n    open(f"{HERE}/cancelled-{job}", "w")\n'
SACCT = 'print("JobID|State|NodeList\\n7_0|RUNNING|n1\\n7_1|RUNNING|n1")\n'
SLURM = {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL, "sacct": SACCT}


def install(folder, monkeypatch):
    """Puts the commands into PATH. They leave in the folder what they did."""
    for name, code in SLURM.items():
        put(folder / "bin" / name, f"#!{sys.executable}\nHERE, HOST = {str(folder)!r}, {HOST!r}\n{code}")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)


@contextlib.contextmanager
def ray_nodes(monkeypatch):
    """Two nodes with a CPU each. Gives the address of the cluster, which has a token of its own."""
    with socket.socket() as free:
        free.bind(("", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # the name of a socket in it has at most 107 characters
    common = "--num-cpus=1 --object-store-memory=80000000 --disable-usage-stats --block"
    head = f"ray start --head --port={address.partition(':')[2]} --include-dashboard=false --temp-dir={folder} {common}"
    nodes = []
    try:
        for number, command in enumerate((head, f"ray start --address={address} {common}")):
            named = [*HOST, "sh", "-c", f"{f'hostname host-{number};' if HOST else ''} exec {command}"]
            said = folder / f"node-{number}"
            with said.open("w") as file:
                nodes.append(subprocess.Popen(named, stdout=file, stderr=subprocess.STDOUT))
            wait_for(lambda said=said: "Ray runtime started" in said.read_text(), nodes[-1])
        yield address
    finally:
        for pid in [pid for node in nodes for pid in (node.pid, *below(node.pid))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for node in nodes:
            node.wait()
        shutil.rmtree(folder, ignore_errors=True)
