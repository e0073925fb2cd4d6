"""What is drawn has the shapes and types that its signatures say.

Checked here alone: with checks at each of its thousands of small calls, the suite took a third longer.
"""

import subprocess
import sys

import pytest

DRAW = """
import random

import torch
from jaxtyping import install_import_hook

with install_import_hook("ssl_runner.rendering", "beartype.beartype"):
    from ssl_runner.rendering import canvas, scene, sentences, utterance

rng = torch.Generator().manual_seed(0)
scene.Scene(20, 16, rng).render()
utterance.SpokenWords(20, 1.0, rng, rng).render()
for _ in range(20):
    sentences.draw_sentence(random.Random(0), 0.5)
print("all is drawn", flush=True)
canvas.over_pixels(torch.zeros(2, 2))
"""


@pytest.mark.slow
def test_shapes_and_types_are_those_of_the_signatures(tmp_path):
    # A cache of its own: other lists of packages leave unchecked modules there that pass for checked, see conftest.
    alone = ["-X", f"pycache_prefix={tmp_path}"]
    done = subprocess.run([sys.executable, *alone, "-c", DRAW], capture_output=True, text=True, check=False)
    assert done.stdout == "all is drawn\n", done.stderr
    assert "TypeCheckError" in done.stderr, "the last call is a mistake"
