"""A wrong config is refused whole: every problem at once, each in a line that says what to type."""

import re
import time
from unittest.mock import Mock

import pytest
from conftest import in_turn, names, names_of, tiny
from runs import put
from toys import kind_of

from ssl_runner.config.compose import Composer
from ssl_runner.config.declared import check_declared
from ssl_runner.duration import Duration
from ssl_runner.pretext.byol import BYOL
from ssl_runner.run.preflight import attempt, read_job
from ssl_runner.testing.jobs import EMBEDDED


def problems(composer, *overrides):
    composed = composer.compose(overrides)
    return composed.problems + (read_job(composed.content)[1] if composed.content else [])


@pytest.mark.parametrize("pretext", in_turn(names_of("image", "pretext")))
def test_pretexts_take_every_model_that_can(composer, pretext):
    content = composer.compose([f"pretext={pretext}", "dataset.images=200", "evaluator=none"]).content
    hiding = {"mae", "msn", "data2vec", "ijepa", "crossmae", "aim", "nepa", "ibot", "dinov2", "beit", "capi"}
    for model in ("convnet_small", "resnet18", "vit_tiny"):
        _, lines = read_job(content | {"model": composer.compose([f"model={model}"]).content["model"]})
        assert len(lines) == (pretext in hiding and model != "vit_tiny")
        assert all("cannot drop tokens; use model=vit_tiny" in line for line in lines)


@pytest.mark.parametrize("experiment", in_turn(names("experiment")))
def test_every_committed_recipe_is_a_job(composer, experiment):
    override = f"experiment={experiment}"
    kind = kind_of("model", composer.compose([override]).choices["model"])
    assert not problems(composer, override, f"dataset={EMBEDDED[kind]}")
    assert composer.compose([f"+{override}"]).content == composer.compose([override]).content


def test_a_pretext_may_presume_a_model_and_the_user_has_the_last_word(composer):
    for typed, model in (([], "vit_mini"), (["model=vit_small"], "vit_small")):
        assert composer.compose([*typed, "pretext=mae"]).choices["model"] == model


DECLARED = {  # an override, and words of its line
    "pretext=simclar": ["pretext: given simclar", "possible are", "did you mean simclr?"],
    "lr=0.1": ["lr: is no setting", "did you mean optimizer.lr?"],
    "optimizer.lrr=0.1": ["optimizer.lrr: is no setting", "optimizer.momentum", "did you mean optimizer.lr?"],
    "optimizer.lr=-1": ["optimizer.lr: given -1", "greater than"],
    "optimizer.lr=fast": ['optimizer.lr: given "fast"', "number is wanted"],
    "optimizer.lr=true": ["optimizer.lr: given true", "number is wanted"],
    "batch_size=0": ["batch_size: given 0", "greater than or equal to 1"],
    "batch_size=8.5": ["batch_size: given 8.5", "integer is wanted"],
    "length=20": ["length: '20' is not a duration", "200ep"],
    "optimizer.schedule=cosin": ["optimizer.schedule", "did you mean cosine?"],
    "pretext.augment.scale=[0.9,2]": ["pretext.augment.scale", "item 1", "less than or equal to 1"],
    "+pretext.fancy=1": ["pretext.fancy: is no setting", "possible here"],
    "+optimizer.batch_size=7": ["optimizer.batch_size: is set by the runner"],
    "optimizer.lr=1,2": ["is a sweep over several values; type -m"],
    "optimizer.lr": ["optimizer.lr: cannot be read as key=value"],
    "regulariser._target_=os.system": ["regulariser._target_", "not trusted", "SSL_RUNNER_TRUST"],
    "regulariser._target_=ssl_runner.regulariser.uniformity.math": ["regulariser._target_", "no class"],
    "+_target_=os.system": ["_target_: is no setting"],
    "optimizer.lr=inf": ["optimizer.lr: given Infinity", "finite number"],
    "hydra.sweep.nope=true": ["hydra.sweep.nope: is not used here", "hydra.run.dir"],
    "hydra.run.dir=${oops}": ["oops"],
    "learning_rate=1": ["did you mean optimizer.lr?"],
    "epochs=3": ["did you mean length?"],
    "~pretext": ["~pretext: a job has a choice of it; type pretext=NAME, of", "byol"],
    "optimizer=null": ["optimizer: given null; possible are adam"],
    "pretext=[simclr]": ["pretext: given", "possible are"],
    "model.widths=8": ["model.widths: given 8", "list is wanted"],
    "regulariser._target_=ssl_runner.optimizer.sgd.SGD": ["regulariser._target_", "no Regulariser"],
    "regulariser._target_=ssl_runner.regulariser.l2.L3": ["has no L3", "it has L2"],
    "dataset=image_folder": ["dataset.root: is missing; type dataset.root=..."],
    "pretext.augment=simclr": ['pretext.augment: given "simclr"', "Views with a _target_ is wanted"],
    "optimizer.lr=${oops}": ["oops"],
    "model.widths=[8,${oops}]": ["model.widths[1]: ", "oops"],
    "experiment=nothing_like_it": ["experiment: given nothing_like_it"],
}
# Sizes that nothing can hold, in the order of the groups; each is refused within a second or two, in our words.
SIZES = {
    "device.threads=65536": ["device.threads: given 65536", "less than or equal to 1024"],
    "seed=4294967296": ["seed: given 4294967296, and integers up to 4294967295 are possible"],
    "dataset.seed=18446744073709551616": ["dataset.seed: given 18446744073709551616, and integers up to"],
    "model.widths=[18446744073709551616]": ["model.widths: given [18446744073709551616], and integers up to"],
    "optimizer.lr=1e300": ["optimizer.lr: given 1e+300, and numbers up to 3e+38 are possible"],
    "evaluator.geometry.augment.size=4294967295": ["evaluator.geometry.augment.size: ", "less than or equal to 4096"],
    "optimizer.warm_up=1e400st": ["optimizer.warm_up: ", "is not a duration"],
    "evaluator.knn.everyy=3st": [
        "evaluator.knn.everyy: is no setting; possible here: evaluator.knn.every",
        "did you mean evaluator.knn.every?",
    ],
    "evaluator.loss.every=3st": ["loss is not chosen; type evaluator=[geometry,knn,probe,loss]"],
}
SIZES_BUILT = {
    "dataset.images=4294967295": ["dataset: given images=4294967295", "GB of images", "choose fewer or smaller ones"],
    "dataset.test=4294967295": ["dataset: given images=10000, test=4294967295", "choose fewer or smaller ones"],
    "dataset.size=4294967295": ["dataset: given ", "size=4294967295", "choose fewer or smaller ones"],
    "model.widths=[4294967295]": ["model: a network of at least", "choose smaller sizes"],
}
BUILT = {  # what takes torch to say: how parts go together, and what a name of a library's is
    "batch_size=100000": ["batch_size: given 100000", "9000 training rows"],
    "accumulate=3": ["accumulate: given 3", "batch_size=64"],
    "length=5%": ["length: 5% is a share of the run"],
    "length=0ep": ["length: given 0ep", "less than one step"],
    "log_every=0st": ["log_every: given 0st"],
    "evaluator.knn.k=50000": ["evaluator.knn: ", "50000", "9000"],
    "evaluator.knn.every=0%": ["evaluator.knn.every: given 0%"],
    "pretext.augment.scale=[0.9,0.1]": ["pretext: scale", "upside down"],
    "regulariser._target_=ssl_runner.model.vit.os.system": ["regulariser._target_", "cannot be imported"],
    "regulariser._target_=ssl_runner.model.timm.Tensor": ["really is of torch and not trusted"],
}


DECLARED |= SIZES
BUILT |= SIZES_BUILT


@pytest.mark.parametrize(("override", "words"), [*DECLARED.items(), *BUILT.items()])
def test_each_mistake_has_its_line(composer, override, words):
    overrides = [override, *(["optimizer=sgd"] if "optimizer" in override else [])]
    (line,) = problems(composer, *overrides)
    assert all(word in line for word in words)
    assert "\n" not in line
    early = check_declared(composer.compose(overrides))
    known = ([], False) if override in BUILT else ([line], True)
    assert (early.problems, early.refused) == known, "only what the built job says takes torch"


@pytest.mark.slow
def test_a_network_of_endless_depth_is_refused_in_seconds(composer):
    began = time.monotonic()
    (line,) = problems(composer, "model=vit_tiny", "model.depth=4294967295")
    assert re.match("model: a network of at least .* choose smaller sizes", line)
    assert time.monotonic() - began < 10, "a loaded machine takes three seconds"


def test_what_a_part_raises_is_told_by_its_key():
    lines = []
    for error in (RuntimeError("Storage size calculation overflowed"), KeyError("lacking"), MemoryError()):
        assert attempt("model", lines, Mock(side_effect=error)) is None
    assert (
        lines[0]
        == "model: cannot be built (Storage size calculation overflowed); choose smaller or other settings of model"
    )
    assert re.match(r"model: KeyError: 'lacking', in .*, line \d+", lines[1])
    assert "out of memory" in lines[2]


def test_all_mistakes_at_once(composer):
    wrong = ["pretext=simclar", "lr=1", "batch_size=-2", "optimizer.schedule=cosin", "length=3", "model=resnet"]
    assert len(problems(composer, *wrong)) == len(wrong)
    together = problems(composer, "pretext=mae", "model=convnet_small", "batch_size=20000", "dataset.images=1000")
    assert re.fullmatch("batch_size.*\n.*cannot drop tokens.*", "\n".join(sorted(together)))
    assert not problems(composer, "optimizer=sgd", "~optimizer.lr"), "a setting with a default may be left out"


def test_graphs_are_refused_where_micro_batches_share_a_gradient(composer):
    assert not problems(composer, "device.compile=reduce-overhead")
    (line,) = problems(composer, "device.compile=reduce-overhead", "accumulate=2")
    assert re.match("device.compile: given reduce-overhead.*type device.compile=true", line)


def test_values_arrive_as_the_signature_has_them(composer):
    job, _ = read_job(composer.compose(tiny("optimizer.lr=1")).content)
    assert (job.length, job.pretext.arguments["augment"].arguments["scale"]) == (Duration(12.0, "st"), (0.2, 1.0))
    assert isinstance(job.optimizer.build(batch_size=16).lr, float | int)


def test_a_sweep_is_a_grid(composer):
    jobs_, wrong = composer.expand(["pretext=rotation,simclr", "optimizer.lr=0.1,0.2", "seed=range(2)", "batch_size=8"])
    assert (len(jobs_), wrong) == (8, [])
    assert jobs_[0] == ["pretext=rotation", "optimizer.lr=0.1", "seed=0", "batch_size=8"]
    assert composer.expand(["optimizer.lr=interval(0,1)"])[1]
    assert composer.expand(["seed=1,2", "seed=3"]) == ([["seed=3"]], []), "the last counts"


@pytest.mark.parametrize(
    ("text", "steps"),
    [("200ep", 2000), ("1.5ep", 15), ("5000st", 5000), ("12345678st", 12345678), ("5%", 50), ("0.1%", 1), ("0st", 0)],
)
def test_durations(text, steps):
    assert Duration.parse(text).steps(steps_per_epoch=10, total=1000) == steps
    assert str(Duration.parse(text)) == text


@pytest.mark.parametrize("text", ["5", "ep", "-1ep", "5 epochs", "", "5%%", "nanep"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration; write epochs as 200ep"):
        Duration.parse(text)


def test_a_folder_given_is_looked_in_first_and_a_broken_file_is_one_line(tmp_path):
    put(tmp_path / "pretext" / "mine.yaml", "defaults:\n  - rotation\ncopies: one\n")
    composed = Composer(tmp_path).compose(["pretext=mine"])
    assert (composed.choices["pretext"], composed.content["pretext"]["copies"]) == ("mine", "one")
    (tmp_path / "config.yaml").write_text("length: 3ep\n")
    assert Composer(tmp_path).compose([]).content == {"length": "3ep"}
    (tmp_path / "config.yaml").write_text("a: [1\nb: : 2\n")
    assert ["config" in line for line in Composer(tmp_path).compose([]).problems] == [True]
    assert Composer(tmp_path, "absent").compose([]).problems


def test_a_term_that_the_method_cannot_feed_is_refused_before_anything_starts(composer, monkeypatch):
    """A forward pass of noise finds what only a step would show."""
    small = ("pretext=byol", "regulariser=koleo", "dataset.images=100")
    assert not problems(composer, *small, "batch_size=16")
    (line,) = problems(composer, *small, "batch_size=1")
    assert re.match("batch_size: given 1 with accumulate=1, one sample .* type batch_size=2, or more", line)
    forward = BYOL.forward
    monkeypatch.setattr(BYOL, "forward", lambda *arguments: forward(*arguments)._replace(embedding=None))
    (line,) = problems(composer, *small, "batch_size=16")
    assert "regulariser" in line
