"""``python -m src.compare ...`` from a checkout is ``exfuse compare ...``."""

from exfuse.__main__ import start

start(__name__, "compare")
