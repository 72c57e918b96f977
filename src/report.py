"""``python -m src.report ...`` from a checkout is ``exfuse report ...``."""

from exfuse.__main__ import start

start(__name__, "report")
