"""``python -m src.rescore ...`` from a checkout is ``exfuse rescore ...``."""

from exfuse.__main__ import start

start(__name__, "rescore")
