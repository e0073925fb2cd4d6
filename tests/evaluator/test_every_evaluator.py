"""What holds of every evaluator: a new YAML in conf/evaluator/ is a new case."""

import copy
import importlib
import random
from dataclasses import replace
from fnmatch import fnmatch
from inspect import Parameter, signature

import numpy as np
import pytest
import torch
import yaml
from conftest import in_turn, names
from evaluator_toys import AUGMENT, EVERY, IMAGE, KINDS, QUICK, Flat, Small, encoded, metrics, quick

from ssl_runner.config.compose import TREE
from ssl_runner.contract import Metric, Split
from ssl_runner.dataset.shapes import Shapes
from ssl_runner.duration import Duration
from ssl_runner.engine.interrupt import Interrupt
from ssl_runner.engine.logbook import Logbook
from ssl_runner.engine.measurements import measure
from ssl_runner.run.job import RUNTIME
from ssl_runner.run_folder.metrics import FIRST
from ssl_runner.run_folder.summary import guessed_meaning
from ssl_runner.sweep.objective import is_better_smaller

FILES = {name: yaml.safe_load((TREE / f"evaluator/{name}.yaml").read_text()) for name in names("evaluator")}
assert FILES.pop("none") == {}
NODES = {name: content[name] for name, content in FILES.items()}
each_evaluator = pytest.mark.parametrize("name", NODES)


def class_of(name):
    module, _, kind = NODES[name]["_target_"].rpartition(".")
    assert module == f"ssl_runner.evaluator.{name}"
    return getattr(importlib.import_module(module), kind)


def build(name, split, folder, **change):
    """The evaluator on one split as bank and query, whose tokens have a class each if it is measured by them."""
    if name == "tokens":
        split = replace(split, tokens={"part": (torch.arange(2 * len(split.x)) % 3).view(-1, 2)})
    runtime = {"bank": split, "query": split, "validation": None, "train": split.x, "classes": 10, "sample": IMAGE}
    runtime |= {
        "class_names": (),
        "score": lambda rows: {"loss": 2.5, "cross_entropy": 2.0, "accuracy": 0.5},
        "tokenise": None,
        "decode": None,
    }
    runtime |= {"every": EVERY, "augment": AUGMENT, "fresh": Small, "folder": folder, **QUICK.get(name, {}), **change}
    return class_of(name)(**{key: runtime[key] for key in signature(class_of(name)).parameters if key in runtime})


@pytest.fixture(scope="module")
def shapes():
    return Shapes(images=200, test=20, validation=0.0).load().bank


@each_evaluator
def test_its_yaml_spells_out_the_defaults(name):
    """Each setting that has one, with that value; the other parameters are the runtime's."""
    node = dict(NODES[name])
    Duration.parse(node.pop("every"))
    node.pop("_target_"), node.pop("augment", None)
    parameters = {p.name: p.default for p in signature(class_of(name)).parameters.values()}
    defaults = {key: value for key, value in parameters.items() if value is not Parameter.empty}
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()} == defaults
    assert set(parameters) - set(defaults) - {"every", "augment"} <= set(RUNTIME["evaluator"])


@pytest.mark.parametrize("name", [name for name, node in NODES.items() if "augment" in node or name == "geometry"])
def test_its_augmentation_is_chosen_by_name(name, composer):
    other, off = f"augment@evaluator.{name}.augment=simclr", f"evaluator.{name}.augment=null"
    composed = [composer.compose([f"evaluator=[knn,{name}]", *words]) for words in ((), (other,), (off,))]
    assert not any(each.problems for each in composed)
    _, chosen, left_out = (each.content["evaluator"][name]["augment"] for each in composed)
    assert (chosen["jitter"], left_out) == (0.8, None)


@each_evaluator
def test_it_can_be_checked_before_there_are_samples_and_refuses_features_that_are_not_finite(name, shapes, tmp_path):
    rows = torch.zeros(1, dtype=torch.int64).expand(50)
    build(name, Split(rows, rows, dict.fromkeys(("hue", "shape"), rows)), tmp_path, classes=1)
    assert list(tmp_path.iterdir()) == []
    diverged = Small()
    diverged.conv.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        metrics(build(name, shapes, tmp_path, score=lambda rows: {"loss": torch.nan}), diverged)


@pytest.mark.parametrize("name", in_turn(NODES))
def test_what_it_meets_is_left_as_found_and_measured_alike_again(name, shapes, tmp_path):
    """Encoder, modes, gradients, labels and all global generators; numbers are floats with their meaning."""
    encoder, evaluator = Small(), build(name, shapes, tmp_path)
    encoder.train(name in ("finetune", "few_label"))  # others meet it in eval mode, as the runner has it
    encoder.norm.eval()
    encoder.conv.bias.requires_grad_(False)

    def state():
        drawn = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002  what must not change
        return drawn, [module.training for module in encoder.modules()], torch.is_grad_enabled(), shapes.y.tolist()

    weights, encode, before, values = copy.deepcopy(encoder.state_dict()), encoded(Small().eval()), state(), []
    for seed in (1, 2):
        with torch.no_grad():
            values.append(evaluator(encoder, encode))
        assert state() == before
        torch.manual_seed(seed), random.seed(seed)
        before = state()
    assert values[0] == values[1]
    assert all(isinstance(each, Metric) and type(each.value) is float for each in values[0].values())
    assert evaluator.headline in values[0]
    declared = getattr(evaluator, "numbers", ("*",))
    assert all(any(fnmatch(key, each) for each in declared) for key in values[0])
    for key, each in values[0].items():
        guessed = name in FIRST and not each.detail  # runs of 0.1 had no details, and are compared with newer ones
        assert not guessed or guessed_meaning(f"{name}/{key}") == {"better": each.better, "unit": each.unit}, key
        assert each.better is None or is_better_smaller(f"test/{name}/{key}") == (each.better == "smaller"), key
    torch.testing.assert_close(encoder.state_dict(), weights, rtol=0, atol=0)
    held = [
        (key, p.requires_grad) for key, p in encoder.named_parameters() if p.grad is not None or not p.requires_grad
    ]
    assert held == [("conv.bias", False)]


IMAGES_ONLY, AUGMENTED = ("robustness", "leakage"), ("finetune", "few_label")
REFUSAL = dict.fromkeys(IMAGES_ONLY, "{name} takes images of 1 or 3 channels, .* has {kind}; leave {name} out")
REFUSAL |= dict.fromkeys(AUGMENTED, r"dataset has {kind}; type evaluator\.{name}\.augment=null")


@each_evaluator
@pytest.mark.parametrize("kind", KINDS)
def test_text_and_audio_are_measured_or_refused_with_a_remedy(name, kind, tmp_path, rng):
    sample, y = KINDS[kind], torch.arange(60) % 3
    x = sample.example(60, rng) if kind == "text" else torch.randint(-999, 999, (60, *sample.shape), generator=rng)
    split, width = Split(x, y, {"z": y} if name == "factors" else {}), sample.shape[-1]
    more = {"sample": sample, "classes": 3, "fresh": lambda seed: Flat(width)}

    def measured(**change):
        evaluator = build(name, split, tmp_path, **more, **change)
        return metrics(evaluator, Flat(width), lambda rows: rows.flatten(1).float())

    if name in REFUSAL:
        with pytest.raises(ValueError, match=REFUSAL[name].format(name=name, kind=kind)):
            measured()
    if name not in IMAGES_ONLY:
        values = measured(**({"augment": None} if name in REFUSAL else {}))
        assert values
        assert values.keys().isdisjoint(("lidar", "alignment"))


@pytest.mark.slow
def test_files_have_a_place_of_their_own_in_a_run(make, tmp_path):
    """Composed, checked, built and called as in a run, on validation and on test."""
    trainer = make("evaluator=[finetune,few_label,projector]", *quick("finetune"), *quick("few_label"))
    for split in ("validation", "test"):
        evaluators = getattr(trainer.measurements, split)
        values = measure(evaluators, trainer.measurements.encoding(1, raw=False))
        headlines = {f"{name}/{evaluator.headline}" for name, evaluator in evaluators.items()}
        assert (len(headlines), headlines - values.keys()) == (3, set())
        for file in (f"few_label/{split}-training/few_label.png", f"projector/{split}-training/tsne.png"):
            assert (tmp_path / "run" / "evaluation" / file).exists()


def test_what_validation_has_encoded_test_does_not_encode_again(make):
    trainer, seen = make("evaluator=[knn]", "evaluator.knn.every=100%"), []
    book = Logbook(trainer.folder, 0)
    trainer.measurements.encoder.register_forward_hook(
        lambda module, given, features: None if module.training else seen.append(len(features.pooled))
    )
    with Interrupt() as interrupt, trainer.progress:
        trainer.fit(0, book, interrupt)
        book.close("completed")
    validation, test = (getattr(trainer.measurements, split)["knn"] for split in ("validation", "test"))
    assert sum(seen) == 2 * len(validation.bank.x) + 2 * len(validation.query.x) + len(test.query.x)
