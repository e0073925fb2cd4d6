"""Studies in databases by URL, SQLite and a real PostgreSQL: shared by two sweeps, gone, no password written."""

import json
import os
import shutil
import subprocess
import tempfile
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import tiny
from runs import enter, jobs_of, refusal, start, wait_for

from ssl_runner.errors import hide_passwords

optuna = pytest.importorskip("optuna")
NullPool = pytest.importorskip("sqlalchemy.pool").NullPool
pytestmark = pytest.mark.usefixtures("here")
PASSWORD = "se/cr:et"
USER = "studious"


class Postgres:
    """A server of its own in a new folder, reached by a socket there with a password."""

    def __init__(self):
        places = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
        self.programs = {program: shutil.which(program, path=places) for program in ("initdb", "pg_ctl")}
        if None in self.programs.values():
            pytest.skip("no PostgreSQL server is installed: there is no initdb or no pg_ctl")
        pytest.importorskip("psycopg")
        if tuple(map(int, pytest.importorskip("sqlalchemy").__version__.split(".")[:2])) < (2, 0):
            pytest.skip("SQLAlchemy 1.4 has no psycopg")
        self.folder = Path(tempfile.mkdtemp(dir="/tmp"))  # the name of a socket has at most 107 characters
        (self.folder / "password").write_text(PASSWORD)
        # The server does not run as root.
        self.user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        if self.user:
            for path in (self.folder, self.folder / "password"):
                os.chown(path, 65534, 65534)
        self.data = f"--pgdata={self.folder / 'data'}"
        self.command("initdb", f"--username={USER}", "--auth=scram-sha-256", "--pwfile=password", "--no-sync")

    def command(self, *words):
        done = subprocess.run(
            [*self.user, self.programs[words[0]], self.data, *words[1:]], cwd=self.folder, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self):
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.command("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self):
        self.command("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, password=PASSWORD):
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql+psycopg://{USER}{secret}@/postgres?host={self.folder}"


@pytest.fixture
def server():
    """A PostgreSQL that runs, empty."""
    server = Postgres()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.folder)


def trials(url):
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name="sweep", storage=storage).trials


def words(url, folder="sweep"):
    search = ["hydra/sweeper=optuna", f"hydra.sweeper.storage={url}", f"hydra.sweep.dir={folder}"]
    job = tiny("evaluator=none", "length=3st", "sweep.metric=train/loss", "hydra.sweeper.direction=minimize")
    return ["-m", *job, *search, "optimizer.lr=tag(log,interval(1e-4,1e-1))"]


@pytest.mark.slow(one_in=48)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_two_sweeps_share_a_study(database, request):
    """They begin at once, on a database without tables. Each trial is a job of one of them, and told its value."""
    url = request.getfixturevalue("server").url() if database == "postgres" else "sqlite:///shared.db"
    sweeps = [start(*words(url, name), "hydra.sweeper.n_trials=6") for name in ("one", "two")]
    outputs = [sweep.communicate(timeout=200)[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    done, jobs = trials(url), [jobs_of("overrides", "final", folder=name) for name in ("one", "two")]
    assert 6 <= len(done) <= 7, "the last may be asked for by both"
    assert all(jobs), "both have worked on it"
    values = {overrides[-1]: final["train/loss"] for overrides, final in chain(*jobs)}
    assert {f"optimizer.lr={trial.params['optimizer.lr']}": trial.value for trial in done} == values
    assert len(values) == len(done) == sum(map(len, jobs)), "none is run twice"


@pytest.mark.slow(one_in=48)
def test_no_password_is_written(server, monkeypatch, capsys):
    """Neither in the ledger nor by a job, nor is it said; so it is typed again, or libpq knows it."""
    process = start(*words(server.url()), "hydra.sweeper.n_trials=2")
    output = process.communicate(timeout=200)[0]
    assert (process.returncode, jobs_of("status")) == (0, ["completed"] * 2), output
    output += enter(capsys, "compare sweep", "2 completed runs")
    shown = f"postgresql+psycopg://{USER}:***@/postgres?host={server.folder}"
    assert f"hydra.sweeper.storage={shown}" in json.loads(Path("sweep/sweep.json").read_text())["command"]
    assert all(shown in json.loads(file.read_text())["argv"] for file in Path("sweep").glob("*/environment.json"))
    secrets = [PASSWORD.encode(), quote(PASSWORD, safe="").encode()]
    assert not any(secret in output.encode() for secret in secrets)
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
    again = ["-m", "sweep.resume=sweep", "hydra.sweeper.n_trials=3"]
    refusal(capsys, again, f"{USER}:***@", "password", "type hydra.sweeper.storage=URL again")
    wrong = refusal(capsys, [*again, f"hydra.sweeper.storage={server.url('wrong')}"], "authentication failed")
    assert "wrong" not in wrong
    with monkeypatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        enter(capsys, again, "3 trials, the best has")
    enter(capsys, [*again[:2], "hydra.sweeper.n_trials=4", f"hydra.sweeper.storage={server.url()}"], "4 trials")
    assert [trial.state.name for trial in trials(server.url())] == ["COMPLETE"] * 4


@pytest.mark.slow(one_in=48)
def test_a_database_that_is_out_of_reach_is_refused(server, capsys):
    """In a line, and before a folder is made."""
    server.stop()
    assert PASSWORD not in refusal(capsys, words(server.url()), f"{USER}:***@", "No such file or directory")
    server.start()
    refusal(capsys, words("sqlite:////nowhere/at/all.db"), "sqlite:////nowhere/at/all.db: ", "unable to open")
    refusal(capsys, words("nosql://there"), "nosql://there: ")


@pytest.mark.slow(one_in=48)
def test_a_database_that_goes_ends_the_sweep_and_the_sweep_goes_on_with_it(server):
    """Its jobs save; their trials are told when the sweep goes on."""
    search = [*words(server.url()), "hydra.sweeper.n_trials=3", "length=60st", "hydra.sweeper.n_jobs=1"]
    sweep = start(*search)
    wait_for(lambda: list(Path("sweep").glob("001*/metrics.jsonl")), sweep)
    server.stop()
    output = sweep.communicate(timeout=200)[0]
    assert (sweep.returncode, "Traceback" in output, PASSWORD in output) == (1, False, False), output
    assert "the sweep broke off: the study's database: " in output
    assert "ssl-runner -m sweep.resume=sweep" in output
    before = dict(jobs_of("folder", "seconds"))
    server.start()
    sweep = start("-m", "sweep.resume=sweep", f"hydra.sweeper.storage={server.url()}")
    output = sweep.communicate(timeout=200)[0]
    assert (sweep.returncode, jobs_of("status")) == (0, ["completed"] * 3), output
    assert dict(jobs_of("folder", "seconds")).items() >= {(name, s) for name, s in before.items() if s}, "not run twice"
    assert [trial.state.name for trial in trials(server.url())] == ["COMPLETE"] * 3


def test_the_passwords_of_urls_are_hidden():
    shown = {
        "postgresql+psycopg://u:p@h/db": "postgresql+psycopg://u:***@h/db",
        "x=mysql://u:p:/w@d@h:5/db?password=se&x=1": "x=mysql://u:***@h:5/db?password=***&x=1",
        "the study of redis://:pw@h is gone": "the study of redis://:***@h is gone",
        "mysql://u:a b@h": "mysql://u:***@h",
    }
    assert {text: hide_passwords(text) for text in shown} == shown
    for text in ("sqlite:///a b.db?x=1", "postgresql://user@/x?host=/tmp", "https://host:8080/p", "me@host: no"):
        assert hide_passwords(text) == text
