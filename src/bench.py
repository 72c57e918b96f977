"""``python -m src.bench ...`` from a checkout is ``exfuse bench ...``."""

from exfuse.__main__ import start

start(__name__, "bench")
