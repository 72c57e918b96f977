"""``python -m src.data ...`` from a checkout is ``exfuse data ...``."""

from exfuse.__main__ import start

start(__name__, "data")
