"""``python -m src.summarise ...`` from a checkout is ``exfuse summarise ...``."""

from exfuse.__main__ import start

start(__name__, "summarise")
