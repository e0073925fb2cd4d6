"""The scripts for Slurm and the manifest for Kubernetes, carried out with stand-ins for the cluster's programs."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import tiny
from machines import install
from runs import config, enter, jobs_of, put, summary
from torch.distributed.run import get_args_parser

SCRIPTS = Path(__file__).parents[2] / "scripts"
SLURM = sorted((SCRIPTS / "slurm").glob("*.sh"))
MANIFEST = SCRIPTS / "kubernetes/job.yaml"
FAST = tiny("evaluator=none", "pretext=rotation", "length=3st")
pytestmark = pytest.mark.usefixtures("here")


def stand_in(name, code):
    """A program of this name before all others in PATH."""
    put(f"bin/{name}", f"#!{sys.executable}\n{code}")
    Path("bin", name).chmod(0o755)


@pytest.fixture
def programs(here, monkeypatch):
    """The runner as it is typed, and Slurm's commands, in a job of Slurm."""
    install(here, monkeypatch)
    stand_in(
        "ssl-runner",
        "import sys\nfrom ssl_runner.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    for name, value in {"JOB_ID": "1", "MEM_PER_NODE": "4096", "CPUS_PER_TASK": "1", "NTASKS": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def carry_out(script, *words):
    command = ["bash", str(script), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)


@pytest.mark.parametrize("script", SLURM, ids=lambda script: script.name)
def test_a_script_is_one_that_slurm_queues_again(script):
    directives = [line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append"} <= {*directives}
    assert any(each.startswith("--signal=USR1@") for each in directives)
    bare = carry_out(script)
    assert (bare.returncode, "as in: sbatch" in bare.stdout) == (1, True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SLURM, ids=lambda script: script.name)
def test_a_script_has_no_mistake_that_shellcheck_knows(script):
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_job_of_slurm_goes_on_in_its_folder(programs):
    """Out of time it is queued again; preempted, which Slurm does itself, or cancelled it is not."""
    job = next(script for script in SLURM if script.name == "job.sh")
    done = carry_out(job, "a run", *FAST)
    assert (done.returncode, summary("a run")["status"]) == (0, "completed"), done.stdout
    assert "completed already" in carry_out(job, "a run", *FAST).stdout
    for status, queued in ((138, "1 "), (143, ""), (1, "")):
        stand_in("srun", f"import sys\nsys.exit({status})")
        put("requeued", "")
        assert (carry_out(job, "a run").returncode, Path("requeued").read_text()) == (status, queued)


@pytest.mark.slow
def test_a_sweep_of_slurm_is_one_array_that_goes_on(programs):
    """Of the variables of the job that watches over it the array knows nothing."""
    pytest.importorskip("submitit")
    sweep = next(script for script in SLURM if script.name == "sweep.sh")
    words = ["a sweep", *FAST, "seed=0,1", "hydra.launcher.partition=gpu"]
    done = carry_out(sweep, *words)
    assert (done.returncode, jobs_of("status", folder="a sweep")) == (0, ["completed"] * 2), done.stdout
    assert "--partition=gpu\n" in Path("script-7").read_text()
    assert "2 jobs are done already" in carry_out(sweep, *words).stdout
    assert jobs_of("attempts", folder="a sweep") == [1, 1]
    assert not Path("script-8").exists()


def test_the_manifest_is_one_that_kubernetes_takes():
    validate = pytest.importorskip("kubernetes_validate")
    for each in yaml.safe_load_all(MANIFEST.read_text()):
        validate.validate(each, validate.latest_version(), strict=True)


def test_pods_find_each_other_and_share_a_disk():
    service, job = yaml.safe_load_all(MANIFEST.read_text())
    pod, spec = job["spec"]["template"]["spec"], job["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", spec["parallelism"])
    name = service["metadata"]["name"]
    assert (name, {"job-name": job["metadata"]["name"]}) == (pod["subdomain"], service["spec"]["selector"])
    words = shlex.split(pod["containers"][0]["args"][0])[2:]
    arguments = get_args_parser().parse_args(words)
    assert arguments.nnodes == str(spec["completions"])
    host, port = arguments.rdzv_endpoint.split(":")
    assert (host, int(port)) == (f"{job['metadata']['name']}-0.{name}", service["spec"]["ports"][0]["port"])
    assert (arguments.training_script, arguments.training_script_args) == ("ssl_runner", ["resume", "$FOLDER"])
    volumes = {each["name"] for each in pod["volumes"]}
    containers = [*pod["initContainers"], *pod["containers"]]
    assert all(mount["name"] in volumes for each in containers for mount in each["volumeMounts"])
    environment = [{each["name"]: each["value"] for each in container["env"]} for container in containers]
    assert environment[0]["FOLDER"] == environment[1]["FOLDER"]


@pytest.mark.slow
def test_every_pod_begins_and_begins_again_by_the_same_commands(programs, capsys):
    """The job of the manifest can be composed; its folder is prepared by two pods at once, and then resumed."""
    *_, job = yaml.safe_load_all(MANIFEST.read_text())
    (prepare,) = job["spec"]["template"]["spec"]["initContainers"]
    known = {each["name"]: each["value"] for each in prepare["env"]}
    enter(capsys, [*known["JOB"].split(), "--cfg", "job"], "device:")

    def pod(index):
        own = {"FOLDER": "outputs/long", "JOB": " ".join(FAST), "JOB_COMPLETION_INDEX": str(index)}
        return subprocess.Popen([*prepare["command"], *prepare["args"]], env={**os.environ, **own})

    assert [each.wait() for each in [pod(0), pod(1)]] == [0, 0]
    assert [file.name for file in Path("outputs/long").iterdir()] == ["config.yaml"]
    written = config("outputs/long")
    assert written["length"] == "3st"
    enter(capsys, "resume outputs/long", "3 steps in")
    assert (pod(1).wait(), config("outputs/long")) == (0, written)
    enter(capsys, "resume outputs/long", "completed already")
