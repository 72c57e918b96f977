"""``python -m src.predict ...`` from a checkout is ``exfuse predict ...``."""

from exfuse.__main__ import start

start(__name__, "predict")
