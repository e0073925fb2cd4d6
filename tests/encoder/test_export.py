"""An exported encoder does what the encoder does, in a process that has never heard of ssl_runner."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import names, tiny
from runs import said
from safetensors.torch import save_file

from ssl_runner.__main__ import main
from ssl_runner.config import files
from ssl_runner.encoder import export
from ssl_runner.encoder import formats as portable
from ssl_runner.encoder.load import TrainedEncoder, built_encoder, find_encoder
from ssl_runner.model.convnet import ConvNet
from ssl_runner.run_folder.layout import ENCODER, WEIGHTS

SHAPE = (3, 16, 16)
SMALLEST = {
    "ConvNet": ("model.widths=[4,8]",),
    "ResNet": (),
    "ViT": ("model.width=12", "model.depth=1", "model.heads=2"),
    "Timm": ("model.name=test_vit",),
}
LARGER = ("resnet34", "resnet50", "vit_small", "vit_base")  # of the same files as their smaller ones
EVERY = [name for name in names("model") if name not in LARGER]
HAS_ONNX = not portable.missing("onnx")
BLOCKED = "import sys\nsys.modules['ssl_runner'] = None\n"  # importing it raises ImportError


pytestmark = pytest.mark.usefixtures("here")


def stored(composer, *overrides, folder="stored"):
    """A folder with an encoder whose weights and running statistics are unlike those of a new one."""
    content = composer.compose(overrides).content["model"]
    kind = content["_target_"].rpartition(".")[2]
    content = composer.compose([*overrides, *(each for each in SMALLEST[kind] if each not in overrides)]).content
    recipe = {**content["model"], "shape": list(SHAPE), "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
    torch.manual_seed(0)
    encoder = built_encoder(recipe).train()
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.rand(8, *SHAPE))
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    Path(folder).mkdir()
    save_file(encoder.state_dict(), Path(folder) / WEIGHTS)
    (Path(folder) / ENCODER).write_text(files.dump(recipe))
    return Path(folder)


@pytest.fixture
def small(composer):
    return stored(composer, "model=convnet_small")


@pytest.mark.parametrize("model", EVERY)
def test_every_model_family_is_exported(composer, model, capsys):
    folder = stored(composer, f"model={model}")
    assert main(["export", str(folder), "--to", "out"]) == 0, capsys.readouterr()
    files = {file.name for file in Path("out").iterdir()}
    assert files == {WEIGHTS, ENCODER, "encoder.pt2"} | ({"encoder.onnx"} if HAS_ONNX else set())
    source = find_encoder(folder)
    x = torch.rand(5, *SHAPE)
    with torch.no_grad():
        wanted = source.encoder(x)
    for name in portable.FORMATS if HAS_ONNX else ("safetensors", "torch"):
        kind = portable.FORMATS[name]
        pooled, tokens = kind.use((Path("out") / kind.file).read_bytes(), source)(x)
        assert torch.allclose(pooled, wanted.pooled, rtol=1e-4, atol=1e-4)
        assert torch.allclose(tokens, wanted.tokens, rtol=1e-4, atol=1e-4)


def test_a_class_token_is_exported(composer):
    folder = stored(composer, "model=vit_tiny", "model.pool=class")
    assert main(["export", str(folder), "--to", "out", "--format", "torch"]) == 0


def test_the_lines_it_prints_load_it_where_there_is_no_ssl_runner(small, capsys):
    assert main(["export", str(small), "--to", "out"]) == 0
    paragraphs = [each for each in capsys.readouterr().out.split("\n\n") if each.startswith("  ")]
    assert len(paragraphs) == (3 if HAS_ONNX else 2)
    ours, *others = ("\n".join(line.strip() for line in each.splitlines()) for each in paragraphs)
    x = torch.rand(4, *SHAPE)
    with torch.no_grad():
        wanted = find_encoder(small).encoder(x)
    torch.save({"x": x, "pooled": wanted.pooled, "tokens": wanted.tokens}, "wanted.pt")
    close = "assert torch.allclose(torch.as_tensor({}), wanted['{}'], atol=1e-4)\n"
    script = BLOCKED + "import torch\nwanted = torch.load('wanted.pt')\nx = wanted['x']\n"
    for lines, get in zip(others, ("features['{}']", "dict(zip(('pooled', 'tokens'), features))['{}']"), strict=False):
        called = "encoder(x)" if "torch.export" in lines else "encoder.run(['pooled', 'tokens'], {'x': x.numpy()})"
        script += f"{lines}\nfeatures = {called}\n"
        script += "".join(close.format(get.format(name), name) for name in ("pooled", "tokens"))
    script += "try:\n    import ssl_runner\nexcept ImportError:\n    print('done without')\n"
    told = {"capture_output": True, "text": True, "timeout": 120, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], **told)
    assert done.stdout.strip() == "done without", done.stderr
    space = {}
    exec(ours, space)
    with torch.no_grad():
        assert torch.equal(space["encoder"](x).pooled, wanted.pooled)


def test_a_run_and_its_checkpoints_have_folders_of_their_own(capsys):
    assert main(tiny("length=2st", "evaluator=none", "save_every=1st", "hydra.run.dir=run")) == 0
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    assert main(["export", "run", "--format", "safetensors,torch"]) == 0
    assert main(["export", "run/checkpoints/0000001.pt", "--format", "torch"]) == 0
    new = {str(file) for file in Path("run").rglob("*") if file.is_file() and file not in before}
    assert new == {
        *("run/export/encoder.safetensors", "run/export/encoder.yaml", "run/export/encoder.pt2"),
        "run/export-0000001/encoder.pt2",
    }
    assert all(file.read_bytes() == content for file, content in before.items())
    assert (Path("run/export") / WEIGHTS).read_bytes() == (Path("run") / WEIGHTS).read_bytes()
    # the last checkpoint is the very encoder that the run has exported
    assert main(["export", "run/checkpoints/0000002.pt", "--to", "run/export", "--format", "safetensors,torch"]) == 0
    assert "was there" in capsys.readouterr().out
    assert main(["export", "run/checkpoints/0000001.pt", "--to", "run/export", "--format", "torch"]) == 2
    # what is exported can be exported further, beside itself
    assert main(["export", "run/export", "--format", "torch"]) == 0
    assert not Path("run/export/export").exists()


def test_files_that_are_there(composer, small, capsys):
    out = Path("out")
    words = ["export", str(small), "--to", "out", "--format", "safetensors,torch"]
    assert main(words) == 0
    times = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == times, "the same files were written again"
    (out / ENCODER).unlink()  # without it the weights are of no use
    assert main(words) == 0
    assert (out / ENCODER).exists()
    (out / "encoder.pt2").write_bytes(b"mine")
    other = stored(composer, "model=convnet_small", "model.batch_norm=false", folder="other")
    capsys.readouterr()
    for folder in (small, other):
        assert main(["export", str(folder), "--to", "out", "--format", "safetensors,torch"]) == 2
        assert (out / "encoder.pt2").read_bytes() == b"mine"
        told = said(capsys)
        assert "out/encoder.pt2 is there and is not what would be written" in told
        assert "--overwrite" in told
    assert "out/encoder.yaml is there and is not what would be written" in told
    assert main([*words, "--overwrite"]) == 0
    assert (out / "encoder.pt2").read_bytes() != b"mine"
    assert not list(out.glob(".*")), "a temporary file was left"


def test_a_file_that_differs_is_not_written(small, monkeypatch, capsys):
    def slightly_off(self, x):
        features = self.encoder(x)
        return {"pooled": 1.001 * features.pooled, "tokens": features.tokens}

    monkeypatch.setattr(portable.Named, "forward", slightly_off)
    assert main(["export", str(small), "--to", "out", "--format", "torch,safetensors"]) == 1
    assert "error: torch: features differ by up to" in " ".join(said(capsys).split())
    assert {file.name for file in Path("out").iterdir()} == {WEIGHTS, ENCODER}


BUGS = {
    "differ": lambda pooled: pooled + 0.1 * torch.randn(pooled.shape),  # it draws in eval mode as well
    "cannot be": lambda pooled: pooled * float(len(pooled)),  # the number of samples is a Python number in it
    "differ by": lambda pooled: pooled * torch.nan,
}


@pytest.mark.parametrize(("words", "bug"), BUGS.items(), ids=["noise", "batch", "nan"])
def test_planted_bugs_are_seen(words, bug, tmp_path):
    class Buggy(ConvNet):
        def forward(self, x, keep=None):
            features = super().forward(x)
            return dataclasses.replace(features, pooled=bug(features.pooled))

    encoder = Buggy(shape=SHAPE, mean=(0.5,) * 3, std=(0.2,) * 3, widths=(4,)).eval()
    source = TrainedEncoder(encoder, tmp_path / WEIGHTS, tmp_path, {"shape": list(SHAPE)})
    with pytest.raises(export.Unequal, match=words):
        export.export("torch", source)
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_rest_is_made(small, monkeypatch, capsys):
    monkeypatch.setattr(portable, "NEEDS", {"onnx": ("torch", "no_such_module")})
    assert main(["export", str(small), "--to", "out"]) == 0
    assert "onnx is left out, since it needs no_such_module: pip install 'ssl-runner[onnx]'" in capsys.readouterr().out
    assert {file.name for file in Path("out").iterdir()} == {WEIGHTS, ENCODER, "encoder.pt2"}
    assert main(["export", str(small), "--to", "again", "--format", "torch,onnx"]) == 2
    assert "--format: onnx needs no_such_module" in capsys.readouterr().err
    assert not Path("again").exists()


def test_onnx_says_what_goes_in_and_out(small):
    onnx = pytest.importorskip("onnx")
    assert main(["export", str(small), "--to", "out", "--format", "onnx"]) == 0
    model = onnx.load("out/encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    ends = (*model.graph.input, *model.graph.output)
    shapes = {each.name: [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] for each in ends}
    assert shapes == {"x": ["batch", *SHAPE], "pooled": ["batch", 8], "tokens": ["batch", 16, 8]}
    assert str(Path(portable.__file__).parent).encode() not in Path("out/encoder.onnx").read_bytes(), "a path of here"


def test_mistakes(small, capsys):
    assert main(["export", "absent"]) == 2
    assert main(["export", str(small), "--format", "torchscript,onix"]) == 2
    (small / WEIGHTS).write_bytes(b"torn")
    assert main(["export", str(small)]) == 2
    told = said(capsys)
    possible = "given torchscript; possible are safetensors, torch, onnx"
    assert all(words in told for words in ("absent is no encoder", possible, "given onix", "torn"))
