"""Odd surroundings: a user without a home, a module of one's own with an error, a locale that is no UTF-8."""

import multiprocessing
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import TINY
from image_trees import paint_classes
from runs import CLEAN, change, enter, put, refusal, start
from worker_toys import kept_values

from ssl_runner.config.trust import VARIABLE
from ssl_runner.engine.interrupt import start_fork_server
from ssl_runner.run_folder.atomic import read_json
from ssl_runner.run_folder.source import runner_source

SMALL = [each for each in TINY if not each.startswith(("dataset", "length", "log_every"))]
SHORT = [*SMALL, "evaluator=none", "length=1st", "log_every=1st"]


@pytest.fixture
def homeless(here, monkeypatch):
    """A user without HOME and without an entry in passwd, as in many a container."""

    def absent(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", absent)
    for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    return here


@pytest.mark.parametrize("cache", ["true", "~/cache"])
def test_without_a_home_images_stay_in_memory_and_it_is_said(cache, homeless, capsys):
    paint_classes(homeless / "images")
    words = ["dataset=image_folder", "dataset.root=images", f"dataset.cache={cache}", "hydra.run.dir=run"]
    enter(capsys, [*SHORT, "batch_size=8", *words], "cannot keep decoded images in ~/", "there is no home folder here")
    assert not Path("~").exists()


@pytest.mark.parametrize("words", ["dataset=image_folder dataset.root=~/x", "dataset=mnist dataset.root=~/x"])
def test_without_a_home_a_place_below_it_is_refused(words, homeless, capsys):
    refusal(capsys, [*SHORT, *words.split()], "dataset: ~/x: there is no home folder here; type the whole path")


BROKEN = {
    "zero": ("x = 1 / 0\n", "ZeroDivisionError: division by zero, in {file}, line 1"),
    "syntax": ("\ndef f(:\n", "SyntaxError: invalid syntax, in {file}, line 2"),
    "leaves": ("raise SystemExit(0)\n", "SystemExit: 0, in {file}, line 1"),
    "lacks": ("import nothing_like_it\n", "ModuleNotFoundError: No module named 'nothing_like_it', in {file}, line 1"),
}
VERBS = ["LAST", "-m seed=1,2 LAST", "resume run", "rerun run", "save run mine", "evaluate run", "export run"]


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("verb", VERBS)
def test_a_module_of_ones_own_with_an_error_is_refused(name, verb, run, here, capsys, monkeypatch):
    text, line = BROKEN[name]
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setenv(VARIABLE, f"broken_{name}")
    put(f"broken_{name}.py", text)
    target = f"broken_{name}.Mine"
    change(run, "config.yaml", regulariser={"_target_": target})
    change(run, "encoder.yaml", _target_=target)
    (run / "summary.json").write_text("{}")
    words = verb.replace("LAST", f"regulariser._target_={target}").split()
    before = set(Path().rglob("*"))
    said = enter(capsys, words, line.format(file=here / f"broken_{name}.py"), status=2)
    assert len(said.splitlines()) == 2
    assert {each for each in set(Path().rglob("*")) - before if "__pycache__" not in str(each)} == set()


def test_one_sample_at_a_time_is_refused_in_our_words(here, capsys):
    words = ["pretext=byol", *TINY, "evaluator=none", "hydra.run.dir=run"]
    for micro, typed in ((["batch_size=1"], 2), (["batch_size=8", "accumulate=8"], 16)):
        line = refusal(capsys, [*words, *micro], "batch normalisation needs two", f"type batch_size={typed}, or more")
        assert "per channel" not in line


@pytest.mark.slow
def test_a_locale_that_is_no_utf8_writes_and_reads_utf8(here, monkeypatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    put("conf/experiment/mine.yaml", "# @package _global_\n# naïve 画像\nseed: 3\n")
    with start("--config-dir", "conf", "experiment=mine", *TINY[:2], *SHORT, "hydra.run.dir=run") as process:
        assert "run folder:   run" in process.communicate()[0]
    with start("resume", "画像") as process:
        assert "type PYTHONUTF8=1 ssl-runner" in process.communicate()[0]


STRANGER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
STRANGER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # Python may lie in somebody's home


@pytest.fixture
def open_folder(monkeypatch):
    """The current one; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        monkeypatch.chdir(folder)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="takes root and setpriv")
@pytest.mark.parametrize("home", [None, "/proc/nowhere"])
@pytest.mark.slow
def test_another_user_without_a_home_trains_measures_and_compares(home, open_folder):
    """Whose name nobody knows, and who may write nothing but the current folder."""
    known = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    known |= {**CLEAN, "TMPDIR": str(open_folder), **({"HOME": home} if home else {})}

    def typed(*words):
        done = subprocess.run(
            [*STRANGER, sys.executable, "-m", "ssl_runner", *words],
            capture_output=True,
            text=True,
            env=known,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said = done.stdout + done.stderr
        assert not [word for word in ("Traceback", "temporary cache", "mkdir -p") if word in said], said

    typed(*TINY, "length=2st", "log_every=1st", "hydra.run.dir=run")
    assert (open_folder / "run").stat().st_uid == 54321
    assert read_json(open_folder / "run" / "environment.json")["commit"] == runner_source()[0]
    typed("evaluate", "run", "knn", "split=test", "evaluator.knn.k=3")
    assert [*open_folder.glob("run/evaluation/knn/test-*/confusion.png")]
    typed("compare", "run", "--html", "page.html")
    paint_classes(open_folder / "images")
    typed("embed", "run", "images")


def test_a_job_of_a_sweep_records_the_commit_of_when_its_code_was_imported():
    """It is forked from a process that the sweep began with; the checkout may be edited while others run."""
    start_fork_server()
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        kept = pool.apply(kept_values, [runner_source])
        pool.close()  # what is forked ignores the signal by which a pool is ended at the end of `with`
        pool.join()
    assert kept == 1
