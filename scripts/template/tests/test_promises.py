"""What the runner asks of every method, asked of each choice in conf/: a new YAML there is a new case."""

from ssl_runner.testing.checks import (  # noqa: F401
    test_learns_from_no_label,
    test_numbers_of_20_steps_are_what_they_were,
    test_resumes_bit_exactly,
    test_two_processes_learn_what_one_learns,
)
