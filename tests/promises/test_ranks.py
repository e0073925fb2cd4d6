"""Two and three processes learn what one learns: gradients, weights after five steps, a run that changes its ranks."""

import contextlib
import json
import os
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import names, tiny
from torch import Tensor, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from ssl_runner.config.compose import TREE
from ssl_runner.device import batch_norm, ranks, strategy
from ssl_runner.engine import collapse, encoding, loader
from ssl_runner.engine import learner as learner_module
from ssl_runner.engine.collapse import measure_embedding
from ssl_runner.engine.panels import panels
from ssl_runner.layers.gather import gather
from ssl_runner.loss import embedding, info_nce, view_prediction
from ssl_runner.pretext import barlow_twins, vicreg
from ssl_runner.probing.raw_features import raw_features
from ssl_runner.testing.jobs import ROWS, kind_of_words, learner_of
from ssl_runner.testing.ranks import SAVED, differences, enter_float64, learn, plain

BATCH = 12
CASES = {
    **{f"pretext-{name}": (f"pretext={name}",) for name in names("pretext")},
    **{f"regulariser-{name}": ("pretext=simclr", f"regulariser={name}") for name in names("regulariser")},
    "accumulate": ("pretext=simclr", "accumulate=2", "optimizer.clip=0.5"),
    "accumulate-groups": ("pretext=bigan", "accumulate=2"),
}
# The same, by FSDP; of the regularisers, those that read weights.
ON_WEIGHTS = [f"regulariser-{name}" for name in ("l1", "l2", "elastic_net", "orthogonal")]
SHARDED = {f"sharded-{case}": case for case in CASES if case in ON_WEIGHTS or not case.startswith("regulariser")}
# What three go on with: a plain task, a queue, a teacher, two groups.
OF_THREE = ["pretext-rotation", "pretext-moco_v2", "pretext-dino", "pretext-swav", "accumulate-groups"]
NARROW = {"hidden": 32, "out": 16, "local_hidden": 32, "local_out": 16, "bottleneck": 16}  # heads, at most
CPU = torch.device("cpu")
COUNTS = (2, 1, 3)  # of processes: what two have saved, one and three go on with


def own(x: Tensor) -> Tensor:
    return x


def detached(x: Tensor) -> Tensor:
    return gather(x).detach()


def own_views(z: Tensor, views: int) -> Tensor:
    return z.unflatten(0, (views, -1))


def first_rows(index: Tensor, accumulate: int) -> Tensor:
    return index[: len(index) // 2]


def summed(module, placement, wrap=strategy.distributed):
    """Gradients of the sum over ranks: the mean, times their number."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: 2 * gradient)
    return wrap(module, placement)


@contextlib.contextmanager
def lost(self):
    """Gradients of this micro-batch are never averaged, as the next one's buckets take their place."""
    self.require_backward_grad_sync = False
    yield
    self.require_backward_grad_sync = True
    for parameter in self.parameters():
        parameter.grad = None


UPDATE, TABLE = "UPDATE_RANKS", Path(__file__).parents[2] / "docs" / "ranks.md"
# Three tell a factor of two from one of the ranks; all cases are theirs when the table of the documentation is made.
LEARNT_BY_THREE = [
    case for case in CASES if os.environ.get(UPDATE) or case in OF_THREE or not case.startswith("pretext")
]
BY_SEVERAL = [*((case, 2) for case in CASES), *((case, 3) for case in LEARNT_BY_THREE)]
# Mistakes: the case that shows each, where it is planted, and what takes the place of a function there.
PLANTED = {
    "gradients are summed and not averaged": ("pretext-rotation", learner_module, "distributed", summed),
    "negatives of other ranks have no gradient": ("pretext-simclr", info_nce, "gather", detached),
    "statistics of other ranks have no gradient": ("pretext-vicreg", vicreg, "gather", detached),
    "correlations are of the rows of its own rank": ("pretext-barlow_twins", barlow_twins, "gather", own),
    "a regulariser sees the rows of its own rank": ("regulariser-variance", embedding, "gather", own),
    "normality is tested of the rows of its own rank": ("pretext-lejepa", view_prediction, "gather_views", own_views),
    "batch norm has the statistics of its own rank": ("pretext-simclr", batch_norm, "gather", own),
    "each rank draws for its own places": ("pretext-rotation", ranks, "first_place", lambda *given: 0),
    "a centre is of the rows of its own rank": ("pretext-dino", learner_module, "gather", own),
    "a queue takes the keys of its own rank": ("pretext-moco_v2", learner_module, "gather", own),
    "each rank has the first rows of the batch": ("accumulate", loader, "rows_of_rank", first_rows),
    "the last micro-batch alone is averaged": ("accumulate", DistributedDataParallel, "no_sync", lost),
}


def work(rank: int, count: int, folder: Path, cases: dict, shared: set, of_two: Path | None) -> None:
    """What one rank comes to, a file a rank."""
    enter_float64(rank, count, folder / "meet")
    collapse.SAMPLES = BATCH // 2
    results, states = {}, torch.load(of_two, weights_only=True) if of_two else {}
    sharded = {
        name: cases[case] | {"device": cases[case]["device"] | {"strategy": "fsdp"}}
        for name, case in SHARDED.items()
        if name in shared and case in cases
    }
    for case, content in {**cases, **(sharded if count == 2 else {})}.items():
        learner = learner_of(content, folder / f"{case}-{rank}")
        results[case] = learn(learner)
        encoder = learner.trained()
        with learner_module.frozen(encoder):
            samples = learner.loader.samples
            encode = encoding.Encoding(encoder, samples, CPU, raw_features(samples))
            results[case]["features"] = encode(learner.loader.rows)
            results[case]["raw"] = encode.raw(learner.loader.rows)
        health = measure_embedding(learner)
        results[case]["health"] = {name: torch.tensor(float(each.value)) for name, each in health.items()}
        images = panels("image", *learner.look(0)).images
        results[case]["pictures"] = {name: plain(each) for name, each in images.items()}
        for other in states_to_go_on_from(case, count, shared) if states else ():  # in one order on every rank
            again = learner_of(content, folder / f"{other}-{rank}-again")
            again.load(states[other]["state"])
            results[case][f"resumed from {other}"] = learn(again, SAVED)["weights"]
    for name, (case, *mistake) in PLANTED.items() if count == 2 else ():
        if case not in cases:
            continue
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*mistake)
            results[name] = learn(learner_of(cases[case], folder / f"{name}-{rank}"))
    torch.save(results, folder / f"{rank}.pt")
    if count > 1:
        dist.destroy_process_group()


def learn_by_each_count(_: int, base: Path, cases: dict, shared: set) -> None:
    """In a folder a number of processes, which are forked from this one, since to import torch takes them seconds."""
    for count in COUNTS:
        (base / str(count)).mkdir()
        learnt = {case: each for case, each in cases.items() if count < 3 or case in LEARNT_BY_THREE}
        of_two = None if count == COUNTS[0] else base / "2/0.pt"
        arguments = (count, base / str(count), learnt, shared, of_two)
        multiprocessing.start_processes(work, arguments, count, start_method="fork")


def states_to_go_on_from(case: str, count: int, shared: Collection[str] = SHARDED) -> list[str]:
    """Of the whole model, and of a share of it, by one process; by three, which take the longest, of a few tasks."""
    if count == 3:
        return [case] if case in OF_THREE else []
    return [case, f"sharded-{case}"] if f"sharded-{case}" in shared else [case]


GO_ON = [(case, count, other) for case in CASES for count in (1, 3) for other in states_to_go_on_from(case, count)]


def tasks_in_turn(*params: tuple) -> list:
    """Cases as slow tests of a task or a regulariser, unless mistakes are planted in it or three go on with it."""
    learnt = {*OF_THREE, *(case for case, *_ in PLANTED.values())}

    def marks(name: str):
        of = SHARDED.get(name, name).removeprefix("pretext-").removeprefix("regulariser-")
        return () if name in learnt else pytest.mark.slow(of=of)

    return [pytest.param(*each, marks=marks([part for part in each if isinstance(part, str)][-1])) for each in params]


# All that the chosen tests want is done for the first of them, by one process.
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("ranks")]


@pytest.fixture(scope="module")
def together(request, composer, tmp_path_factory) -> dict[int, list[dict]]:
    """By the number of ranks, what each of them came to in the cases of the tests that were chosen."""
    own = [item for item in request.session.items if item.path == request.path]
    wanted = {value for item in own for key, value in item.callspec.params.items() if key in ("case", "name", "other")}
    wanted |= {PLANTED[name][0] for name in wanted & PLANTED.keys()} | {SHARDED.get(name, name) for name in wanted}
    shared = wanted & SHARDED.keys()
    shape = (f"batch_size={BATCH}", "length=1ep", "evaluator=none")
    cases = {
        case: composer.compose(tiny(*words, f"dataset.{ROWS[kind_of_words([TREE], words)]}=120", *shape)).content
        for case, words in CASES.items()
        if case in wanted
    }
    cases = json.loads(json.dumps(cases))
    for settings in (content["pretext"] for content in cases.values()):
        settings |= {key: min(settings[key], most) for key, most in NARROW.items() if key in settings}
    base = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(learn_by_each_count, (base, cases, shared))
    results = {
        count: [torch.load(base / f"{count}/{rank}.pt", weights_only=True) for rank in range(count)] for count in COUNTS
    }
    if os.environ.get(UPDATE):
        above, _, before = TABLE.read_text().partition("| |")
        TABLE.write_text(above + table(results, before))
    return results


def require_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    for name, difference in differences(ours, theirs).items():
        assert difference <= tolerance, f"{name}: {difference:.2g} of its largest"


COLUMNS = {
    "gradients, 2 processes": ("gradients", 2, ""),
    "gradients, 3": ("gradients", 3, ""),
    "weights, 2": ("weights", 2, ""),
    "weights, 3": ("weights", 3, ""),
    "weights, 2 with a share of the model": ("weights", 2, "sharded-"),
}


def table(results: dict[int, list[dict]], before: str) -> str:
    """Differences from one process, in Markdown; what was not chosen has the row that it had."""
    known = {line.split(" | ")[0]: line for line in before.splitlines()}
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for case in CASES:
        first = f"| {case.replace('-', ' ', 1)}"
        if case not in results[1][0]:
            lines += [known[first]] if first in known else []
            continue
        cells = []
        for what, count, prefix in COLUMNS.values():
            ours, alone = results[count][0].get(prefix + case), results[1][0][case]
            found = differences(flat(ours), flat(alone)) if ours else {}
            shown = [each for name, each in found.items() if name.startswith("weights.") == (what == "weights")]
            cells.append(f"{max(shown):.0e}" if shown else "")
        lines.append(f"{first} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def flat(result: dict) -> dict[str, Tensor]:
    """Gradients and weights by name."""
    parts = {**result["gradients"], "weights": result["weights"]}
    return {f"{part}.{name}": each for part, named in parts.items() for name, each in named.items()}


@pytest.mark.parametrize(("case", "count"), tasks_in_turn(*BY_SEVERAL))
def test_ranks_together_learn_what_one_learns(together, case, count):
    alone, several = together[1][0][case], [each[case] for each in together[count]]
    assert alone["gradients"].keys() == several[0]["gradients"].keys()
    for group, gradients in alone["gradients"].items():
        assert any(each.abs().max() > 1e-8 for each in gradients.values())
        require_equal(several[0]["gradients"][group], gradients)
    for each in several[1:]:
        assert all(torch.equal(each["weights"][name], one) for name, one in several[0]["weights"].items())
    require_equal(several[0]["weights"], alone["weights"], 1e-6)


@pytest.mark.parametrize("name", tasks_in_turn(*((name,) for name in SHARDED)))
def test_ranks_with_a_share_of_the_model_learn_what_one_learns(together, name):
    alone, several = together[1][0][SHARDED[name]], [each[name] for each in together[2]]
    for each in several:
        assert each["held"] < 0.6 * alone["held"], "memory for so much would not do for one"
        require_equal(flat(each), flat(alone), 1e-6)
        require_equal({"": each["features"]}, {"": alone["features"]}, 1e-6)
        require_equal({"": each["raw"]}, {"": alone["raw"]}, 1e-6)


@pytest.mark.parametrize("name", tasks_in_turn(*((name,) for name in (*CASES, *SHARDED))))
def test_ranks_together_see_the_health_and_the_pictures_of_one(together, name):
    """Of what a loss sees, and of what a task shows: each rank has those of its own rows, the first rank the first."""
    alone = together[1][0][SHARDED.get(name, name)]
    for rank, each in enumerate(result[name] for result in together[2]):
        require_equal(each["health"], alone["health"], 1e-6)
        rows = {key: images.chunk(2)[rank] for key, images in alone["pictures"].items() if len(images) == BATCH}
        require_equal({key: each["pictures"][key] for key in rows}, rows, 1e-6)
        assert each["pictures"].keys() == alone["pictures"].keys()


@pytest.mark.parametrize(("case", "count", "other"), tasks_in_turn(*GO_ON))
def test_a_run_of_two_ranks_goes_on_with_others(together, case, count, other):
    """Whether each of the two had the whole model or a share of it."""
    for each in together[count]:
        require_equal(each[case][f"resumed from {other}"], together[2][0][case]["weights"], 1e-6)


@pytest.mark.parametrize(("case", "count"), tasks_in_turn(*BY_SEVERAL))
def test_ranks_together_encode_what_one_encodes(together, case, count):
    for each in together[count]:
        require_equal({"": each[case]["features"]}, {"": together[1][0][case]["features"]}, 1e-6)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_seen(together, name):
    alone, several = together[1][0][PLANTED[name][0]], together[2][0][name]
    with pytest.raises(AssertionError, match="of its largest"):
        require_equal(flat(several), flat(alone), 1e-6)
