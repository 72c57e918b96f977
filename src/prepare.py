"""``python -m src.prepare ...`` from a checkout is ``exfuse prepare ...``."""

from exfuse.__main__ import start

start(__name__, "prepare")
