"""Ranges of settings, which the check of a config reads from the signatures of constructors."""

from typing import Annotated

from annotated_types import Ge, Gt, Interval

Count = Annotated[int, Ge(1)]
Threads = Annotated[int, Interval(ge=1, le=1024)]  # OpenMP ends the process over many more
Processes = Annotated[int, Interval(ge=1, le=65536)]
Natural = Annotated[int, Ge(0)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
