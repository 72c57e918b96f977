"""Which of the processes of a distributed run this is."""

from pytorch_lightning.utilities import rank_zero_only


def is_first_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) == 0
