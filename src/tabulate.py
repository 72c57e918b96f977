"""``python -m src.tabulate ...`` from a checkout is ``exfuse tabulate ...``."""

from exfuse.__main__ import start

start(__name__, "tabulate")
