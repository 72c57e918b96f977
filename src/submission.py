"""``python -m src.submission ...`` from a checkout is ``exfuse submission ...``."""

from exfuse.__main__ import start

start(__name__, "submission")
