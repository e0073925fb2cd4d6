"""The table of challenges: what each costs a task, paired by seed, and the random encoder."""

from challenges import challenge_of, read_values, table
from comparison_toys import make_run

from ssl_runner.comparison.record import load_runs

GAINS = {"none": (0.3, 0.32), "blur": (0.2, 0.26), "few": (0.1, 0.12)}
SETTINGS = {"none": {}, "blur": {"corrupt": "blur", "strength": None}, "few": {"subset": 0.1, "stratified": True}}


def test_losses_are_paired_by_seed_and_named_by_what_differs_from_no_challenge(tmp_path):
    for task, factor in (("rotation", 1.0), ("simclr", 0.5)):
        for name, gains in GAINS.items():
            for seed, gain in enumerate(gains):
                baseline = 0.4 if name != "few" else 0.3 - 0.01 * seed
                own = {"choices": {"pretext": task}, "dataset": SETTINGS[name], "seed": seed}
                numbers = {"baseline": {"probe/top1": baseline}, "final": {"probe/top1": baseline + factor * gain}}
                make_run(tmp_path / f"{task}-{name}-{seed}", summary=numbers, **own)
    runs, *_ = load_runs([tmp_path])
    assert {challenge_of(run) for run in runs} == {"", "corrupt=blur", "subset=0.1"}
    head, _, *rows = table(read_values(runs, "probe/top1"))
    assert head == "| task | without | `corrupt=blur` | `subset=0.1` |"
    # two seeds: half a width is 12.706 * half their distance
    assert rows[0] == "| rotation | 31.0 ± 12.7 | -8.0 ± 25.4 | -20.0 ± inf |"
    assert rows[1] == "| simclr | 15.5 ± 6.4 | -4.0 ± 12.7 | -10.0 ± inf |"
    assert rows[2] == "| random encoder | 40.0 ± 0.0 | 0.0 ± inf | -10.5 ± 6.4 |"
