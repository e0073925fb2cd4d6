"""What docs show for text and speech, as typed: embedded data, and a folder of notes or recordings of one's own."""

import numpy as np
import pytest
import soundfile
from conftest import in_turn
from runs import enter, put, refusal, summary

pytestmark = pytest.mark.usefixtures("here")

SHORT = "length=4st evaluator=[knn] evaluator.knn.every=100% device=cpu hydra.run.dir=run"
EMBEDDED = {
    "pretext=mlm": "dataset.sentences=300 dataset.test=60",
    "pretext=cpc": "dataset.clips=120 dataset.test=40",
    "pretext=simclr dataset=utterances": "dataset.clips=120 dataset.test=40 batch_size=32",
    "pretext=mae dataset=utterances": "dataset.clips=120 dataset.test=40",
}
OWN = {
    "pretext=wav2vec2 dataset=audio_folder dataset.root=recordings": "dataset.cache=false batch_size=16",
    "pretext=simcse dataset=text_folder dataset.root=notes": "batch_size=16",
}


def tone(number, rate=8000):
    """A second, or less, of a tone in noise."""
    rng = np.random.default_rng(number)
    time = np.arange(int(rate * rng.uniform(0.4, 1))) / rate
    return 0.3 * np.sin(2 * np.pi * (300 + 40 * number) * time) + 0.01 * rng.standard_normal(len(time))


@pytest.fixture
def own_data(here):
    for number in range(60):
        kind = ("yes", "no")[number % 2]
        put(f"notes/{kind}/{number}.txt", f"{kind}, said the note of day {number}, and the weather was {number % 7}")
        file = here / f"recordings/{kind}/{number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, tone(number), 8000)


@pytest.mark.usefixtures("own_data")
@pytest.mark.parametrize("command", [*OWN, *in_turn(EMBEDDED)])
def test_a_command_of_docs_trains_measures_and_saves(here, capsys, command):
    enter(capsys, f"{command} {(OWN | EMBEDDED)[command]} {SHORT}", "raw features", "random encoder")
    told = summary("run")
    assert told["status"] == "completed"
    assert {*told["raw"]} >= {"knn/top1"}
    assert 0 <= told["final"]["test/knn/top1"] <= 1
    data = "notes" if "mlm" in command or "simcse" in command else "recordings"
    enter(capsys, f"embed run {data}/yes --to features.npz")
    features = np.load(here / "features.npz")["features"]
    assert features.shape[0] == 30
    assert np.isfinite(features).all()
    assert features.std(0).max() > 0


def test_a_task_of_images_is_refused_for_text_in_one_line_with_what_to_type(capsys):
    said = "pretext: Rotation takes image, and the dataset has text; type pretext=mlm, or dataset=shapes"
    refusal(capsys, "pretext=rotation dataset=grammar", said)
