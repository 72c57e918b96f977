"""``python -m src.export ...`` from a checkout is ``exfuse export ...``."""

from exfuse.__main__ import start

start(__name__, "export")
