"""An exported encoder does what the encoder does, in a process that has never heard of ssl_runner."""

import dataclasses
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import in_turn, names_of, tiny
from runs import said, start
from safetensors.torch import save_file

from ssl_runner.__main__ import main
from ssl_runner.command.export import DEFAULT
from ssl_runner.config import files
from ssl_runner.encoder import formats as portable
from ssl_runner.encoder.load import built_encoder, find_encoder
from ssl_runner.model.convnet import ConvNet
from ssl_runner.run_folder.layout import ENCODER, WEIGHTS

SHAPE, OUT = (3, 16, 16), Path("out")
SMALLEST = {"convnet": ["model.widths=[4,8]"], "timm": ["model.name=test_vit"]}
SMALLEST |= {"vit": ["model.width=12", "model.depth=1", "model.heads=2"]}
LARGER = ("resnet34", "resnet50", "vit_small", "vit_base")  # of the same files as their smaller ones
EVERY = [name for name in names_of("image", "model") if name not in LARGER]
FORMATS = [name for name in DEFAULT if not portable.missing(name)]
CARD = "MODEL_CARD.md"
TWO = ("--format", "safetensors,torch")

pytestmark = pytest.mark.usefixtures("here")


def stored(composer, model="convnet_small", *overrides, folder=Path("stored")):
    """A folder with an encoder whose weights and running statistics are unlike those of a new one."""
    words = [f"model={model}", *SMALLEST.get(model.partition("_")[0], []), *overrides]
    recipe = composer.compose(words).content["model"]
    recipe |= {"shape": list(SHAPE), "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
    torch.manual_seed(0)
    encoder = built_encoder(recipe).train()
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.rand(8, *SHAPE))
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    folder.mkdir()
    save_file(encoder.state_dict(), folder / WEIGHTS)
    (folder / ENCODER).write_text(files.dump(recipe))
    return folder


@pytest.fixture
def small(composer):
    return stored(composer)


def export(source, *words):
    """The exit status, and the names of the files that are in `out` then, beside a model card."""
    status = main(["export", str(source), "--to", "out", *words])
    there = {file.name for file in OUT.glob("*")}
    assert (CARD in there) == bool(there)
    return status, there - {CARD}


def features(folder):
    """Noise, and what the encoder of a folder makes of it."""
    x = torch.rand(4, *SHAPE)
    with torch.no_grad():
        return x, find_encoder(folder).encoder(x)


@pytest.mark.parametrize("words", in_turn([*EVERY, "vit_tiny model.pool=class"]))
def test_every_model_family_is_exported(composer, words, capsys):
    folder = stored(composer, *words.split())
    assert export(folder) == (0, {ENCODER, *(portable.FORMATS[name].file for name in FORMATS)}), capsys.readouterr()
    x, wanted = features(folder)
    for kind in (portable.FORMATS[name] for name in FORMATS):
        given = kind.use((OUT / kind.file).read_bytes(), find_encoder(folder))(x)
        for name in ("pooled", "tokens"):
            assert torch.allclose(given[name], getattr(wanted, name), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_lines_it_prints_load_it_where_there_is_no_ssl_runner(small, capsys):
    assert export(small)[0] == 0
    paragraphs = [textwrap.dedent(each) for each in capsys.readouterr().out.split("\n\n") if each.startswith("  ")]
    assert len(paragraphs) == len(FORMATS)
    ours, *others = paragraphs
    x, wanted = features(small)
    torch.save({"x": x, "pooled": wanted.pooled, "tokens": wanted.tokens}, "wanted.pt")
    script = "import sys\nsys.modules['ssl_runner'] = None\nimport torch\n"  # importing the runner raises ImportError
    script += "wanted = torch.load('wanted.pt')\nx = wanted['x']\n"
    for lines in others:
        run = "dict(zip(('pooled', 'tokens'), encoder.run(['pooled', 'tokens'], {'x': x.numpy()})))"
        script += f"{lines}\nfeatures = {'encoder(x)' if 'torch.export' in lines else run}\n"
        for name in ("pooled", "tokens"):
            script += f"assert torch.allclose(torch.as_tensor(features['{name}']), wanted['{name}'], atol=1e-4)\n"
    script += "try:\n    import ssl_runner\nexcept ImportError:\n    print('done without')\n"
    printed, _ = start(program=("-W", "error", "-c", script)).communicate(timeout=120)
    assert printed == "done without\n"
    space = {}
    exec(ours, space)
    with torch.no_grad():
        assert torch.equal(space["encoder"](x).pooled, wanted.pooled)


@pytest.mark.slow
def test_a_run_and_its_checkpoints_have_folders_of_their_own(capsys):
    assert main(tiny("length=2st", "evaluator=none", "save_every=1st", "hydra.run.dir=run")) == 0
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    assert main(["export", "run", *TWO]) == 0
    assert main(["export", "run/checkpoints/0000001.pt", "--format", "torch"]) == 0
    new = {str(file) for file in Path("run").rglob("*") if file.is_file() and file not in before}
    exported = {f"run/export/{name}" for name in (WEIGHTS, ENCODER, "encoder.pt2", CARD)}
    assert new == exported | {f"run/export-0000001/{name}" for name in ("encoder.pt2", CARD)}
    assert all(file.read_bytes() == content for file, content in before.items())
    assert (Path("run/export") / WEIGHTS).read_bytes() == (Path("run") / WEIGHTS).read_bytes()
    # the last checkpoint is the very encoder that the run has exported
    assert main(["export", "run/checkpoints/0000002.pt", "--to", "run/export", *TWO]) == 0
    assert "was there" in capsys.readouterr().out
    assert main(["export", "run/checkpoints/0000001.pt", "--to", "run/export", "--format", "torch"]) == 2
    # what is exported can be exported further, beside itself
    assert main(["export", "run/export", "--format", "torch"]) == 0
    assert not Path("run/export/export").exists()


@pytest.mark.slow
def test_files_that_are_there(composer, small, capsys):
    whole, mine = (0, {WEIGHTS, ENCODER, "encoder.pt2"}), OUT / "encoder.pt2"
    assert export(small, *TWO) == whole
    times = {file: file.stat().st_mtime_ns for file in OUT.iterdir()}
    assert export(small, *TWO) == whole
    assert {file: file.stat().st_mtime_ns for file in OUT.iterdir()} == times, "the same files were written again"
    (OUT / ENCODER).unlink()  # without it the weights are of no use
    assert export(small, *TWO) == whole
    mine.write_bytes(b"mine")
    capsys.readouterr()
    for folder in (small, stored(composer, "convnet_small", "model.batch_norm=false", folder=Path("other"))):
        assert export(folder, *TWO)[0] == 2
        assert mine.read_bytes() == b"mine"
        told = said(capsys, "out/encoder.pt2 is there and is not what would be written", "--overwrite")
    assert "out/encoder.yaml is there and is not what would be written" in told
    assert export(small, *TWO, "--overwrite") == whole, "and no temporary file is left"
    assert mine.read_bytes() != b"mine"


BUGS = {  # planted in the pooled features; what is said of it, and what is written all the same
    "noise": (lambda pooled: pooled + 0.1 * torch.randn(pooled.shape), "features differ by up to", set()),
    "nan": (lambda pooled: pooled * torch.nan, "features differ by up to nan", set()),
    "batch size as a number": (lambda pooled: pooled * float(len(pooled)), "cannot be exported", {WEIGHTS, ENCODER}),
    "a thousandth off once exported": (
        *(lambda pooled: pooled * (1.001 if torch.compiler.is_compiling() else 1.0), "features differ by up to"),
        {WEIGHTS, ENCODER},
    ),
}


@pytest.mark.parametrize(("bug", "words", "written"), BUGS.values(), ids=BUGS)
def test_planted_bugs_are_seen_and_what_differs_is_not_written(bug, words, written, small, monkeypatch, capsys):
    forward = ConvNet.forward

    def planted(self, x, keep=None):
        features = forward(self, x)
        return dataclasses.replace(features, pooled=bug(features.pooled))

    monkeypatch.setattr(ConvNet, "forward", planted)
    assert export(small, *TWO) == (1, written)
    assert f"error: torch: {words}" in " ".join(said(capsys).split())


def test_without_onnx_the_rest_is_made(small, monkeypatch, capsys):
    monkeypatch.setattr(portable, "NEEDS", {"onnx": ("torch", "no_such_module")})
    assert export(small, "--format", "torch,onnx") == (2, set())
    assert "--format: onnx needs no_such_module" in capsys.readouterr().err
    assert export(small) == (0, {WEIGHTS, ENCODER, "encoder.pt2"})
    assert "onnx is left out, since it needs no_such_module: pip install 'ssl-runner[onnx]'" in capsys.readouterr().out


@pytest.mark.slow
def test_onnx_says_what_goes_in_and_out(small):
    onnx = pytest.importorskip("onnx")
    assert export(small, "--format", "onnx") == (0, {"encoder.onnx"})
    model = onnx.load("out/encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    ends = (*model.graph.input, *model.graph.output)
    shapes = {each.name: [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] for each in ends}
    assert shapes == {"x": ["batch", *SHAPE], "pooled": ["batch", 8], "tokens": ["batch", 16, 8]}
    assert str(Path(portable.__file__).parent).encode() not in Path("out/encoder.onnx").read_bytes(), "a path of here"


def test_mistakes(small, capsys):
    assert export("absent")[0] == export(small, "--format", "torchscript,onix")[0] == 2
    (small / WEIGHTS).write_bytes(b"torn")
    assert export(small) == (2, set())
    possible = "given torchscript; possible are safetensors, torch, onnx"
    said(capsys, "absent is no encoder", possible, "given onix", "torn")
