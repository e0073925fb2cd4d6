"""A word that is no key=value, or that others spell otherwise, is answered by what to type."""

import pytest
from runs import enter, refusal

LINES = {  # what is typed, and words of the one line that answers it
    "evalute outputs/run --batch 3": ["evalute: is no verb", "did you mean evaluate?"],
    "eval run": ["did you mean evaluate?"],
    "lis": ["did you mean list?"],
    "diff / /": ["diff: is no verb; possible are cache, "],
    "optimizer.lr = 0.1": ["optimizer.lr = 0.1: has spaces around =; type optimizer.lr=0.1"],
    "optimizer.lr= 0.1 seed=1": ["type optimizer.lr=0.1"],
    "optimizer.lr =0.1": ["type optimizer.lr=0.1"],
    "-m seed = 1,2": ["seed = 1,2: has spaces around =; type seed=1,2"],
    "simclr": ["simclr: cannot be read as key=value; type pretext=simclr"],
    "BYOL": ["did you mean byol?"],
    "model": ["type model=NAME, of airbench, ", " convnet, "],
    "optimizer.lr": ["type optimizer.lr=VALUE"],
    "seed=1 resume": ["resume is a verb: it stands first, as in ssl-runner resume"],
    "pretext=SimCLR": ["pretext: given SimCLR", "did you mean simclr?"],
    "pretext=MoCo-v3": ["did you mean moco_v3?"],
    "precision=fp32": ["precision: is no setting", "did you mean device.precision=float32?"],
    "dataset.root=x": [
        "possible here: dataset.images, ",
        "; it belongs to dataset=audio_folder, cifar10, ",
        " image_folder, ",
    ],
    "pretext.momentum=1 pretext=simclr": ["; it belongs to pretext=all4one, byol, ", ", ..."],
    "device.precision=bf16-mixed": ["did you mean bf16?"],
    "device=gpu": ["did you mean cuda?"],
    "-m seed=1,2 sweep.metric=probe/nope": ["no job measures; possible are probe/top1, ", "probe/l2"],
    "-m seed=1,2 sweep.metric=test/probe/nope": ["no job measures"],
    "-m seed=1,2 sweep.metric=prob/top1": [", or type evaluator=[...]; did you mean probe/top1?"],
    "-m seed=1,2 sweep.halvng=3": ["sweep.on_error, ", "did you mean sweep.halving?"],
}


@pytest.mark.parametrize("line", LINES)
def test_each_slip_is_answered_by_what_to_type(here, capsys, line):
    refusal(capsys, line, *LINES[line])


def test_spaces_do_not_hide_what_else_is_wrong(here, capsys):
    enter(capsys, "lr = 0.1 batch_size=0", "type lr=0.1", "did you mean optimizer.lr?", "batch_size: given 0", status=2)
