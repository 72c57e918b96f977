"""``python -m src.runs ...`` from a checkout is ``exfuse runs ...``."""

from exfuse.__main__ import start

start(__name__, "runs")
