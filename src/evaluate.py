"""``python -m src.evaluate ...`` from a checkout is ``exfuse evaluate ...``."""

from exfuse.__main__ import start

start(__name__, "evaluate")
