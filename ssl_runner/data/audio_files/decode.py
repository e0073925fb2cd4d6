"""Decoding a recording of any rate and number of channels to one channel of a given rate: wav, flac, ogg, mp3.

By soundfile, whose wheels hold libsndfile: it needs neither ffmpeg nor a version of torch.
"""

import io
import os
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Int16

from ssl_runner.errors import one_line

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64")
LOUDEST = 2.0  # sample of a sound, of which full scale is 1: more is another scale
# A file, what is in one, or an array (n,) or (n, channels) in [-1, 1] and its rate in Hz, as soundfile.read returns it.
Sound: TypeAlias = "Path | bytes | tuple[np.ndarray, int]"


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
        return one_line(error)
    return Header(known.frames, known.samplerate, known.channels)


def read_wave(sound: Sound, rate: int) -> Float32[np.ndarray, " n"]:
    """The mean of all channels in [-1, 1], resampled by a polyphase filter.

    Raises ValueError for floating point of another scale, or that is not finite, and whatever libsndfile makes of it.
    """
    if isinstance(sound, tuple):
        wave, own = sound[0].astype(np.float32), sound[1]
        wave = wave[:, None] if wave.ndim == 1 else wave
    else:
        place = io.BytesIO(sound) if isinstance(sound, bytes) else os.fspath(sound)
        wave, own = soundfile().read(place, dtype="float32", always_2d=True)
    if not (loudest := float(np.abs(wave).max(initial=0))) <= LOUDEST:
        raise ValueError(f"it has values up to {loudest:.3g}; give [-1, 1], and no NaN")
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


def read_clips(sound: Sound, rate: int, length: int) -> Int16[np.ndarray, "r 1 t"]:
    """The clips of a sound as a data set has them, silent ones left out. Raises ValueError if all are."""
    wave = read_wave(sound, rate)
    clips = cut_rows(wave, length, rows_of(len(wave), length))
    heard = clips[clips.any(axis=1), None]
    if not len(heard):
        raise ValueError("it is empty, or silent")
    return heard
