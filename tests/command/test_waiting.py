"""How long torch's CPU threads wait actively, which is decided before torch is imported."""

import os
import subprocess
import sys

import pytest
from runs import CLEAN

CODE = (
    "import os, sys; from ssl_runner.__main__ import main; main(['optimizer.lr=-1'])\n"
    "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
)


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None")]
)
def test_threads_wait_briefly_unless_the_user_says_otherwise(given, spins):
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    words = [sys.executable, "-c", CODE]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**environment, **CLEAN, **given})
    assert done.stdout.splitlines()[-1] == f"{spins} False", done.stderr
