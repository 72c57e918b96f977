"""``python -m src.pretrain ...`` from a checkout is ``exfuse pretrain ...``."""

from exfuse.__main__ import start

start(__name__, "pretrain")
