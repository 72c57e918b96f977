"""Which run a user means: by its key or the first digits of it, or its folder."""

from collections.abc import Sequence
from pathlib import Path

from exfuse.errors import UserError


def find_run(text: str, root: Path) -> Path:
    """The folder of the run that ``text`` names; any path, as of a checkpoint or of a folder of runs, stands for itself.

    Args:
        text: a run's key or the first digits of it, or a path.
        root: the folder of the runs.

    Raises:
        UserError: if no run, or several, are called so.
    """
    path = Path(text)
    if path.exists() or len(path.parts) > 1 or path.suffix == ".ckpt":
        return path
    found = sorted(folder for folder in root.glob(f"{text}*") if folder.is_dir())
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found) or "none"
        raise UserError(f"{text}: expected a run's folder, or the first digits of one key in {root}: {names} begin so.")
    return found[0]


def find_runs(texts: Sequence[str], root: Path) -> list[Path]:
    """See `find_run`, for several."""
    return [find_run(text, root) for text in texts]
