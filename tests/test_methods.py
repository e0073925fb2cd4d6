"""SimCLR, BYOL, MAE and BiGAN, and the parts that they stand on."""

import inspect
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from ssl_runner.augment.image.mask import patchify, random_masks, unpatchify
from ssl_runner.augment.image.views import Views
from ssl_runner.contract import Batch, Context, Encoder, Features, Pretext
from ssl_runner.layers.ema import follow, frozen_copy
from ssl_runner.layers.heads import mlp
from ssl_runner.layers.transformer import Block
from ssl_runner.pretext.bigan import BiGAN, Discriminator
from ssl_runner.pretext.byol import BYOL, distance
from ssl_runner.pretext.mae import MAE, grid_of
from ssl_runner.pretext.simclr import SimCLR, nt_xent

SHAPE = (3, 8, 8)
NOTHING = {"scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}


class TinyConv(Encoder):
    """One convolution, batch norm and the mean over places."""

    def __init__(self, dim: int = 12):
        super().__init__((0.5,) * 3, (0.25,) * 3)
        self.dim = dim
        self.convolution = nn.Conv2d(3, dim, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        maps = F.relu(self.norm(self.convolution(self.normalise(x))))
        tokens = maps.flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens, tuple(maps.shape[2:]))


class TinyPatches(Encoder):
    """Patches of 2x2 pixels; each token reads its own patch, its place and the mean of those kept."""

    drops_tokens = True

    def __init__(self, dim: int = 16, mean: float = 0.5, std: float = 0.25):
        super().__init__((mean,) * 3, (std,) * 3)
        self.dim = dim
        self.embed = nn.Linear(12, dim)
        self.place = nn.Parameter(torch.randn(1, 16, dim))
        self.mix = nn.Linear(dim, dim)
        self.asked: list[bool] = []

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Features:
        self.asked.append(keep is not None)
        tokens = self.embed(patchify(self.normalise(x), (2, 2)))
        if tokens.shape[1] == 16:
            tokens = tokens + self.place
        if keep is not None:
            tokens = torch.take_along_dim(tokens, keep[..., None], dim=1)
        tokens = F.gelu(tokens) + self.mix(tokens.mean(1, keepdim=True))
        return Features(tokens.mean(1), tokens, (x.shape[2] // 2, x.shape[3] // 2))


def context(seed: int = 0, step: int = 0, steps: int = 100) -> Context:
    return Context(step, steps, 10, torch.Generator().manual_seed(seed), lambda: iter(()))


def batch(n: int = 8, seed: int = 0) -> Batch:
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.arange(n))


def simclr(**settings) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(encoder=TinyConv(), augment=Views(scale=(0.5, 1.0)), hidden=16, out=8, **settings)


def byol(**settings) -> BYOL:
    torch.manual_seed(0)
    augment, prime = Views(scale=(0.5, 1.0)), Views(scale=(0.5, 1.0), solarise=0.2)
    return BYOL(encoder=TinyConv(), augment=augment, augment_prime=prime, hidden=16, out=8, **settings)


def mae(encoder: Encoder | None = None, **settings) -> MAE:
    torch.manual_seed(0)
    encoder = TinyPatches() if encoder is None else encoder
    return MAE(encoder=encoder, shape=SHAPE, augment=Views(**NOTHING), width=16, depth=1, heads=2, **settings)


def bigan() -> BiGAN:
    torch.manual_seed(0)
    return BiGAN(encoder=TinyConv(), shape=SHAPE, augment=Views(**NOTHING), latent=5, width=4)


METHODS = {"simclr": simclr, "byol": byol, "mae": mae, "bigan": bigan}


def train(pretext: Pretext, steps: int, samples, rate: float = 1e-2, spoil=lambda views: views) -> None:
    """A plain loop for methods of one group: `samples(step)` are its images."""
    optimizer = torch.optim.Adam([p for p in pretext.parameters() if p.requires_grad], rate)
    pretext.train()
    for step in range(steps):
        ctx = context(step, step, steps)
        x = samples(step)
        with torch.no_grad():
            views = spoil(pretext.views(Batch(x, torch.arange(len(x))), ctx))
        optimizer.zero_grad()
        pretext(views).value.backward()
        optimizer.step()
        with torch.no_grad():
            pretext.after_step(ctx)


def number(scalar: Tensor) -> float:
    return scalar.detach().item()


def gradient(module: nn.Module) -> dict[str, float | None]:
    return {name: None if p.grad is None else float(p.grad.abs().sum()) for name, p in module.named_parameters()}


# What all four promise


@pytest.mark.parametrize("name", METHODS)
def test_yaml_spells_out_the_constructor(name):
    document = yaml.safe_load(Path(__file__, f"../../conf/pretext/{name}.yaml").resolve().read_text())
    pretext = METHODS[name]()
    mounts = [key for entry in document.pop("defaults") if isinstance(entry, dict) for key in entry]
    mounted = {key.split("@")[1] for key in mounts if key.startswith("/augment@")}
    assert document.pop("_target_") == f"{type(pretext).__module__}.{type(pretext).__name__}"
    signature = inspect.signature(type(pretext)).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in signature.values())
    assert document == {key: p.default for key, p in signature.items() if p.default is not p.empty}
    assert mounted == {key for key, p in signature.items() if p.annotation is Views}
    assert all(hasattr(pretext, key) for key in document)


@pytest.mark.parametrize("name", METHODS)
def test_randomness_is_the_generators(name):
    pretext = METHODS[name]()
    first, again, other = (pretext.views(batch(), context(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    pretext.train()
    for group in pretext.groups():
        frozen = pretext.state_dict() if name != "bigan" else None  # spectral norm refines its vectors in each pass
        values = []
        for seed in (3, 4):
            torch.manual_seed(seed)
            values.append(pretext(first, group).value)
        if frozen is not None:
            assert torch.equal(*values)


@pytest.mark.parametrize("name", METHODS)
def test_autocast_and_detached_metrics(name):
    pretext = METHODS[name]().train()
    views = pretext.views(batch(), context())
    for group, named in pretext.groups().items():
        with torch.autocast("cpu", torch.bfloat16):
            loss = pretext(views, group)
        assert loss.value.dtype == torch.float32
        assert all(not m.requires_grad and m.ndim == 0 for m in loss.metrics.values())
        loss.value.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for _, p in named), group
        pretext.zero_grad()
        if group != "discriminator":
            assert loss.embedding.requires_grad
            assert loss.embedding.shape[1] == {"simclr": 8, "byol": 8, "mae": 16, "bigan": 12}[name]


# Parts


def test_mlp():
    layers = mlp((4, 8, 3))
    assert [type(m).__name__ for m in layers] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert layers[0].bias is None
    assert layers[3].bias is not None
    assert [type(m).__name__ for m in mlp((4, 8, 3), norm=False, last_norm=True)] == [
        "Linear",
        "ReLU",
        "Linear",
        "BatchNorm1d",
    ]
    assert len(mlp((4, 3))) == 1
    with pytest.raises(ValueError, match="input and output width"):
        mlp((4,))


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0, torch.tensor(0.9)])
def test_teacher_follows(momentum):
    torch.manual_seed(0)
    student = TinyConv()
    teacher = frozen_copy(student)
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
        student.norm.running_mean.fill_(3)
    follow(teacher, student, momentum)
    m = float(momentum)
    for old, now, theirs in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(now, m * old + (1 - m) * theirs)
        assert m != 0 or torch.equal(now, theirs)
        assert m != 1 or torch.equal(now, old)
        assert not now.requires_grad
        assert theirs.requires_grad
    assert (teacher.norm.running_mean == 3).all()
    with pytest.raises(ValueError, match="frozen_copy"):
        follow(nn.Linear(2, 2), student, 0.9)


def test_masks_are_uniform_partitions_of_each_sample(rng):
    keep, masked = random_masks(3000, 10, 3, rng)
    assert keep.shape == (3000, 3)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(10).expand(3000, 10))
    share = torch.bincount(keep.flatten(), minlength=10) / 3000
    assert (share - 0.3).abs().max() < 0.045  # five standard deviations
    assert len({tuple(sorted(row)) for row in keep.tolist()}) > 100  # of the 120 subsets


def test_block_is_torchs_layer():
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    torch.manual_seed(0)
    ours = Block(16, 4)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(3, 9, 16)
    gradients = []
    for layer in (ours, theirs):
        y = layer(x)
        (y * y.detach().cos()).sum().backward()
        gradients.append({name: p.grad for name, p in layer.named_parameters()})
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*gradients)


def test_patchify_and_back():
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    patches = patchify(x, (2, 3))
    assert patches.shape == (2, 4, 18)
    # the second patch is the right half of the first two rows, channels last
    assert torch.equal(patches[1, 1], x[1, :, :2, 3:].permute(1, 2, 0).flatten())
    assert torch.equal(unpatchify(patches, (2, 3), (2, 2)), x)


# SimCLR


def nt_xent_by_loops(z: Tensor, temperature: float) -> float:
    """Equation 1 of the paper, literally."""
    n = len(z) // 2

    def sim(i: int, j: int) -> float:
        return number(z[i] @ z[j] / (z[i].norm() * z[j].norm()))

    def anchor(i: int, j: int) -> float:
        others = sum(math.exp(sim(i, k) / temperature) for k in range(2 * n) if k != i)
        return -math.log(math.exp(sim(i, j) / temperature) / others)

    return sum(anchor(k, k + n) + anchor(k + n, k) for k in range(n)) / (2 * n)


def test_nt_xent_solved_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])  # positives at cosine 1, negatives at 0
    value, nearest = nt_xent(z, 0.5)
    assert number(value) == pytest.approx(-math.log(math.e**2 / (math.e**2 + 2)), rel=1e-6)
    assert nearest.all()
    value, nearest = nt_xent(z[[0, 1, 3, 2]], 0.5)  # positives at 0; one of the two negatives at 1
    assert number(value) == pytest.approx(-math.log(1 / (math.e**2 + 2)), rel=1e-6)
    assert not nearest.any()


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_equals_its_equation(rng, temperature):
    z = torch.randn(10, 4, generator=rng)
    assert number(nt_xent(z, temperature)[0]) == pytest.approx(nt_xent_by_loops(z, temperature), rel=1e-5)


def test_nt_xent_identities(rng):
    z = torch.randn(12, 5, generator=rng)
    value = nt_xent(z, 0.3)[0]
    order = torch.randperm(6, generator=rng)
    for same in (
        torch.cat([z[:6][order], z[6:][order]]),
        torch.cat([z[6:], z[:6]]),
        z * torch.rand(12, 1, generator=rng),
    ):
        torch.testing.assert_close(nt_xent(same, 0.3)[0], value)
    assert not torch.isclose(nt_xent(torch.cat([z[:6][order], z[6:]]), 0.3)[0], value)  # who belongs together matters
    for level in (nt_xent(torch.ones(12, 5), 0.1)[0], nt_xent(z, 1e6)[0]):  # all alike; hot enough to be all alike
        assert number(level) == pytest.approx(math.log(11), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(z, 0.3)[0], value)
    assert number(nt_xent(z[:2], 0.3)[0]) == 0  # one sample has no negatives


def test_simclr_encodes_both_views_at_once_and_draws_each():
    pretext = simclr().train()
    first, second = pretext.views(batch(), context())
    assert not torch.equal(first, second)
    passes = []
    pretext.encoder.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    loss = pretext((first, second))
    assert passes == [16]
    torch.testing.assert_close(loss.value, nt_xent(loss.embedding, pretext.temperature)[0])
    loss.value.backward()
    # batch norm takes off the bias of the convolution before it
    assert all(g for name, g in gradient(pretext).items() if name != "encoder.convolution.bias")


def colours(step: int, n: int = 32) -> Tensor:
    """Flat images of a colour of their own under fresh noise: what two views of a sample share is the colour."""
    rng = torch.Generator().manual_seed(10_000 + step)
    flat = torch.rand(n, 3, 1, 1, generator=rng)
    return (flat + 0.3 * torch.randn(n, *SHAPE, generator=rng)).clamp(0, 1)


@pytest.mark.parametrize("paired", [True, False])
def test_simclr_finds_what_views_share(paired):
    """Brightness and contrast change from view to view, the hue stays: it is found, but not from pairs without one."""
    torch.manual_seed(0)
    light = Views(scale=(0.3, 1.0), jitter=1.0, brightness=0.6, contrast=0.6, saturation=0.0, hue=0.0, grey=0.0)
    pretext = SimCLR(encoder=TinyConv(), augment=light, temperature=0.1, hidden=32, out=16)
    train(pretext, 80, colours, spoil=lambda v: v if paired else (v[0], v[1].roll(1, 0)))
    pretext.eval()
    with torch.no_grad():
        unseen = Batch(colours(-1, 64), torch.arange(64))
        found = [pretext(pretext.views(unseen, context(seed))).metrics["accuracy"] for seed in range(20)]
    accuracy = torch.stack(found).mean()  # one draw alone may fall short
    assert (accuracy > 0.2) if paired else (accuracy < 0.15), accuracy  # 0.11 before training


# BYOL


def test_byol_distance_by_hand():
    p = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]])
    t = torch.tensor([[1.0, 0.0], [0.5, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert number(distance(p, t)) == pytest.approx((0 + 2 + 4 + 2 - math.sqrt(2)) / 4)
    unit = [F.normalize(each, dim=1) for each in (p, t)]
    torch.testing.assert_close(distance(p, t), (unit[0] - unit[1]).square().sum(1).mean())  # equation 2 as written


def test_byol_loss_is_symmetrised_and_views_do_not_mix():
    pretext = byol().train()
    first, second = pretext.views(batch(), context())
    loss = pretext((first, second))
    torch.testing.assert_close(pretext((second, first)).value, loss.value)
    assert 0 <= loss.value <= 8
    torch.testing.assert_close(pretext((first, first)).embedding[:8], loss.embedding[:8])  # batch norm a view
    pretext.predictor = nn.Identity()  # a target equal to its student then agrees with it
    assert number(pretext((first, first)).value.detach()) == pytest.approx(0, abs=1e-5)
    assert 0 < number(loss.metrics["spread"]) < 1.2
    assert number(pretext((first[:1].expand(8, -1, -1, -1),) * 2).metrics["spread"]) < 1e-3


def test_byol_target_wants_no_gradient():
    pretext = byol().train()
    # Away from its student, so that the target is a function of its own weights only.
    with torch.no_grad():
        for p in pretext.target_encoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    views = pretext.views(batch(), context())
    loss = pretext(views)
    loss.value.backward()
    grads = gradient(pretext)
    assert {name.split(".")[0] for name, g in grads.items() if g is None} == {"target_encoder", "target_projector"}
    assert all(grads[name] for name, _ in pretext.groups()["main"] if name != "encoder.convolution.bias")
    assert not any(name.startswith("target") for name, _ in pretext.groups()["main"])
    for module in (pretext.target_encoder, pretext.target_projector):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.1 * torch.randn_like(p))
        moved = pretext(views)
        assert torch.equal(moved.embedding, loss.embedding)
        assert not torch.isclose(moved.value, loss.value)
        loss = moved


def test_byol_target_follows_by_the_schedule():
    pretext = byol(momentum=0.9)
    assert pretext.momentum_at(0.0) == pytest.approx(0.9)
    assert pretext.momentum_at(0.5) == pytest.approx(0.95)
    assert pretext.momentum_at(1.0) == pytest.approx(1.0)
    online, target = (
        [*encoder.parameters(), *projector.parameters()]
        for encoder, projector in (
            (pretext.encoder, pretext.projector),
            (pretext.target_encoder, pretext.target_projector),
        )
    )
    assert all(torch.equal(a, b) for a, b in zip(online, target, strict=True))
    before = [p.clone() for p in target]
    with torch.no_grad():
        for p in online:
            p.add_(torch.randn_like(p))
        pretext.after_step(context(step=25, steps=100))
    m = 1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2
    for old, now, student in zip(before, target, online, strict=True):
        torch.testing.assert_close(now, m * old + (1 - m) * student)


def test_byol_finds_what_views_share_and_does_not_collapse():
    torch.manual_seed(0)
    crops = Views(scale=(0.2, 0.5), jitter=0.0, grey=0.0)
    encoder = TinyConv()
    pretext = BYOL(encoder=encoder, augment=crops, augment_prime=crops, momentum=0.9, hidden=32, out=16)
    train(pretext, 60, colours)
    pretext.eval()
    unseen = colours(-1, 64)
    with torch.no_grad():
        first, second = pretext.views(Batch(unseen, torch.arange(64)), context(7))
        paired, mixed = (pretext((first, other)) for other in (second, second.roll(1, 0)))
    assert paired.value < 0.3 * mixed.value
    assert paired.metrics["spread"] > 0.5


# MAE


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.5, 8), (0.9, 2), (0.99, 1), (0.01, 15)])
def test_mae_keeps_the_share(ratio, kept):
    pretext = mae(ratio=ratio)
    _, keep, masked = pretext.views(batch(), context())
    assert keep.shape == (8, kept)
    assert torch.equal(torch.cat([keep, masked], 1).sort(1).values, torch.arange(16).expand(8, 16))
    assert len({tuple(sorted(row)) for row in keep.tolist()}) > 1


def test_mae_refuses():
    with pytest.raises(ValueError, match="TinyConv cannot drop tokens; use model=vit_tiny for masked methods"):
        mae(TinyConv())
    with pytest.raises(ValueError, match=r"pretext\.width=18"):
        MAE(encoder=TinyPatches(), shape=SHAPE, augment=Views(**NOTHING), width=18, heads=2)
    with pytest.raises(ValueError, match="equal patches"):
        MAE(encoder=TinyPatches(), shape=(3, 2, 2), augment=Views(**NOTHING))


def test_mae_leaves_the_encoder_as_it_found_it():
    encoder = TinyPatches().train()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert grid_of(encoder, (3, 8, 4)) == (4, 2)
    assert encoder.training
    assert torch.equal(torch.get_rng_state(), before)


def pixels_at(x: Tensor, index: Tensor, value: float) -> Tensor:
    """Images with the patches at `index` painted over."""
    patches = patchify(x, (2, 2))
    patches = patches.scatter(1, index[..., None].expand(-1, -1, 12), value)
    return unpatchify(patches, (2, 2), (4, 4))


def test_mae_encoder_never_sees_what_is_hidden():
    pretext = mae()
    x, keep, masked = pretext.views(batch(), context())
    embedding = pretext((x, keep, masked)).embedding
    assert torch.equal(pretext((pixels_at(x, masked, 0.9), keep, masked)).embedding, embedding)
    assert not torch.equal(pretext((pixels_at(x, keep, 0.9), keep, masked)).embedding, embedding)
    assert pretext.encoder.asked == [False, True, True, True]  # the first, once, to learn the grid


def test_mae_loss_is_of_hidden_patches_only():
    pretext = mae(normalise=False)
    x, keep, masked = pretext.views(batch(), context())
    features = pretext.encoder(x, keep)
    pretext.encoder.forward = lambda x, keep=None: features  # blind, so that only the target can change
    value = pretext((x, keep, masked)).value
    assert torch.equal(pretext((pixels_at(x, keep, 0.9), keep, masked)).value, value)
    assert not torch.equal(pretext((pixels_at(x, masked[:, :1], 0.9), keep, masked)).value, value)


def test_mae_order_of_tokens_does_not_matter():
    pretext = mae()
    x, keep, masked = pretext.views(batch(), context())
    value = pretext((x, keep, masked)).value
    torch.testing.assert_close(pretext((x, keep.flip(1), masked.flip(1))).value, value)
    # but their places do: a decoder that puts tokens elsewhere than where they come from gives another answer
    features = pretext.encoder(x, keep)
    here = pretext.decode(features, keep, masked)
    elsewhere = pretext.decode(features, keep.flip(1), masked)
    assert not torch.allclose(here, elsewhere, atol=1e-3)


@pytest.mark.parametrize("normalise", [True, False])
def test_mae_target_by_hand(normalise):
    pretext = mae(TinyPatches(mean=0.5, std=0.5), normalise=normalise)
    x = torch.empty(1, *SHAPE)
    x[:, :, :, 0::2], x[:, :, :, 1::2] = 0.5, 1.0  # each patch half 0 and half 1 after the encoder's normalisation
    _, keep, masked = pretext.views(Batch(x, torch.arange(1)), context())
    nn.init.zeros_(pretext.predict[1].weight)
    nn.init.zeros_(pretext.predict[1].bias)
    # half the pixels 0 and half 1: mean square 1/2; normalised, half -1 and half 1: mean square 1
    assert number(pretext((x, keep, masked)).value) == pytest.approx(1.0 if normalise else 0.5, rel=1e-4)
    target, offset, scale = pretext.target(x, masked)
    assert target[0, 0, :3].tolist() == pytest.approx([-1.0] * 3 if normalise else [0.0] * 3, abs=1e-4)
    torch.testing.assert_close(
        target * scale + offset, torch.tensor([0.0, 1.0]).repeat_interleave(3).repeat(2).expand(1, 12, 12)
    )


def test_mae_targets_come_in_the_order_asked_for():
    pretext = mae(TinyPatches(mean=0.0, std=1.0), normalise=False)
    places = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(8, *SHAPE)
    _, _, masked = pretext.views(batch(), context())
    assert torch.equal(pretext.target(places, masked)[0], masked[..., None].expand(8, 12, 12).float())


def test_mae_everything_learns():
    pretext = mae()
    pretext(pretext.views(batch(), context())).value.backward()
    assert all(gradient(pretext).values())
    assert "positions" not in pretext.state_dict()


def test_mae_pictures():
    pretext = mae().eval()
    x, _, masked = views = pretext.views(batch(), context())
    with torch.no_grad():
        pictures = pretext.pictures(views)
    assert torch.equal(pictures["masked"], pixels_at(x, masked, 0.5))
    reconstruction = pictures["reconstruction"]
    assert reconstruction.min() >= 0
    assert reconstruction.max() <= 1
    torch.testing.assert_close(pixels_at(reconstruction, masked, 0.5), pictures["masked"])
    assert not torch.allclose(reconstruction, x, atol=0.05)
    # a normalised prediction of nothing is each patch's own mean
    nn.init.zeros_(pretext.predict[1].weight)
    nn.init.zeros_(pretext.predict[1].bias)
    patches = torch.take_along_dim(patchify(pretext.pictures(views)["reconstruction"], (2, 2)), masked[..., None], 1)
    means = torch.take_along_dim(patchify(x, (2, 2)), masked[..., None], 1).mean(2, keepdim=True)
    torch.testing.assert_close(patches, means.expand_as(patches))


@pytest.mark.parametrize("predictable", [True, False])
def test_mae_finds_what_patches_share(predictable):
    """One pattern in each image's own colour: what is hidden follows from place and any patch seen; noise does not."""
    pattern = torch.rand(SHAPE, generator=torch.Generator().manual_seed(99))

    def samples(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(step)
        if not predictable:
            return torch.rand(16, *SHAPE, generator=rng)
        return (pattern + torch.rand(16, 3, 1, 1, generator=rng)) / 2

    std = math.sqrt(1 / 24 if predictable else 1 / 12)  # the target has variance 1
    pretext = mae(TinyPatches(std=std), normalise=False)
    train(pretext, 150, samples)
    x = samples(-1)
    value = number(pretext.eval()(pretext.views(Batch(x, torch.arange(16)), context(5))).value)
    assert (value < 0.3) if predictable else (value > 0.9), value


# BiGAN


class Verdict(nn.Module):
    """A discriminator whose mind is made up: `logit` for encoded pairs and minus that for generated ones."""

    def __init__(self, logit: float):
        super().__init__()
        self.logit = logit

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        half = len(x) // 2
        return torch.tensor([self.logit] * half + [-self.logit] * half) + 0 * x.sum()


def test_bigan_groups_are_a_partition_and_the_discriminator_steps_first():
    pretext = bigan()
    groups = pretext.groups()
    assert list(groups) == ["discriminator", "generator_encoder"]
    names = [name for named in groups.values() for name, _ in named]
    assert sorted(names) == sorted(name for name, _ in pretext.named_parameters())
    assert {name.split(".")[0] for name, _ in groups["generator_encoder"]} == {"encoder", "code", "generator"}


@pytest.mark.parametrize("group", ["discriminator", "generator_encoder"])
def test_bigan_gradients_stay_in_their_group(group):
    pretext = bigan().train()
    pretext(pretext.views(batch(), context()), group).value.backward()
    mine = {name for name, _ in pretext.groups()[group]}
    for name, sum_of_gradient in gradient(pretext).items():
        if name not in mine:
            assert sum_of_gradient is None, name
        elif name != "encoder.convolution.bias":
            assert sum_of_gradient, name


def test_bigan_values_by_hand():
    pretext = bigan().train()
    views = pretext.views(batch(), context())
    for logit in (0.0, 1.0, -2.0):
        pretext.discriminator = Verdict(logit)
        right, wrong = 2 * math.log1p(math.exp(-logit)), 2 * math.log1p(math.exp(logit))
        loss = pretext(views, "discriminator")
        assert number(loss.value) == pytest.approx(right, rel=1e-5)  # 2 log 2 at equilibrium
        assert number(pretext(views, "generator_encoder").value) == pytest.approx(wrong, rel=1e-5)
        assert number(loss.metrics["accuracy"]) == (logit > 0)


def test_bigan_codes_are_standard_normal_and_a_samples_own():
    pretext = bigan()
    x, z = pretext.views(batch(4000), context())
    assert torch.equal(x, batch(4000).x)
    assert z.shape == (4000, 5)
    assert z.mean(0).abs().max() < 0.08  # five standard deviations
    assert (z.T.cov() - torch.eye(5)).abs().max() < 0.12


def test_bigan_pictures_are_the_generators():
    pretext = bigan().eval()
    views = pretext.views(batch(), context())
    with torch.no_grad():
        pictures = pretext.pictures(views)
        torch.testing.assert_close(pictures["samples"], pretext.generator(views[1]))
        code = pretext.code(pretext.encoder(views[0]).pooled)
        torch.testing.assert_close(pictures["reconstruction"], pretext.generator(code))
    for picture in pictures.values():
        assert picture.shape == (8, *SHAPE)
        assert 0 <= picture.min() < 0.5  # squashed once: twice, it would stay above a half
        assert picture.max() <= 1


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 28, 20), (3, 4, 5)])
def test_discriminator_takes_any_size_and_is_lipschitz(size, rng):
    torch.manual_seed(0)
    judge = Discriminator(size, 3, 4)
    for _ in range(30):
        judge(torch.rand(2, *size, generator=rng), torch.randn(2, 3, generator=rng))
    judge.eval()
    linear = [m for m in judge.modules() if isinstance(m, nn.Linear)]
    assert all(number(torch.linalg.matrix_norm(m.weight, 2)) < 1.1 for m in linear)
    assert judge(torch.rand(2, *size), torch.randn(2, 3)).shape == (2,)


def test_discriminator_judges_pairs_and_not_halves():
    """Bright images with positive codes and dark ones with negative are true: neither half tells alone."""
    torch.manual_seed(0)
    judge = Discriminator((1, 4, 4), 1, 8)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-2)

    def pairs(n: int) -> tuple[Tensor, Tensor, Tensor]:
        bright, positive = torch.rand(n) < 0.5, torch.rand(n) < 0.5
        x = bright.float().view(-1, 1, 1, 1) * 0.6 + 0.4 * torch.rand(n, 1, 4, 4)
        return x, positive.float()[:, None] * 2 - 1, (bright == positive).float()

    for _ in range(150):
        x, z, true = pairs(64)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(judge(x, z), true).backward()
        optimizer.step()
    x, z, true = pairs(256)
    assert ((judge(x, z) > 0).float() == true).float().mean() > 0.95
