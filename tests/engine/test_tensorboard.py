"""What TensorBoard makes of run folders, read through its own backend: the Python one, and the one that it starts."""

import contextlib
import json
import subprocess
import time
import warnings

import pytest
from conftest import tiny
from runs import summary, wait_for
from tensorboard.backend.event_processing.data_ingester import DEFAULT_SIZE_GUIDANCE, DEFAULT_TENSOR_SIZE_GUIDANCE
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from ssl_runner.__main__ import main
from ssl_runner.engine.events import CATEGORIES
from ssl_runner.engine.logbook import Logbook
from ssl_runner.run_folder.layout import GROUPS
from ssl_runner.testing.promises import After

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "html5lib's sanitizer", DeprecationWarning)  # TensorBoard's own copy of bleach
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin


class Board:
    """What the tabs show."""

    def __init__(self, provider):
        self.provider, self.ctx = provider, RequestContext()
        context = TBContext(data_provider=provider, logdir="")
        self.hparams, self.custom = backend_context.Context(context), CustomScalarsPlugin(context)

    def columns(self):
        """Hyperparameters in the order in which the tab shows them, those of them that differ, and metrics."""
        request = api_pb2.GetExperimentRequest(hparams_limit=1000)
        shown = get_experiment.Handler(self.ctx, self.hparams, "", request).run()
        names, differing = [h.name for h in shown.hparam_infos], [h.name for h in shown.hparam_infos if h.differs]
        return names, differing, [each.name.tag for each in shown.metric_infos]

    def rows(self, *allowed):
        """The table: by run, what stands in its columns, and its status."""
        request, table = api_pb2.ListSessionGroupsRequest(slice_size=1000), {}
        request.allowed_statuses.extend(map(api_pb2.Status.Value, allowed or api_pb2.Status.keys()))
        for group in list_session_groups.Handler(self.ctx, self.hparams, "", request).run().session_groups:
            (session,) = group.sessions
            assert group.name == session.name
            assert group.name not in table
            row = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
            row |= {metric.name.tag: metric.value for metric in group.metric_values}
            table[group.name] = row | {"status": api_pb2.Status.Name(session.status)}
        return table

    def curve(self, run, tag):
        more = {"experiment_id": "", "plugin_name": "scalars", "downsample": 1000}
        return [(each.step, each.value) for each in self.provider.read_scalars(self.ctx, **more)[run][tag]]

    def layout(self):
        """Titles of the charts by category."""
        categories = json.loads(self.custom.layout_impl(self.ctx, ""))["category"]
        return {each["title"]: [chart["title"] for chart in each.get("chart", ())] for each in categories}


@contextlib.contextmanager
def python_backend(folder):
    multiplexer = EventMultiplexer(None, DEFAULT_SIZE_GUIDANCE, DEFAULT_TENSOR_SIZE_GUIDANCE)
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    yield Board(MultiplexerDataProvider(multiplexer, str(folder)))


@contextlib.contextmanager
def data_server(folder):
    """The server that `tensorboard` starts if it is installed, once it has read the folder."""
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
        wait_for(lambda: told.exists() and told.read_text().endswith("\n"), process, 20)
        place = f"localhost:{told.read_text().strip()}"
        with grpc.insecure_channel(place) as channel:
            board = Board(GrpcDataProvider(place, make_stub(channel)))
            runs = {str(file.parent.relative_to(folder)) for file in folder.rglob("*tfevents*")}
            listed = board.provider.list_runs
            wait_for(lambda: {r.run_id for r in listed(board.ctx, experiment_id="")} == runs, process, 20)
            time.sleep(0.5)  # it lists a run before it has read all of it
            yield board
        process.terminate()


pytestmark = [
    pytest.mark.parametrize("look", [python_backend, data_server], ids=["python", "server"]),
    pytest.mark.xdist_group("tensorboard"),  # of one process, which runs the sweep once
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of two tasks, half of whose jobs fail: a learning rate beyond all bounds."""
    folder = tmp_path_factory.mktemp("sweeps") / "mine"
    words = ["pretext=flip,simclr", "optimizer.lr=0.01,1e30", "optimizer=sgd", "optimizer.clip=null", "length=6st"]
    words += ["evaluator=[knn,probe,geometry]", "evaluator.geometry.samples=16", "log_every=2st"]
    assert main(["-m", *tiny(), *words, f"hydra.sweep.dir={folder}"]) == 1
    return folder


def test_every_job_of_a_sweep_has_every_swept_key_every_final_metric_and_one_layout(sweep, look):
    with look(sweep) as board:
        rows, layout, (columns, differing, metrics) = board.rows(), board.layout(), board.columns()
        for status in ("STATUS_SUCCESS", "STATUS_FAILURE"):
            assert sorted(board.rows(status)) == sorted(name for name in rows if rows[name]["status"] == status)
    names, swept = sorted(rows), ["optimizer.lr", "pretext"]
    assert names == sorted(folder.name for folder in sweep.iterdir() if folder.is_dir())
    assert differing == columns[:2] == swept, "what differs is what the tab shows first"
    quality, geometry = {"knn/top1", "probe/top1"}, {"geometry/rankme", "geometry/std"}
    final = {*quality, *geometry, "test/knn/top1", "test/probe/top1", "train/loss", "speed/samples_per_second"}
    assert set(metrics) >= final
    assert metrics[:4] == ["accuracy/knn", "accuracy/probe", "accuracy/test_knn", "accuracy/test_probe"]
    for number, (name, row) in enumerate(sorted(rows.items())):
        typed = {*swept, "evaluator", "evaluator.geometry.samples", "seed", "batch_size", "length"}
        assert row.keys() >= {*typed, *GROUPS}
        assert "optimizer.clip" not in row, "null is an empty cell"
        assert name.startswith(f"{number:03d}-{row['pretext']}-")
        job, failed = summary(sweep / name), row["optimizer.lr"] == 1e30
        ends = ("STATUS_FAILURE", "failed") if failed else ("STATUS_SUCCESS", "completed")
        assert (row["status"], job["status"]) == ends
        assert row["knn/top1"] == pytest.approx(job["baseline" if failed else "final"]["knn/top1"])
        if not failed:
            assert row.keys() >= final
            assert row["accuracy/test_probe"] == pytest.approx(job["final"]["test/probe/top1"])
    assert sorted(row["status"] for row in rows.values()) == ["STATUS_FAILURE"] * 2 + ["STATUS_SUCCESS"] * 2
    assert tuple(layout) == CATEGORIES
    charts = [chart for titles in layout.values() for chart in titles]
    assert len(set(charts)) == len(charts)
    learning = {"train/loss", "train/accuracy", "optimizer/lr", "optimizer/gradient_norm"}
    speed = {"speed/samples_per_second", "speed/data_wait", "speed/peak_memory_mb"}
    for titles, expected in zip(layout.values(), (learning, quality, geometry, speed), strict=True):
        assert expected <= {*titles}
    assert not any(chart.startswith(("test/", "accuracy/")) for chart in charts)


@pytest.mark.slow
def test_an_evaluation_of_one_run_hides_no_other_and_adds_no_run(sweep, look, capsys):
    """Its numbers are in the row of the run, once, however often it is measured; those of its own step 0 are apart."""
    run = next(
        folder for folder in sorted(sweep.iterdir()) if folder.is_dir() and summary(folder)["status"] == "completed"
    )
    with look(sweep) as board:
        before = board.rows()
    (run / "evaluation/knn/test-1a2b3c").mkdir(parents=True, exist_ok=True)  # as version 0.1 left it
    (run / "evaluation/knn/test-1a2b3c/events.out.tfevents.1.a.1.0.numbers").write_bytes(b"")
    for words in (["cluster", "knn"], ["cluster"], ["knn", "evaluator.knn.k=5"], ["cluster", "init=random"]):
        assert main(["evaluate", str(run), *words, "split=test"]) == 0
    with look(sweep) as board:
        rows, metrics = board.rows(), board.columns()[2]
        runs = {each.run_id for each in board.provider.list_runs(board.ctx, experiment_id="")}
        random = board.curve(run.name, "baseline/test/cluster/nmi")
    assert runs == rows.keys() == before.keys()
    measured, trained = rows[run.name], summary(run)["final"]["test/knn/top1"]
    assert measured["test/knn/top1"] == measured["accuracy/test_knn"] == pytest.approx(trained), "with k=5 it is apart"
    apart = [value for name, value in measured.items() if name.startswith("test/knn/top1#")]
    assert 1 <= len(apart) <= 2, "that of training is not there twice"
    assert "test/cluster/nmi" in measured
    assert metrics[:4] == ["accuracy/knn", "accuracy/probe", "accuracy/test_knn", "accuracy/test_probe"]
    assert len(random) == 1
    assert all(row == before[name] for name, row in rows.items() if name != run.name)
    assert len(list(run.glob("*.evaluation"))) == 1


def test_runs_of_different_sweeps_and_evaluators_hide_nothing_of_each_other(tmp_path, look):
    """The first run must not decide what is shown of the last, whichever of them is read first."""
    for name, settings, values in (
        ("a", {"seed": 0}, {"knn/top1": 0.1}),
        ("b", {"seed": 0, "x.t": 0.5}, {"geometry/std": 1.0, "z/acc": 0.2}),
        ("c", {"seed": 0, "x.t": 0.1, "on": True}, {"geometry/dead": 0.0}),
    ):
        book = Logbook(tmp_path / name)
        book.begin(settings)
        book.scalars(0, 0.0, values)
        book.close("completed")
    with look(tmp_path) as board:
        rows, (columns, differing, metrics), layout = board.rows(), board.columns(), board.layout()
    assert list(rows) == ["a", "b", "c"], "equal settings are not one row"
    assert set(columns) == {"seed", "x.t", "on"}
    assert differing == ["x.t"]
    assert set(metrics) == {"accuracy/knn", "geometry/dead", "geometry/std", "knn/top1", "z/acc"}
    assert (rows["b"]["x.t"], rows["c"]["on"], rows["c"]["geometry/dead"]) == (0.5, True, 0.0)
    geometry = ["geometry/std", "geometry/dead"]
    assert layout == {"learning": [], "quality": ["knn/top1", "z/acc"], "geometry": geometry, "speed": []}


@pytest.mark.slow
def test_a_run_that_was_resumed_is_one_curve_and_one_row(make, look, tmp_path):
    """Killed at step 11 with the checkpoint of step 6, resumed, interrupted at step 15, killed again, and resumed."""
    words = ("evaluator=[knn,probe]", "save_every=6st", "log_every=2st", "evaluator.knn.every=3st", "length=18st")
    for until, status, shown in (
        *((11, None, "UNKNOWN"), (15, "interrupted", "FAILURE")),
        *((17, None, "UNKNOWN"), (18, "completed", "SUCCESS")),
    ):
        trainer = make(*words)
        start, save = trainer.restore(), trainer.save
        if status is None:  # killed: without what an interrupt saves
            trainer.save = lambda at, must=False, save=save: at % 6 or save(at, must)
        book = Logbook(trainer.folder, start)
        book.begin({"seed": 0})
        assert trainer.fit(start, book, After(until - start)) == until
        book.close(status)
        time.sleep(1.05)  # TensorBoard reads event files in the order of their names, which begin with the second
        with look(tmp_path) as board:
            ((name, row),) = board.rows().items()
            assert row["status"] == f"STATUS_{shown}", "a run that goes on, or was killed, has none yet"
            loss, knn, layout = board.curve(name, "train/loss"), board.curve(name, "knn/top1"), board.layout()
    assert [step for step, _ in loss] == list(range(2, 19, 2))
    assert [step for step, _ in knn] == list(range(0, 19, 3))
    assert row["knn/top1"] == knn[-1][1]
    assert "train/loss" in layout["learning"]
    assert all(len(set(titles)) == len(titles) for titles in layout.values())
