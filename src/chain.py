"""``python -m src.chain ...`` from a checkout is ``exfuse chain ...``."""

from exfuse.__main__ import start

start(__name__, "chain")
