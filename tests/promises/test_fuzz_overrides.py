"""Random overrides of any command: what cannot be is refused in a line and leaves nothing, what can be is carried out.

`SSL_RUNNER_FUZZ=2000 pytest tests/promises/test_fuzz_overrides.py` tries as many; `SSL_RUNNER_FUZZ_SEED=7` others.
"""

import random
import shutil
from pathlib import Path

import pytest
from conftest import TINY, names
from forks import require_no_faults
from fuzzing import CASES, SEED
from runs import kill

from ssl_runner.config.compose import Composer
from ssl_runner.config.override import paths
from ssl_runner.testing.jobs import MASKED

INTEGERS = ["0", "-1", "1", "2", "3", "7", "17", "100", "65536", "2147483648", "4294967295", "9223372036854775808"]
INTEGERS += ["18446744073709551616", "1" + "0" * 400, "1" + "0" * 4400, "0x10", "1_000", "1e3"]
FLOATS = ["0.5", "-0.0", "0", "1", "2", "-1", "1e-300", "5e-324", "1e38", "1e39", "1e308", "1e400"]
FLOATS += ["-1e400", "nan", "inf"]
DURATIONS = ["1ep", "2st", "50%", "0st", "1e9ep", "1e30st", "-5%", "101%", "1e400ep", "5 st", "st"]
TEXTS = ["''", "'a b'", "a", "~", "--x", "???", "a,b", "'\\u0000'", "画像", "naïve", "a=b", "(1) [x]", "'"]
TEXTS += ['"', "\\", "\n"]
TEXTS += ["${x}", "${oc.env:HOME}", "${hydra:job.name}", "${seed}", "${", "glob(*)", "range(3)", "choice(1,2)", "1:2"]
TEXTS += ["os.system", "torch.load", "ssl_runner.pretext.simclr.SimCLR", "ssl_runner.command.train.main", "a" * 5000]
NESTED = ["[]", "{}", "[0]", "[1]", "[[]]", "{a:1}", "{a:{b:[]}}", "[1,2,3,4,5,6,7,8]", "[0.5,1]", "[1,0.5]", "[null]"]
NESTED += ["[" * depth + "]" * depth for depth in (10, 160, 2000)] + ["{a:" * 200 + "1" + "}" * 200]
VALUES = ["true", "null", *INTEGERS, *FLOATS, *DURATIONS, *TEXTS, *NESTED]
KEYS = ["hydra", "hydra.run.dir", "hydra.sweep.dir", "hydra.job.name", "hydra.searchpath", "hydra/launcher", "format"]
KEYS += ["hydra/sweeper", "sweep.metric", "sweep.resume", "sweep.halving", "sweep.jobs_per_device"]
KEYS += ["sweep.devices_per_job", "hydra.sweeper.storage"]
KEYS += ["choices", "experiment"]
KEYS += ["pretext", "model", "dataset", "augment@pretext.augment", "_target_", "a.b.c", "", ".", "pretext.", "@", "/"]
PREFIXES = ["", "", "", "", "", "+", "++", "~"]
VERBS = ["train", "train", "train", "train", "-m", "resume", "rerun", "evaluate", "save"]


def random_value(old: object, rng: random.Random) -> str:
    """Mostly of the kind that a key has."""
    if rng.random() < 0.3:
        return rng.choice(VALUES)
    if isinstance(old, bool):
        return rng.choice(["true", "false"])
    if isinstance(old, list):
        items = INTEGERS if all(isinstance(each, int) for each in old) else FLOATS
        return f"[{','.join(rng.choices(items, k=len(old) if rng.random() < 0.7 else rng.randrange(5)))}]"
    kinds = {int: INTEGERS, float: FLOATS + INTEGERS, str: TEXTS + DURATIONS}
    return rng.choice(kinds.get(type(old), VALUES))


def random_words(composer: Composer, rng: random.Random, group: str) -> list[str]:
    """A choice of a group at a tiny size, and overrides of any keys, mostly of that group's."""
    base = ["evaluator=none"]
    if group != "device":
        name = rng.choice(["shapes", "digits", "image_folder"] if group == "dataset" else names(group))
        base = [f"evaluator=[{name}]"] if group == "evaluator" else [*base, f"{group}={name}"]
    content = composer.compose(base).content or {}
    known = dict(paths(content))
    known = known or {"seed": 0, "dataset.root": "x"}
    own = [key for key in known if key.startswith(group)] or ["seed"]
    words = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        key = rng.choice(KEYS) if rng.random() < 0.1 else rng.choice(own if rng.random() < 0.7 else list(known))
        prefix = rng.choice(PREFIXES)
        words.append(f"{prefix}{key}" + ("" if prefix == "~" else f"={random_value(known.get(key), rng)}"))
    model = MASKED if {"tokens", "patch"} & set(known) or "vit" in str(content.get("model")) else ()
    chosen = ("model", *(["dataset"] if "dataset=shapes" not in base and group == "dataset" else []))
    tiny = [word for word in TINY if not (word.startswith(chosen) and (model or group in ("model", "dataset")))]
    return [*base, *tiny, *(word for word in model if group != "model" or "=vit" not in word), *words]


def make_cases(begun: Path, tmp_path: Path, number: int, rng: random.Random) -> list[dict]:
    composer, cases = Composer(), []
    groups = ["pretext", "dataset", "model", "optimizer", "regulariser", "device", "evaluator"]
    for turn in range(number):
        folder, verb = tmp_path / f"case{turn}", rng.choice(VERBS)
        words = random_words(composer, rng, rng.choice(groups))
        if verb in ("train", "-m"):
            folder.mkdir()
            short = ["length=1st", "log_every=1st"]
            where = {"train": ["hydra.run.dir=new"], "-m": ["hydra.sweep.dir=new", "--cfg", "job", "-m"]}[verb]
            words = [*short, *words, *where]  # the random ones may say otherwise
        else:
            shutil.copytree(begun, folder)
            own = [word for word in words if word not in TINY]
            last = own[-1:] if verb == "resume" else own
            words = [verb, "run", *({"save": ["mine", *last], "rerun": ["length=1st", *last]}.get(verb, last))]
        cases.append({"words": words, "folder": str(folder)})
    return cases


@pytest.mark.slow(one_in=48)
def test_random_overrides(whole, tmp_path):
    begun = tmp_path / "begun"
    shutil.copytree(whole, begun / "run")
    kill(begun / "run", 12)
    require_no_faults(make_cases(begun, tmp_path, CASES, random.Random(SEED)), tmp_path)
