"""What TensorBoard shows of text and audio: tables of what is hidden and filled in, clips, and spectrograms."""

import shutil

import pytest
import torch
from modality_toys import KINDS, RATE
from runs import enter, kill, put
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_runner.engine.panels import GAP, HIDDEN, panels, spectrogram, table, written

WORDS = {1: "the", 2: "cat", 3: "sat", 4: "<b>|"}


def decode(ids):
    return " ".join(WORDS[each] for each in ids)


def test_hidden_words_are_gaps_and_padding_is_not_written():
    assert written([1, HIDDEN, HIDDEN, 3, 0, 0], decode) == f"the {GAP} {GAP} sat"
    assert written([HIDDEN, 2, 0], decode) == f"{GAP} cat"
    assert written([0, 0], decode) == ""
    assert written([1, 2, 300, 0], None) == "1 2 300"
    assert written([4], decode) == "&#60;b&#62;&#124;", "neither Markdown nor HTML"
    shown = table({"original": torch.tensor([[1, 2], [3, 0]]), "seen": torch.tensor([[1, HIDDEN], [3, 0]])}, decode)
    assert shown == f"| original | seen |\n| --- | --- |\n| the cat | the {GAP} |\n| sat | sat |"
    many = {"original": torch.ones(99, 2, dtype=torch.int64)}
    assert len(table(many).splitlines()) == 10


def test_text_has_what_the_task_sees_and_what_it_fills_in():
    x = torch.tensor([[1, 2, 3, 0], [3, 2, 1, 1]])
    hidden = torch.tensor([[False, True, False, False], [True, False, False, False]])
    places, filled = torch.tensor([[1], [0]]), x + 1
    shown = panels("text", x, (x, hidden, places), {"filled in": filled, "image": torch.rand(1, 3, 4, 4)})
    assert list(shown.texts) == ["original", "seen", "filled in"]
    assert shown.texts["seen"].tolist() == [[1, HIDDEN, 3, 0], [HIDDEN, 2, 1, 1]]
    assert torch.equal(shown.texts["filled in"], filled)
    assert (list(shown.images), shown.sounds) == (["pictures/image"], {})
    assert torch.equal(panels("text", x, (x.flip(1),), {}).texts["seen"], x.flip(1))
    assert panels("text", x, (torch.rand(2, 4),), {}).texts == {}


def test_audio_has_clips_and_spectrograms_in_a_range_that_can_be_seen():
    x, mel = torch.rand(3, 1, 400), 20 * torch.randn(3, 1, 8, 9) - 30
    shown = panels("audio", x, (x[:2], mel, torch.arange(3)), {})
    assert list(shown.sounds) == ["sounds/original", "sounds/0"]
    assert shown.texts == {}
    assert (shown.images["views/0"].min(), shown.images["views/0"].max()) == (0, 1)
    images = panels("image", x, (mel, torch.arange(3)), {})
    assert images.images["views/0"] is mel, "images are shown as they are"
    assert images.sounds == images.texts == {}


def test_a_tone_is_a_line_at_its_height():
    tone = (2 * torch.pi * 1000 * torch.arange(4000) / RATE).sin().expand(2, 1, -1).clone()
    tone[1] *= 0.01
    drawn = spectrogram(tone, RATE)
    assert drawn.shape[:2] == (2, 1)
    assert (drawn.min(), drawn.max()) == (0, 1)
    height = drawn.shape[2]
    assert drawn[0, 0, :, 5].argmax() == pytest.approx(height - 1 - 1000 / (RATE / 2) * (height - 1), abs=1)
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0.05)
    assert spectrogram(torch.zeros(1, 1, 5), RATE).isfinite().all()


def shown_in(folder):
    """Steps by tag, of clips, pictures and tables."""
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0, "audio": 0, "images": 0}).Reload()
    tags = {tag: [each.step for each in board.Audio(tag)] for tag in board.Tags()["audio"]}
    tags |= {tag: [each.step for each in board.Images(tag)] for tag in board.Tags()["images"]}
    return tags | {tag: [each.step for each in board.Tensors(tag)] for tag in board.Tags()["tensors"] if "views" in tag}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_shows_them_and_a_resumed_one_the_same(kind, here, monkeypatch, capsys):
    monkeypatch.setenv("SSL_RUNNER_TRUST", "modality_toys")
    for group, target in KINDS[kind].items():
        put(f"conf/{group}/mine.yaml", {"_target_": f"{target.__module__}.{target.__name__}"})
    words = ["--config-dir", "conf", *(f"{group}=mine" for group in KINDS[kind]), "device=cpu", "batch_size=16"]
    words += ["evaluator=none", "length=40st", "save_every=20st", "show_every=10st", "log_every=10st"]
    enter(capsys, [*words, "hydra.run.dir=run"])
    whole = shown_in("run")
    if kind == "text":
        assert whole == {"views/texts/text_summary": [0, 10, 20, 30, 40]}
    else:
        clips = {f"sounds/{which}/{number}" for which in ("original", "0") for number in range(4)}
        assert whole.keys() == clips | {"sounds/original", "sounds/0"}
        assert {*map(tuple, whole.values())} == {(0, 10, 20, 30, 40)}
    cut = kill(shutil.copytree("run", here / "cut"), 40)
    enter(capsys, "resume cut")
    assert shown_in(cut) == whole
