"""What TensorBoard makes of run folders, read through its own backend: the Python one, and the one that it starts."""

import contextlib
import json
import signal
import subprocess
import time
import warnings

import pytest
from conftest import tiny
from tensorboard.backend.event_processing.data_ingester import DEFAULT_SIZE_GUIDANCE, DEFAULT_TENSOR_SIZE_GUIDANCE
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.data.provider import RunTagFilter
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import CATEGORIES, Logbook
from ssl_runner.run_folder.layout import GROUPS

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "html5lib's sanitizer", DeprecationWarning)  # TensorBoard's own copy of bleach
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

FINAL = {
    *("knn/top1", "probe/top1", "test/knn/top1", "test/probe/top1", "train/loss", "speed/samples_per_second"),
    *("geometry/rankme", "geometry/std"),
}


class Board:
    """What the tabs show."""

    def __init__(self, provider):
        self.provider, self.ctx = provider, RequestContext()
        context = TBContext(data_provider=provider, logdir="")
        self.hparams, self.custom = backend_context.Context(context), CustomScalarsPlugin(context)

    def columns(self):
        """Hyperparameters in the order in which the tab shows them, those of them that differ, and metrics."""
        request = api_pb2.GetExperimentRequest(hparams_limit=1000)
        found = get_experiment.Handler(self.ctx, self.hparams, "", request).run()
        metrics = [each.name.tag for each in found.metric_infos]
        return [h.name for h in found.hparam_infos], [h.name for h in found.hparam_infos if h.differs], metrics

    def rows(self, *allowed):
        """The table: by run, what stands in its columns, and its status."""
        statuses = allowed or ("STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING")
        request = api_pb2.ListSessionGroupsRequest(
            allowed_statuses=[api_pb2.Status.Value(each) for each in statuses], slice_size=1000
        )
        table = {}
        for group in list_session_groups.Handler(self.ctx, self.hparams, "", request).run().session_groups:
            (session,) = group.sessions
            assert group.name == session.name
            assert group.name not in table
            row = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
            row |= {metric.name.tag: metric.value for metric in group.metric_values}
            table[group.name] = row | {"status": api_pb2.Status.Name(session.status)}
        return table

    def curve(self, run, tag):
        chosen = RunTagFilter(runs=[run], tags=[tag])
        read = self.provider.read_scalars
        found = read(self.ctx, experiment_id="", plugin_name="scalars", downsample=1000, run_tag_filter=chosen)
        return [(datum.step, datum.value) for datum in found[run][tag]]

    def layout(self):
        """Titles of the charts by category."""
        found = json.loads(self.custom.layout_impl(self.ctx, ""))
        return {each["title"]: [chart["title"] for chart in each.get("chart", ())] for each in found["category"]}


@contextlib.contextmanager
def python_backend(folder):
    multiplexer = EventMultiplexer(
        size_guidance=DEFAULT_SIZE_GUIDANCE, tensor_size_guidance=DEFAULT_TENSOR_SIZE_GUIDANCE
    )
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    yield Board(MultiplexerDataProvider(multiplexer, str(folder)))


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def data_server(folder):
    """The server that `tensorboard` starts where it is installed, once it has read the folder."""
    import grpc
    from tensorboard.data.grpc_provider import GrpcDataProvider, make_stub
    from tensorboard.data.server_ingester import NoDataServerError, get_server_binary

    try:
        binary = get_server_binary().path
    except NoDataServerError as reason:
        pytest.skip(str(reason))
    told = folder.parent / "port"
    told.unlink(missing_ok=True)
    wanted = [f"--logdir={folder}", "--port=0", f"--port-file={told}", "--die-after-stdin", "--reload=1"]
    with subprocess.Popen([binary, *wanted], stdin=subprocess.PIPE) as process:
        wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
        port = told.read_text().strip()
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            board = Board(GrpcDataProvider(f"localhost:{port}", make_stub(channel)))
            runs = {str(file.parent.relative_to(folder)) for file in folder.rglob("*tfevents*")}
            wait_for(lambda: {r.run_id for r in board.provider.list_runs(board.ctx, experiment_id="")} == runs)
            time.sleep(0.5)  # it lists a run before it has read all of it
            yield board
        process.terminate()


@pytest.fixture(params=[python_backend, data_server], ids=["python", "server"])
def look(request):
    return request.param


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of two tasks, half of whose jobs fail: a learning rate beyond all bounds."""
    folder = tmp_path_factory.mktemp("sweeps") / "mine"
    words = ["pretext=flip,simclr", "optimizer.lr=0.01,1e30", "optimizer=sgd", "optimizer.clip=null", "length=6st"]
    words += ["evaluator=[knn,probe,geometry]", "evaluator.geometry.samples=16", "log_every=2st"]
    assert main(["-m", *tiny(), *words, f"hydra.sweep.dir={folder}"]) == 1
    return folder


def test_every_job_of_a_sweep_has_every_swept_key_and_every_final_metric(sweep, look):
    swept = ["optimizer.lr", "pretext"]
    with look(sweep) as board:
        rows = board.rows()
        columns, differing, metrics = board.columns()
    names = sorted(rows)
    assert names == sorted(folder.name for folder in sweep.iterdir() if folder.is_dir())
    assert len(names) == 4
    assert differing == columns[:2] == swept, "what differs is what the tab shows first"
    assert set(metrics) >= FINAL
    assert metrics[:4] == ["accuracy/knn", "accuracy/probe", "accuracy/test_knn", "accuracy/test_probe"]
    for name, row in rows.items():
        typed = {*swept, "evaluator", "evaluator.geometry.samples", "seed", "batch_size", "length"}
        assert row.keys() >= {*typed, *GROUPS}
        assert "optimizer.clip" not in row, "null is an empty cell"
        assert name.startswith(f"{names.index(name):03d}-{row['pretext']}-")
        summary = files.read(sweep / name / "summary.json")
        if summary["status"] == "completed":
            assert row.keys() >= FINAL
            assert row["knn/top1"] == pytest.approx(summary["final"]["knn/top1"])
            assert row["accuracy/test_probe"] == pytest.approx(summary["final"]["test/probe/top1"])
            assert row["status"] == "STATUS_SUCCESS"
        else:
            assert row["optimizer.lr"] == 1e30
            assert row["status"] == "STATUS_FAILURE"
            assert row["knn/top1"] == pytest.approx(summary["baseline"]["knn/top1"]), "what it has measured"
    assert {row["status"] for row in rows.values()} == {"STATUS_SUCCESS", "STATUS_FAILURE"}


def test_a_status_can_be_chosen(sweep, look):
    with look(sweep) as board:
        assert len(board.rows("STATUS_SUCCESS")) == len(board.rows("STATUS_FAILURE")) == 2


def test_many_runs_share_one_layout(sweep, look):
    with look(sweep) as board:
        layout = board.layout()
    assert list(layout) == list(CATEGORIES)
    charts = [chart for titles in layout.values() for chart in titles]
    assert len(set(charts)) == len(charts)
    assert set(layout["learning"]) >= {"train/loss", "train/accuracy", "optimizer/lr", "optimizer/gradient_norm"}
    assert set(layout["quality"]) >= {"knn/top1", "probe/top1"}
    assert set(layout["geometry"]) >= {"geometry/rankme", "geometry/std"}
    assert set(layout["speed"]) >= {"speed/samples_per_second", "speed/data_wait", "speed/peak_memory_mb"}
    assert not any(chart.startswith(("test/", "accuracy/")) for chart in charts)


def row(folder, settings, *numbers, status):
    book = Logbook(folder)
    book.begin(settings)
    for step, values in numbers:
        book.scalars(step, 0.0, values)
    book.close(status)


def test_runs_of_different_sweeps_and_evaluators_hide_nothing_of_each_other(tmp_path, look):
    """The first run must not decide what is shown of the last, whichever of them is read first."""
    row(tmp_path / "a", {"seed": 0}, (0, {"knn/top1": 0.1}), status="completed")
    row(tmp_path / "b", {"seed": 0, "x.t": 0.5}, (0, {"geometry/std": 1.0, "z/acc": 0.2}), status="completed")
    row(tmp_path / "c", {"seed": 0, "x.t": 0.1, "on": True}, (0, {"geometry/dead": 0.0}), status="completed")
    with look(tmp_path) as board:
        rows, (columns, differing, metrics), layout = board.rows(), board.columns(), board.layout()
    assert list(rows) == ["a", "b", "c"], "equal settings are not one row"
    assert set(columns) == {"seed", "x.t", "on"}
    assert differing == ["x.t"]
    assert set(metrics) == {"accuracy/knn", "geometry/dead", "geometry/std", "knn/top1", "z/acc"}
    assert (rows["b"]["x.t"], rows["c"]["on"], rows["c"]["geometry/dead"]) == (0.5, True, 0.0)
    geometry = ["geometry/std", "geometry/dead"]
    assert layout == {"learning": [], "quality": ["knn/top1", "z/acc"], "geometry": geometry, "speed": []}


def test_a_run_that_was_resumed_is_one_curve_and_one_row(make, look, tmp_path):
    """Killed at step 11 with the checkpoint of step 6, resumed, interrupted at step 15, and resumed to its end."""

    def attempt(until, status):
        trainer = make(
            "evaluator=[knn,probe]", "save_every=6st", "log_every=2st", "evaluator.knn.every=3st", "length=18st"
        )
        start, interrupt, step = trainer.restore(), Interrupt(), trainer.learner.step
        book = Logbook(trainer.folder, start)
        book.begin({"seed": 0})

        def count(at, **more):
            interrupt.signal = signal.SIGINT if at + 1 == until else None
            return step(at, **more)

        trainer.learner.step = count
        if status is None:  # killed: without what an interrupt saves
            trainer.save = lambda at, must=False: at % 6 or type(trainer).save(trainer, at, must)
        assert trainer.fit(start, book, interrupt) == until
        book.close(status)
        time.sleep(1.05)  # TensorBoard reads event files in the order of their names, which begin with the second

    attempt(11, None)
    attempt(15, "interrupted")
    with look(tmp_path) as board:
        assert board.rows()["run"]["status"] == "STATUS_FAILURE"
    attempt(18, "completed")
    with look(tmp_path) as board:
        ((name, row),) = board.rows().items()
        loss, knn = board.curve(name, "train/loss"), board.curve(name, "knn/top1")
        layout = board.layout()
    assert [step for step, _ in loss] == list(range(2, 19, 2))
    assert [step for step, _ in knn] == list(range(0, 19, 3))
    assert (row["status"], row["knn/top1"]) == ("STATUS_SUCCESS", knn[-1][1])
    assert "train/loss" in layout["learning"]
    assert all(len(set(titles)) == len(titles) for titles in layout.values())


def test_a_run_that_goes_on_has_no_status_yet(tmp_path, look):
    row(tmp_path / "a", {"seed": 0}, (0, {"knn/top1": 0.1}), status="failed")
    book = Logbook(tmp_path / "a")
    book.begin({"seed": 0})
    book.close()
    with look(tmp_path) as board:
        assert board.rows()["a"]["status"] == "STATUS_UNKNOWN"
