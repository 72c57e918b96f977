"""``python -m src.train ...`` from a checkout is ``exfuse train ...``."""

from exfuse.__main__ import start

start(__name__, "train")
