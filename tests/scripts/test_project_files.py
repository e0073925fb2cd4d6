"""Files for those who find the project: Dockerfile, CITATION.cff, workflow and forms agree with pyproject.toml."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKER = ROOT / "scripts" / "docker" / "Dockerfile"


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def copied():
    """What the Dockerfile copies into /source."""
    words = [shlex.split(line) for line in DOCKER.read_text().splitlines() if line.startswith("COPY ")]
    return [(source, to) for _, *sources, to in words for source in sources]


def test_the_image_has_all_that_the_wheel_is_made_of():
    """Each at its place, and sent to the daemon."""
    build = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*build["packages"], *build["force-include"], PROJECT["project"]["readme"], "pyproject.toml"}
    needed |= {*PROJECT["project"]["license-files"]}
    assert {source for source, _ in copied()} == needed
    sent = (DOCKER.parent / "Dockerfile.dockerignore").read_text().split("\n")
    for source, to in copied():
        assert (ROOT / source).exists()
        assert to in ("/source/", f"/source/{source}")
        assert any(f"!{part}" in sent for part in (source, *map(str, Path(source).parents)))


def test_the_image_asks_for_what_there_is():
    text = DOCKER.read_text()
    extras = re.search(r"ARG EXTRAS=(.*)", text)[1].split(",")
    assert {*extras} <= PROJECT["project"]["optional-dependencies"].keys()
    assert all(f'"{each}"' in text for each in PROJECT["project"]["dependencies"] if each.startswith("torch"))
    assert f'ENTRYPOINT ["{next(iter(PROJECT["project"]["scripts"]))}"]' in text
    assert not re.search(r"https?://", text), "an index is the user's to know"


@pytest.mark.parametrize(("index", "words"), [("", ""), ("here", "--index-url here ")])
def test_an_index_is_used_if_one_is_given(index, words):
    command = re.search(r'RUN pip install (--no-cache-dir \${TORCH_INDEX.*?) "torch', DOCKER.read_text())[1]
    said = subprocess.run(["sh", "-c", f"echo {command}"], env={"TORCH_INDEX": index}, capture_output=True, text=True)
    assert said.stdout == f"--no-cache-dir {words}".rstrip() + "\n"


def test_the_citation_is_of_this_version():
    cited = read("CITATION.cff")
    assert (cited["version"], cited["license"]) == (PROJECT["project"]["version"], PROJECT["project"]["license"])
    assert cited["title"].startswith("ssl_runner: ")


def test_the_workflow_tries_every_python_that_is_promised():
    jobs = read(".github/workflows/test.yml")["jobs"]
    says = [each.rpartition(":: ")[2] for each in PROJECT["project"]["classifiers"] if "Python :: 3." in each]
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == says
    typed = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    extras = [each for words in typed for found in re.findall(r"\.\[(.*?)]", words) for each in found.split(",")]
    assert {*extras} <= PROJECT["project"]["optional-dependencies"].keys()
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


@pytest.mark.parametrize("name", ["bug", "method"])
def test_issue_forms_have_fields_of_their_own_names(name):
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    names = [field["id"] for field in form["body"]]
    assert len({*names}) == len(names) > 1
    assert all(field["attributes"]["label"] for field in form["body"])
