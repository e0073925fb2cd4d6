"""Two and three processes learn what one learns: gradients of a step, weights after five, a run that changes its ranks.

In float64, where rounding is 1e-16 and a mistake is not: a factor of the number of ranks, a missing gather, statistics
of a share of the batch, numbers that each rank draws for itself.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import LESS, build_trainer, names, tiny
from torch import Tensor, multiprocessing

from ssl_runner.engine.learner import Learner
from ssl_runner.engine.rates import GroupOptimizer
from ssl_runner.run.preflight import read_job

STEPS, SAVED, BATCH = 5, 3, 12
CASES = {
    **{f"pretext-{name}": (f"pretext={name}", *LESS.get(name, ())) for name in names("pretext")},
    **{f"regulariser-{name}": ("pretext=simclr", f"regulariser={name}") for name in names("regulariser")},
    "accumulate": ("pretext=simclr", "accumulate=2", "optimizer.clip=0.5"),
    "accumulate-groups": ("pretext=bigan", *LESS["bigan"], "accumulate=2"),
}
NUMBERS = ("train/loss", "optimizer/gradient_norm")


def learner_of(content: dict, folder: Path, change: Callable[[Learner], None] = lambda learner: None) -> Learner:
    job, problems = read_job(content, build=False)
    assert job is not None, problems
    learner = build_trainer(job, folder).learner
    change(learner)
    return learner


def learn(learner: Learner, start: int = 0) -> dict:
    """Gradients of the first step by group, the state at SAVED, numbers and weights at the end."""
    gradients, step_of, states = {}, GroupOptimizer.step, {}

    def step(self, *arguments, **named):
        group = next(name for name, each in learner.optimizers.items() if each is self)
        found = {name: p.grad.clone() for name, p in learner.groups[group] if p.grad is not None}
        gradients.setdefault(group, found)
        return step_of(self, *arguments, **named)

    GroupOptimizer.step = step
    try:
        for number in range(start, STEPS):
            if number == SAVED:
                states = learner.state()
                states = torch.load(saved(states), weights_only=True)
            numbers = learner.step(number, measure_gradient=True)
    finally:
        GroupOptimizer.step = step_of
    weights = {name: each.clone() for name, each in learner.pretext.state_dict().items()}
    return {"gradients": gradients, "state": states, "weights": weights, "numbers": numbers}


def saved(state: dict):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def work(rank: int, ranks: int, folder: Path, cases: dict, of_two: Path | None) -> None:
    """What one rank comes to, a file a rank."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # losses are taken in float32, at least
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=ranks)
    results = {}
    for case, content in cases.items():
        results[case] = learn(learner_of(content, folder / f"{case}-{rank}"))
        if of_two is not None:
            again = learner_of(content, folder / f"{case}-{rank}-again")
            again.load(torch.load(of_two, weights_only=True)[case]["state"])
            results[case]["resumed"] = learn(again, SAVED)["weights"]
    torch.save(results, folder / f"{rank}.pt")
    if ranks > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(composer, tmp_path_factory) -> dict[int, list[dict]]:
    """By the number of ranks, what each of them came to."""
    shape = (f"batch_size={BATCH}", "dataset.images=120", "length=1ep", "evaluator=none")
    cases = {case: composer.compose(tiny(*words, *shape)).content for case, words in CASES.items()}
    cases = json.loads(json.dumps(cases))
    results, of_two = {}, None
    for ranks in (2, 1, 3):
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        multiprocessing.spawn(work, (ranks, folder, cases, of_two), ranks)
        results[ranks] = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]
        of_two = of_two or folder / "0.pt"
    return results


def require_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        largest = theirs[name].abs().max().clamp(min=1e-6) if theirs[name].is_floating_point() else 1
        difference = (ours[name] - theirs[name]).abs().max() / largest if ours[name].numel() else 0
        assert difference <= tolerance, f"{name}: {difference:.2g} of its largest"


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_ranks_together_learn_what_one_learns(together, case, ranks):
    alone, several = together[1][0][case], [each[case] for each in together[ranks]]
    assert alone["gradients"].keys() == several[0]["gradients"].keys()
    for group, gradients in alone["gradients"].items():
        assert any(each.abs().max() > 1e-8 for each in gradients.values())
        require_equal(several[0]["gradients"][group], gradients)
    for each in several[1:]:
        assert all(torch.equal(each["weights"][name], one) for name, one in several[0]["weights"].items())
    require_equal(several[0]["weights"], alone["weights"], 1e-6)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_run_of_two_ranks_goes_on_with_others(together, case, ranks):
    for each in together[ranks]:
        require_equal(each[case]["resumed"], together[2][0][case]["weights"], 1e-6)
