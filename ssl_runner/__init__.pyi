from ssl_runner.command.train import train as train
from ssl_runner.python.features import features as features
from ssl_runner.python.features import load as load
from ssl_runner.python.run import TrainedRun as TrainedRun
from ssl_runner.python.table import curves as curves
from ssl_runner.python.table import runs as runs

__version__: str
