"""``python -m src.study ...`` from a checkout is ``exfuse study ...``."""

from exfuse.__main__ import start

start(__name__, "study")
