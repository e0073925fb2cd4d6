"""File names in shared memory: the list that they are made of."""

import pickle
from multiprocessing.reduction import ForkingPickler

import pytest

from ssl_runner.data.image_files.names import Names

LIST = ["a/1.png", "", "b/\u753b.jpg", "c/\udcff.png", "a/1.png"]  # one whose bytes are no UTF-8


def test_names_are_the_list():
    names = Names(LIST)
    assert (list(names), len(names), names[-2], names[::2], names[3:]) == (LIST, 5, LIST[-2], LIST[::2], LIST[3:])
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            names[beyond]
    assert list(Names([])) == []
    assert list(pickle.loads(pickle.dumps(names))) == LIST


def test_what_a_process_is_sent_does_not_grow_with_the_names():
    few, many = (len(ForkingPickler.dumps(Names(["a/b/c.png"] * n))) for n in (1, 10_000))
    assert many < few + 100
