"""Weights in torchvision's and timm's own key names: out by `export --format`, in by `init=`; and the model card."""

import textwrap
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from conftest import MEASURED_ONCE
from runs import change, config, enter, said
from safetensors.torch import load_file
from test_export import SHAPE, features, stored

from ssl_runner.__main__ import main
from ssl_runner.encoder.load import find_encoder, load_encoder

pytestmark = pytest.mark.usefixtures("here")
THEIRS = {
    "resnet18": ("torchvision", "timm"),  # of a stem for small images, which timm's names have no form of
    "resnet18 model.stem=large": ("torchvision", "timm", "huggingface"),
    "timm model.name=resnet18": ("torchvision", "timm", "huggingface"),
    "timm model.name=test_vit": ("timm", "huggingface"),
    "vit_tiny model.patch=4": ("timm", "huggingface"),
    "vit_tiny model.patch=4 model.pool=class": ("timm", "huggingface"),
    "vit_mini model.patch=4 model.depth=2 model.read=1": ("timm", "huggingface"),
    "convnet_small": (),
}
SHORT = [each for each in MEASURED_ONCE if not each.startswith(("model", "length", "save", "evaluator"))]
SHORT += ["length=1st", "save_every=1st", "evaluator=none", "dataset.size=16", "augment@pretext.augment=simclr"]
SHORT += ["pretext=simclr", "hydra.run.dir=new"]


@pytest.mark.slow
@pytest.mark.parametrize("words", THEIRS)
def test_the_printed_lines_build_their_network_with_the_same_features(composer, words, capsys):
    model, *settings = words.split()
    folder = stored(composer, model, *(each for each in settings if each != "model.name=test_vit"))
    possible = THEIRS[words]
    status = main(["export", str(folder), "--to", "out", "--format", "torchvision,timm,huggingface"])
    refused = [f"error: {name}: " for name in ("torchvision", "timm", "huggingface") if name not in possible]
    printed = said(capsys, *refused)
    assert (status, printed.count("error: ")) == (bool(refused), len(refused))
    x, wanted = features(folder)
    z = find_encoder(folder).encoder.normalise(x)
    paragraphs = [each for each in printed.partition("\nerror: ")[0].split("\n\n") if each.startswith("  ")]
    for name, lines in zip(possible, paragraphs, strict=True):
        space = {}
        exec(textwrap.dedent(lines), space)
        with torch.no_grad():
            assert torch.allclose(space["model"].eval()(z), wanted.pooled, atol=1e-4), name


def test_keys_are_their_own(composer):
    assert main(["export", str(stored(composer, "resnet18")), "--to", "out", "--format", "torchvision,timm"]) == 0
    own = torchvision.models.resnet18().state_dict().keys() - {"fc.weight", "fc.bias"}
    assert load_file("out/torchvision.safetensors").keys() == load_file("out/timm.safetensors").keys() == own


def pth(model, name="theirs.pth", wrap=lambda state: state):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    torch.save(wrap(model.state_dict()), name)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "build", "wrap"),
    [
        ("resnet18 model.stem=large", torchvision.models.resnet18, lambda state: state),
        ("timm model.name=resnet18", lambda: timm.create_model("resnet18"), lambda state: {"state_dict": state}),
    ],
)
def test_a_run_begins_with_the_weights_of_a_file_of_theirs(words, build, wrap, capsys):
    theirs = pth(build(), wrap=wrap)
    theirs.fc = torch.nn.Identity()
    model = f"model={words}".split()
    enter(capsys, [*SHORT, *model, "init=theirs.pth", "optimizer.lr=1e-12", "optimizer.weight_decay=0"])
    assert config("new")["init"]["path"] == "theirs.pth"
    encoder, x = load_encoder("new"), torch.rand(2, *SHAPE)
    assert torch.allclose(encoder.mean, torch.tensor([0.485, 0.456, 0.406]))
    inside = encoder.layers if "stem" in words else encoder.net
    assert torch.allclose(inside.conv1.weight, theirs.conv1.weight, atol=1e-6)
    theirs.load_state_dict(inside.state_dict())  # batch norm has seen a batch more
    with torch.no_grad():
        assert torch.allclose(encoder(x).pooled, theirs(encoder.normalise(x)), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm.safetensors", "huggingface"])
def test_what_was_exported_in_their_names_can_be_begun_from_with_its_normalisation(composer, name, capsys):
    folder = stored(composer, "timm", "model.name=resnet18")
    assert main(["export", str(folder), "--to", "out", "--format", "timm,huggingface"]) == 0
    enter(
        capsys,
        [
            *SHORT,
            "model=timm",
            "model.name=resnet18",
            f"init=out/{name}",
            "optimizer.lr=1e-12",
            "optimizer.weight_decay=0",
        ],
    )
    own, given = load_encoder("new"), load_encoder(folder)
    assert torch.equal(own.mean, given.mean)
    assert torch.allclose(own.net.layer4[1].conv2.weight, given.net.layer4[1].conv2.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "content", "expected"),
    [
        ("model=resnet18", None, "layers.conv1.weight is 64x3x7x7, the model's 64x3x3x3"),
        ("model=convnet_small", None, "choose model=resnet50 or model=timm"),
        ("model=resnet18", {"weights": 1}, "a dictionary of tensors by name is wanted"),
        ("model=resnet18", b"torn", "cannot be read as weights"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(words, content, expected, capsys):
    if isinstance(content, bytes):
        Path("theirs.pth").write_bytes(content)
    else:
        torch.save(content or torchvision.models.resnet18().state_dict(), "theirs.pth")
    enter(capsys, [*SHORT, words, "init=theirs.pth"], expected, status=2)
    assert not Path("new").exists()


def test_the_model_card_says_what_the_encoder_is_and_can_do_and_is_not_written_over(run, capsys):
    assert main(["export", "run", "--format", "safetensors"]) == 0
    card, final = Path("run/export/MODEL_CARD.md"), find_encoder(Path("run"))
    text = card.read_text()
    for words in ("# ConvNet trained by rotation on shapes", "images, float32 in [0, 1], of 3x32x32", "| step | 12 |"):
        assert words in text
    assert str(final.fingerprint) in text
    assert "| knn/top1 | " in text
    card.write_text("mine")
    assert main(["export", "run", "--format", "safetensors"]) == 0
    assert card.read_text() == "mine"
    assert main(["export", "run", "--format", "safetensors", "--overwrite"]) == 0
    assert card.read_text() == text
    change(Path("run"), "summary.json", status="failed")
    assert main(["export", "run", "--to", "other", "--format", "safetensors"]) == 0
    assert "knn/top1" not in Path("other/MODEL_CARD.md").read_text(), "numbers of another step"
