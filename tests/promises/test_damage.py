"""Run folders that a crash, a disk or a hand has damaged: a line and a status, or the same result, no traceback."""

import io
import json
import re
import shutil
from contextlib import suppress

import pytest
import torch
from runs import change, measured, said, same, saved, saved_bytes, summary

from ssl_runner.__main__ import main
from ssl_runner.run_folder import checkpoint
from ssl_runner.run_folder.metrics import read_rows

BINARY = bytes(range(256)) * 8


def flipped(content, at):
    """With another bit, at a share of the length."""
    place = int(at * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def require_same_end(cut, whole):
    """The killed run has gone on to what the undisturbed one has."""
    assert same(cut, whole)
    assert measured(cut) == measured(whole)
    assert summary(cut)["status"] == "completed"


def saved_again(act):
    return lambda content: saved_bytes(act(torch.load(io.BytesIO(content), weights_only=True)))


TORN = {
    "empty": lambda b: b"",
    "torn": lambda b: b[: len(b) // 2 + 3],
    "binary": lambda b: BINARY,
    "zeros": lambda b: b"\0" * len(b),  # what some file systems leave of a file after a power cut
    "list": lambda b: b"[1, 2]\n",
    "number": lambda b: b"7\n",
    "unclosed": lambda b: b"a: [1, {\n",
    "tagged": lambda b: b"!!python/object/apply:os.getcwd []\n",
    "foreign": lambda b: b"lr: 0.1\n1: 2\n2026-01-01: x\n? [a, b]\n: c\n",
    "unhashable": lambda b: b"? {a: b}\n: c\n",
    "untrusted": lambda b: b.replace(b"ssl_runner.pretext.rotation.Rotation", b"os.getcwd"),
    "no class": lambda b: b.replace(b"ssl_runner.pretext.rotation.Rotation", b"ssl_runner.pretext.rotation"),
    "dates": lambda b: b.replace(b"seed: 0", b"seed: 2026-01-01"),
    "names": lambda b: b.replace(b"pretext: rotation", b"pretext: [rotation]"),
}
NEWEST, AT_4, AT_8 = "checkpoints/0000008.pt", "resumed at step 4", "resumed at step 8"
UNFIT = ["0000008.pt does not fit this config", AT_4]
FOLDERS = ("metrics.jsonl", "run.log", "summary.json", "config.yaml", "overrides.yaml", ".lock")
LOST = ("binary", "foreign", "unclosed", "number")
ROWS = {
    "no mapping": b'[1]\n3\nnull\n"x"\n\n',
    "no step": b'{"a": 1}\n{"step": 4}\n{"time": 1.0}\n',
    "words": b'{"step": "4", "time": 1.0}\n{"step": 4, "time": "noon"}\n{"step": null, "time": null}\n',
    "worded values": b'{"step": 4, "time": 1.0, "knn/top1": "high"}\n{"step": 4, "time": 1.0, "knn/top1": null}\n',
    "lists": b'{"step": [4], "time": 1.0}\n{"step": 4, "time": 1.0, "knn/top1": [1]}\n',
    "long number": b'{"step": ' + b"4" * 5000 + b', "time": 1.0}\n',
    "deep": b"[" * 100_000 + b"\n",
    "binary": BINARY,
}
BETWEEN = b"\n".join(ROWS.values()) + b"\n"
BOTH = [f"{step:07d}.pt cannot be read" for step in (4, 8)]
RECORDS = [("summary.json", content) for content in (b"[]", b'{"status": [1]}', BINARY, b"[" * 100_000)]
RECORDS += [("environment.json", content) for content in (b'{"versions": {"torch": []}, "dataset": {}}', BINARY)]
DAMAGES = {  # a file, its other bytes or keys or that it is a folder, the statuses of resuming, and words that are said
    **{f"config {each}": ("config.yaml", act, [2], ["cut/config.yaml"]) for each, act in TORN.items()},
    **{f"overrides {each}": ("overrides.yaml", TORN[each], [2], ["cut/overrides.yaml"]) for each in LOST},
    **{f"folder {name}": (name, "folder", [1, 2], [name]) for name in FOLDERS},
    "foreign": (NEWEST, saved_again(lambda s: {"model": torch.ones(1)}), [0], ["0000008.pt is no checkpoint", AT_4]),
    "format": (NEWEST, saved_again(lambda s: {**s, "format": 99}), [0], ["0000008.pt has format 99", AT_4]),
    "other keys": (NEWEST, saved_again(lambda s: {"format": 1, "step": 8}), [0], UNFIT),
    "numbers": (NEWEST, saved_again(lambda s: {**s, "pretext": 5, "optimizers": 6, "scalers": 7}), [0], UNFIT),
    "no optimizer": (NEWEST, saved_again(lambda s: {**s, "optimizers": {}}), [0], UNFIT),
    "empty optimizer": (NEWEST, saved_again(lambda s: {**s, "optimizers": {"main": {}}}), [0], UNFIT),
    "widths": ("config.yaml", {"model": {"widths": [8, 8, 16]}}, [1], ["0000008.pt does not fit this config"]),
    "seed": ("config.yaml", {"seed": 1}, [2], ["cut/config.yaml", "seed"]),
    "length": ("config.yaml", {"length": "13st"}, [2], ["cut/config.yaml", "length"]),
    "batches": ("config.yaml", {"length": "8st", "accumulate": 2}, [2], ["cut/config.yaml", "length", "accumulate"]),
    "nested": ("config.yaml", {"optimizer": {"lr": 0.5}}, [2], ["optimizer.lr changed"]),
    **{f"{name} {to[:9]}": (name, lambda b, to=to: to, [0], [AT_8]) for name, to in RECORDS},
    "rows": ("metrics.jsonl", lambda b: BETWEEN + b + BETWEEN, [0], [AT_8]),
    **{f"flipped at {at}": (NEWEST, lambda b, at=at: flipped(b, at), [0], []) for at in (0.1, 0.5, 1.0)},
    **{f"{each} checkpoints": ("checkpoints/*.pt", TORN[each], [0], BOTH) for each in ("torn", "zeros", "empty")},
}


@pytest.mark.parametrize("damage", ROWS)
def test_a_damaged_row_is_left_out(tmp_path, damage):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(ROWS[damage] + b'\n{"step": 4, "time": 1.5, "knn/top1": NaN}\n' + ROWS[damage])
    (row,) = read_rows(file)
    assert row.keys() == {"step", "time", "knn/top1"}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_run_goes_on_to_the_same_end_or_says_why_not(cut, whole, case, capsys):
    name, damage, statuses, words = DAMAGES[case]
    for path in cut.glob(name):
        if damage == "folder":
            path.unlink()
            path.mkdir()
        elif isinstance(damage, dict):
            change(cut, name, **damage)
        else:
            path.write_bytes(damage(path.read_bytes()))
    before = {p: p.read_bytes() for p in cut.rglob("*") if p.is_file() and p.name not in (".lock", "run.log")}
    status = main(["resume", "cut"])
    message = said(capsys, *words)
    assert status in statuses
    assert max(map(len, message.splitlines())) < 600
    if status == 0:
        require_same_end(cut, whole)
        rows = (cut / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in rows] == [0, 4, 4, 8, 8, 12, 12, 12]
        # A flipped bit may carry nothing, as those of the archive's padding.
        assert words or AT_8 in message or ("0000008.pt cannot be read" in message and AT_4 in message)
        return
    assert not re.search(r"\w+Error", message), "what is wrong is named, and no class of Python's"
    if status == 2:
        assert {p: p.read_bytes() for p in before} == before, "nothing in the folder is touched"
    elif damage != "folder":
        assert "Traceback" not in (cut / "run.log").read_text()
    if case == "widths":
        now, then = summary(cut), json.loads(before[cut / "summary.json"])
        assert "0000008.pt does not fit" in now["error"]
        assert now == {**then, "status": "failed", "error": now["error"]}, "what it had reached is still there"
        shutil.copy(whole / name, cut)
        assert main(["resume", "cut"]) == 0
        require_same_end(cut, whole)


def test_lost_metrics_cost_only_themselves(cut, whole):
    (cut / "metrics.jsonl").unlink()
    for each in cut.glob("events.out*"):
        each.write_bytes(BINARY)
    assert main(["resume", "cut"]) == 0
    assert same(cut, whole)


def test_what_is_no_folder_is_refused(here, capsys):
    (here / "file").write_text("")
    for verb in ("resume", "rerun"):
        for name in ("file", "absent", "file/below", "x" * 300):
            assert main([verb, str(here / name)]) == 2, (verb, name)
    message, words = said(capsys), ("holds no run", "is a file, and a run goes on in its folder", "File name too long")
    assert [message.count(each) for each in words] == [4, 1, 2]


def test_no_flipped_bit_changes_what_is_loaded(cut):
    """Anywhere in the file: it is refused, or it is the same."""
    path, loaded = cut / NEWEST, 0
    good, sound = checkpoint.load(path), path.read_bytes()
    for at in range(98):
        path.write_bytes(flipped(sound, at / 97))
        with suppress(checkpoint.Unreadable):
            state = checkpoint.load(path)
            loaded += 1
            assert state["step"] == 8
            assert all(torch.equal(state["pretext"][name], value) for name, value in good["pretext"].items()), at
    assert loaded < 48


def test_how_often_it_tells_and_saves_may_be_changed_by_hand(cut, whole):
    change(cut, "config.yaml", log_every="1st", save_every="1st", show_every="1st", keep=1)
    assert main(["resume", "cut"]) == 0
    require_same_end(cut, whole)
    assert [step for step, _ in measured(cut, "train/loss")] == [4, 8, 9, 10, 11, 12]
    assert saved(cut) == [12]
