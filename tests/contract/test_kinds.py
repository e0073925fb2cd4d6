"""Images, text and audio: every task meets every kind; data of one's own is trained on, measured and exported."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import build_trainer, in_turn, names, tiny
from modality_toys import KINDS, BagOfWords, Bands
from runs import enter, kill, measured, put, same, saved, summary
from toys import choice

from ssl_runner.contract import Batch
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.encoder.load import find_encoder, load_encoder
from ssl_runner.run.kinds import USUAL
from ssl_runner.run.preflight import read_job
from ssl_runner.testing.jobs import EMBEDDED

DATA = {"image": lambda: Shapes(images=40, test=10), **{kind: toys["dataset"] for kind, toys in KINDS.items()}}
TRUST = "SSL_RUNNER_TRUST"
WORDS = (
    *("device=cpu", "batch_size=16", "length=300st", "save_every=100st", "log_every=50st", "optimizer.lr=0.01"),
    *("evaluator=[knn,probe,geometry]", "evaluator.knn.k=5", "evaluator.knn.every=50%", "evaluator.probe.every=50%"),
    *("evaluator.geometry.samples=64", "evaluator.geometry.every=50%"),
)


def node(target):
    return {"_target_": f"{target.__module__}.{target.__name__}"}


@pytest.fixture
def job(composer, monkeypatch):
    """The job of a task with toys in the place of some parts, and what is wrong with it."""
    monkeypatch.setenv(TRUST, "modality_toys")

    def build(task, *words, **toys):
        content = composer.compose(tiny(f"pretext={task}", "evaluator=[knn]", *words)).content
        return read_job({**content, **{group: node(target) for group, target in toys.items()}})

    return build


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("task", [*in_turn(names("pretext")), BagOfWords, Bands], ids=str)
def test_a_task_runs_on_a_kind_or_is_refused_with_a_remedy(job, task, kind, tmp_path):
    takes = choice("pretext", task)[0].kinds if isinstance(task, str) else task.kinds
    if isinstance(task, str) and kind in takes:  # with what the dataset recommends
        whole, problems = job(task, *([] if kind == takes[0] else [f"dataset={EMBEDDED[kind]}"]))
    else:
        own = {} if isinstance(task, str) else {"pretext": task}
        toys = {} if kind == "image" else {group: KINDS[kind][group] for group in ("dataset", "model")}
        whole, problems = job("rotation" if own else task, *["dataset=shapes"] * (kind == "image"), **toys, **own)
    if kind in takes:
        assert not problems
        build_trainer(whole, tmp_path).learner.step(0)  # unlike read_job it raises what is a bug
    else:
        (line,) = problems
        assert line.startswith(f"pretext: {whole.pretext.target.__name__} takes {' or '.join(takes)}")
        other = " or ".join(f"dataset={EMBEDDED[each]}" for each in takes)
        assert line.endswith(f"and the dataset has {kind}; type pretext={USUAL[kind]['pretext']}, or {other}")


def test_a_model_of_another_kind_is_refused_too(job):
    _, (line,) = job("rotation", dataset=KINDS["text"]["dataset"], pretext=BagOfWords)
    given = "model: ConvNet takes image, and the dataset has text"
    assert line == f"{given}; type model=text_transformer_tiny, or dataset=shapes"
    _, (line,) = job("rotation", dataset=KINDS["text"]["dataset"], model=KINDS["text"]["model"])
    assert line.startswith("pretext: Rotation takes image"), "which says enough"


@pytest.mark.parametrize("kind", [kind for kind in DATA if USUAL[kind]["pretext"] in names("pretext")])
def test_what_a_remedy_names_is_there(kind):
    assert USUAL[kind]["dataset"] == EMBEDDED[kind]
    for group, name in USUAL[kind].items():
        assert name in names(group)
        assert group == "dataset" or kind in choice(group, name)[0].kinds


@pytest.mark.parametrize("kind", DATA)
def test_noise_is_as_samples_are(kind):
    """What pre-flight and export try a network with looks like what a dataset gives it."""
    dataset = DATA[kind]()
    noise = dataset.samples.example(5, torch.Generator().manual_seed(0))
    real = dataset.samples.from_rows(dataset.load().train[:5])
    assert (noise.shape, noise.dtype) == (real.shape, real.dtype) == ((5, *dataset.samples.shape), real.dtype)
    low, high = {"image": (0, 1), "audio": (-1, 1), "text": (0, dataset.samples.vocabulary - 1)}[kind]
    for x in (noise, real):
        assert low <= x.min() < x.max() <= high
    assert Batch(noise, torch.arange(5))._fields == ("x", "index"), "there is no label to read"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_trained_measured_resumed_and_exported(kind, here, monkeypatch, capsys):
    """Choices of the user's own in conf/, whose package must be trusted first."""
    for group, target in KINDS[kind].items():
        put(f"conf/{group}/mine.yaml", node(target))
    words = ["--config-dir", "conf", *(f"{group}=mine" for group in KINDS[kind]), *WORDS, "hydra.run.dir=run"]
    monkeypatch.delenv(TRUST, raising=False)
    enter(capsys, words, "modality_toys", status=2)
    assert not Path("run").exists()
    monkeypatch.setenv(TRUST, "modality_toys")
    assert "image" not in enter(capsys, words, "samples/s")
    done = summary("run")
    for name in ("knn/top1", "probe/top1"):
        assert done["final"][name] >= done["baseline"][name] + 0.08, "what was planted is found"
    assert done["final"].keys() >= {"test/knn/top1", "geometry/rankme", "geometry/std", "geometry/health"}
    assert done["raw"].keys() >= {"knn/top1", "probe/top1", "probe/balanced_accuracy"}
    assert 0.5 < done["raw"]["probe/top1"] != done["baseline"]["probe/top1"], "words or bands alone tell the classes"
    assert not any(name.startswith("raw") for part in ("baseline", "final", "metrics") for name in done[part])
    assert "geometry/lidar" not in done["final"], "there are no views of this kind"
    assert [step for step, _ in measured("run")] == [0, 150, 300]
    cut = kill(shutil.copytree("run", here / "cut"), 300)
    assert saved(cut) == [200]
    enter(capsys, "resume cut")
    assert same(cut, "run")
    dataset, trained = KINDS[kind]["dataset"](), find_encoder(Path("run"))
    rows = dataset.samples.from_rows(dataset.load().test.x)
    enter(capsys, "export run --format safetensors,torch")
    exported = yaml.safe_load(Path("run/export/encoder.yaml").read_text())
    assert exported["samples"]["kind"] == trained.samples.kind == kind
    with torch.no_grad():
        wanted = trained.encoder(rows)
        loaded = load_encoder("run/export/encoder.safetensors")(rows)
        program = torch.export.load("run/export/encoder.pt2").module()(rows)
    assert wanted.mask is not None
    assert torch.equal(loaded.pooled, wanted.pooled)
    assert torch.allclose(program["pooled"], wanted.pooled, atol=1e-5)
    keep_assets(KINDS[kind]["dataset"].assets)


def keep_assets(assets):
    """They lie beside each form of an encoder, which refuses others."""
    for place in ("run", "run/export/encoder.safetensors", "run/checkpoints/0000300.pt"):
        assert find_encoder(Path(place)).assets == assets
        assert load_encoder(place).assets == assets
    for name, content in assets.items():
        for folder, sources in {"run": ["run", "run/checkpoints/0000300.pt"], "run/export": ["run/export"]}.items():
            file = Path(folder, name)
            assert file.read_bytes() == content
            for spoil, words in ((file.unlink, "is absent"), (lambda f=file: f.write_text("other"), "is not the one")):
                spoil()
                for source in sources:
                    with pytest.raises(ValueError, match=rf"{name} {words}"):
                        find_encoder(Path(source))


@pytest.mark.parametrize("task", ["rotation", "moco_v2", "simmim"])
def test_a_task_of_images_alone_is_refused_for_sounds_in_one_line_with_what_to_type(composer, task):
    """Whatever views and model the dataset recommends, the kind is what is told."""
    composed = composer.compose([f"pretext={task}", "dataset=utterances", "device=cpu"])
    assert not composed.problems
    _, problems = read_job(composed.content)
    (line,) = problems
    assert line.startswith("pretext: ")
    assert line.endswith("takes image, and the dataset has audio; type pretext=cpc, or dataset=shapes")


@pytest.mark.parametrize("task", ["simclr", "byol", "vicreg", "barlow_twins"])
def test_a_task_that_compares_views_serves_sounds_as_it_is_typed(composer, task):
    composed = composer.compose([f"pretext={task}", "dataset=utterances", "device=cpu", "dataset.clips=100"])
    job, problems = read_job(composed.content)
    assert not problems
    assert composed.choices["model"] == "audio_convnet"
    assert {node.target.__name__ for name, node in job.pretext.arguments.items() if "augment" in name} == {"SoundViews"}
