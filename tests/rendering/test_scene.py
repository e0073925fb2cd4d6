"""Rendered scenes: factors are what is drawn, the shape alone tells the class and what is up."""

import pytest
import torch

from ssl_runner.rendering.canvas import triangle_wave
from ssl_runner.rendering.pictograms import OUTLINES
from ssl_runner.rendering.scene import Scene


def bare(n: int, **factors: float) -> Scene:
    """Scenes of white shapes on black, without distractors, some factors set by hand."""
    scene = Scene(n, 32, torch.Generator().manual_seed(0))
    for name, value in {"background": 0, "colour": 1, "rods": 9, **factors}.items():
        getattr(scene, name).fill_(value)
    return scene


def brightness(scene: Scene) -> torch.Tensor:
    return scene.render().float().mean(1)  # (n, h, w)


def test_the_factors_are_what_is_drawn():
    scene = bare(200)
    for name in ("colour", "hue", "tilt", "texture"):
        assert torch.equal(scene.targets()[name], getattr(scene, name))
    white = brightness(scene) > 127
    axis = (torch.arange(32) + 0.5) / 32 - 0.5
    x, y = scene.targets()["position"].T[..., None, None]
    distance = ((axis - x).square() + (-axis[:, None] - y).square()).sqrt() * white  # y points up
    radius, farthest = scene.targets()["size"] / 2, distance.flatten(1).max(1).values
    assert white.flatten(1).any(1).all()
    assert ((0.8 * radius - 1 / 32 <= farthest) & (farthest <= 1.03 * radius + 1 / 32)).all()
    assert not torch.cat([white[:, 0], white[:, :, -1]]).any()  # nor is a shape cut off by the edge of the image
    upright, turned = (brightness(bare(100, x=0, y=0, tilt=tilt)) for tilt in (0, 90))
    differ = [(x - turned).abs().gt(40).float().mean() for x in (upright.rot90(1, (1, 2)), upright)]
    assert differ[0] < 0.001 < 0.02 < differ[1]  # a turn is counter-clockwise; noise is of another draw


def test_every_shape_has_an_up_and_none_is_another_one_turned():
    axis = torch.linspace(-1, 1, 65)
    x, y = axis.expand(1, 65, 65), -axis[:, None].expand(1, 65, 65)
    masks = {name: outline(x, y)[0] < 0 for name, outline in OUTLINES.items()}
    turned = {(name, turns): mask.rot90(turns) for name, mask in masks.items() for turns in range(4)}
    for name, reference in masks.items():
        same = [other for other, mask in turned.items() if (mask & reference).sum() >= 0.85 * (mask | reference).sum()]
        assert same == [(name, 0)]


def test_no_other_factor_says_anything_of_the_class():
    factors = Scene(4000, 16, torch.Generator().manual_seed(0)).targets()
    shape = factors.pop("shape")
    for name, factor in factors.items():
        factor = factor.float().view(4000, -1)
        means = torch.stack([factor[shape == label].mean(0) for label in range(10)])
        assert (means - factor.mean(0)).abs().lt(4.5 * factor.std(0) / 400**0.5).all(), name


def test_textures_and_distractors_are_drawn_and_do_not_say_what_is_up():
    scene = bare(3000, radius=1e-6)  # all but the shape
    scene.background[:, 1] = 1
    images = brightness(scene)
    assert scene.texture.bincount().tolist() == pytest.approx([600] * 5, rel=0.15)
    for kind in range(5):
        x = images[scene.texture == kind]
        assert x.flatten(1).std(1).mean() > 20
        for edge in (x[:, :4] - x[:, -4:], (x[..., :4] - x[..., -4:]).mT):
            assert edge.mean().abs() < 4.5 * edge.mean((1, 2)).std() / len(x) ** 0.5
    assert (brightness(bare(50, radius=1e-6, rods=0)) > 60).flatten(1).any(1).all()
    turns = torch.tensor([[[0.0, 0.25, 0.5, 1.0, -0.5, 1.75]]])
    assert triangle_wave(turns).flatten().tolist() == [1, 0.5, 0, 1, 0, 0.5]
