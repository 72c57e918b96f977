"""``python -m src.budget ...`` from a checkout is ``exfuse budget ...``."""

from exfuse.__main__ import start

start(__name__, "budget")
