"""Decoding a recording of any rate and number of channels to one channel of a given rate: wav, flac, ogg, mp3.

By soundfile, whose wheels hold libsndfile: it needs neither ffmpeg nor a version of torch.
"""

import os
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64")


class Header(NamedTuple):
    """What a file says of itself."""

    frames: int
    rate: int  # Hz
    channels: int


def soundfile() -> Any:
    """The library. Raises ValueError with what to type if it is absent."""
    try:
        import soundfile as library  # a second of import, and only recordings need it
    except (ImportError, OSError) as error:
        raise ValueError(f"recordings are read by soundfile ({error}); type pip install 'ssl-runner[speech]'") from None
    return library


def read_header(path: Path) -> Header | str:
    """Header of a file, or why it cannot be read."""
    library = soundfile()
    try:
        known = library.info(os.fspath(path))
    except (library.LibsndfileError, OSError) as error:
        return " ".join(str(error).split())
    return Header(known.frames, known.samplerate, known.channels)


def read_wave(path: Path, rate: int) -> Float32[np.ndarray, " n"]:
    """The mean of all channels in [-1, 1], resampled by a polyphase filter. Raises whatever libsndfile makes of it."""
    wave, own = soundfile().read(os.fspath(path), dtype="float32", always_2d=True)
    wave = wave.mean(axis=1)
    if own != rate and len(wave):
        from scipy.signal import resample_poly  # half a second of import

        common = gcd(own, rate)
        wave = resample_poly(wave, rate // common, own // common).astype(np.float32)
    return wave


def rows_of(samples: int, length: int) -> int:
    """How many clips of `length` a recording becomes: a rest of half a clip or more is one, and any recording is."""
    return max(1, (2 * samples + length) // (2 * length))


def cut_rows(wave: Float32[np.ndarray, " n"], length: int, rows: int) -> Int16[np.ndarray, "r t"]:
    """The first rows of a recording, one after another, with zeros behind what is too short."""
    clips = np.zeros(rows * length, dtype=np.int16)
    few = wave[: len(clips)]
    clips[: len(few)] = np.clip(np.rint(few * 32768), -32768, 32767).astype(np.int16)
    return clips.reshape(rows, length)
