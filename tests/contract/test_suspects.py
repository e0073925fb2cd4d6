"""Settings that a task itself suspects of a collapse: each is named, and what is to be typed instead cures it."""

import pytest
from conftest import names
from toys import choice

from ssl_runner.contract import Pretext

SUSPECTS = [  # a task, what is typed, what to type instead
    ("all4one", "temperature=2", "temperature=0.2"),
    ("autoencoder", "mask=0.95", "mask=0.25"),
    ("autoencoder", "noise=0.8", "noise=0.1"),
    ("barlow_twins", "redundancy=0", "redundancy=0.0051"),
    ("beit", "ratio=0.95", "ratio=0.4"),
    ("beit", "ratio=0.1", "ratio=0.4"),
    ("bigan", "latent=2", "latent=64"),
    ("byol", "predictor=false", "predictor=true"),
    ("byol", "momentum=0", "momentum=0.99"),
    ("capi", "target_temperature=0.2", "target_temperature=0.06"),
    ("capi", "positionwise=false normalise=length", "positionwise=true"),
    ("capi", "momentum=0.5", "momentum=0.98"),
    ("clm", "noise=0.5", "noise=0"),
    ("counting", "margin=0", "margin=10"),
    ("cpc", "same=false", "same=true"),
    ("crossmae", "ratio=0.95", "ratio=0.6"),
    ("crossmae", "ratio=0.3", "ratio=0.6"),
    ("data2vec", "normalise=layer", "normalise=instance"),
    ("data2vec", "first_momentum=0.5", "first_momentum=0.97"),
    ("data2vec", "momentum=0.5", "momentum=0.97"),
    ("dcl", "temperature=0.01", "temperature=0.1"),
    ("deepcluster_v2", "temperature=2", "temperature=0.1"),
    ("densecl", "dense_weight=1", "dense_weight=0.5"),
    ("densecl", "momentum=0", "momentum=0.99"),
    ("densecl", "temperature=2", "temperature=0.2"),
    ("diffusion", "sigma=9", "sigma=1"),
    ("dino", "momentum=0", "momentum=0.99"),
    ("dino", "teacher_temperature=0.2", "teacher_temperature=0.04"),
    ("dino", "teacher_temperature=0.04 temperature=0.04", "teacher_temperature=0.016"),
    ("dino", "centre_momentum=0.999", "centre_momentum=0.9"),
    ("dinov2", "teacher_temperature=0.1", "teacher_temperature=0.04"),
    ("dinov2", "momentum=0.5", "momentum=0.95"),
    ("electra", "weight=0", "weight=50"),
    ("electra", "ratio=0.9", "ratio=0.2"),
    ("emp_ssl", "invariance=100000", "invariance=200"),
    ("emp_ssl", "epsilon=10", "epsilon=0.2"),
    ("frossl", "invariance=10000", "invariance=1"),
    ("hubert", "units=4", "units=64"),
    ("hubert", "ratio=0.1", "ratio=0.5"),
    ("ibot", "teacher_temperature=0.1", "teacher_temperature=0.07"),
    ("ibot", "teacher_temperature=0.07 temperature=0.05", "teacher_temperature=0.035"),
    ("ibot", "momentum=0.5", "momentum=0.98"),
    ("ibot", "centre_momentum=0.999", "centre_momentum=0.9"),
    ("ijepa", "normalise=layer", "normalise=instance"),
    ("ijepa", "momentum=0.5", "momentum=0.98"),
    ("inpainting", "share=0.9", "share=0.25"),
    ("instance_discrimination", "momentum=1", "momentum=0.5"),
    ("instance_discrimination", "temperature=2", "temperature=0.1"),
    ("lejepa", "weight=0", "weight=0.05"),
    ("mae", "ratio=0.95", "ratio=0.6"),
    ("mae", "ratio=0.3", "ratio=0.6"),
    ("maskfeat", "ratio=0.95", "ratio=0.4"),
    ("maskfeat", "ratio=0.05", "ratio=0.4"),
    ("mlm", "ratio=0.9", "ratio=0.2"),
    ("mlm", "kept=0.8", "replaced=0.1 kept=0.1"),
    ("moco_v2", "temperature=0.01", "temperature=0.2"),
    ("moco_v2", "momentum=0", "momentum=0.99"),
    ("moco_v3", "temperature=0.01", "temperature=0.2"),
    ("msn", "target_temperature=0.2", "target_temperature=0.025"),
    ("msn", "weight=0 iterations=0", "weight=1"),
    ("msn", "momentum=0.5", "momentum=0.99"),
    ("nepa", "stop_gradient=false", "stop_gradient=true"),
    ("nnclr", "temperature=2", "temperature=0.1"),
    ("pirl", "tile_weight=1", "tile_weight=0.5"),
    ("pirl", "momentum=1", "momentum=0.5"),
    ("pirl", "temperature=0.01", "temperature=0.1"),
    ("ressl", "teacher_temperature=0.1", "teacher_temperature=0.04"),
    ("ressl", "momentum=0", "momentum=0.99"),
    ("simclr", "temperature=2", "temperature=0.5"),
    ("simcse", "temperature=2", "temperature=0.05"),
    ("simmim", "ratio=0.95", "ratio=0.6"),
    ("simmim", "ratio=0.1", "ratio=0.6"),
    ("simsiam", "predictor=false", "predictor=true"),
    ("simsiam", "stop_gradient=false", "stop_gradient=true"),
    ("smog", "regroup=100%", "regroup=10%"),
    ("smog", "temperature=2", "temperature=0.1"),
    ("swav", "epsilon=0.2", "epsilon=0.05"),
    ("tico", "contrast=0", "contrast=8"),
    ("tico", "covariance_momentum=0.999", "covariance_momentum=0.5"),
    ("tsdae", "augment.deletion=0", "augment.deletion=0.6"),
    ("vae", "beta=1000", "beta=1"),
    ("vae", "std=0.5", "std=0.1"),
    ("vibcreg", "variance=1", "variance=25"),
    ("vibcreg", "covariance=0", "covariance=200"),
    ("vicreg", "variance=0", "variance=25"),
    ("vicreg", "covariance=0", "covariance=1"),
    ("vicregl", "variance=0", "variance=25"),
    ("vicregl", "covariance=0", "covariance=1"),
    ("visreg", "weight=0.001", "weight=0.5"),
    ("visreg", "scale_weight=0", "scale_weight=1"),
    ("vq_vae", "restart=0", "restart=0.05"),
    ("vq_vae", "commitment=10", "commitment=0.25"),
    ("w_mse", "window=5", "window=12"),  # 4 times as many as dimensions, of which tests have 3
    ("w_mse", "shrinkage=0.5", "shrinkage=0.0001"),
    ("wav2vec2", "diversity=0", "diversity=0.1"),
    ("wav2vec2", "last_heat=0.01", "last_heat=0.5"),
]


@pytest.mark.parametrize("name", names("pretext"))
def test_a_task_suspects_none_of_its_defaults(name, method):
    assert not list(method(name).suspects())
    suspects = choice("pretext", name)[0].suspects is not Pretext.suspects
    assert suspects == (name in {each for each, *_ in SUSPECTS}), "each task that suspects settings is listed above"


@pytest.mark.parametrize(("name", "typed", "remedy"), SUSPECTS)
def test_what_is_to_be_typed_instead_cures_it(name, typed, remedy, method):
    typed, remedy = ([f"pretext.{word}" for word in words.split()] for words in (typed, remedy))
    (suspect,) = method(name, *typed).suspects()
    assert suspect.remedy.split() == remedy
    assert typed[0].split("=")[0] in suspect.cause
    assert not list(method(name, *typed, *remedy).suspects())
