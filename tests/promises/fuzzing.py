"""How many random cases the fuzzers try, and which: `SSL_RUNNER_FUZZ` and `SSL_RUNNER_FUZZ_SEED` of the environment."""

import os

CASES = int(os.environ.get("SSL_RUNNER_FUZZ", "14"))
SEED = int(os.environ.get("SSL_RUNNER_FUZZ_SEED", "0"))
