"""Where a job of a sweep finds its run: in the run's own folder, or done in a study's (``sweep.known``)."""

from pathlib import Path

from exfuse.store.description import PretrainingDescription, RunDescription
from exfuse.store.folder import RunFolder
from exfuse.store.study_file import RECORDS
from exfuse.store.tuning import FOLDER as SEARCH


def find_known(described: RunDescription | PretrainingDescription, folder: RunFolder) -> RunFolder:
    """The run's folder or, where it is not finished there and the study of ``sweep.known`` has its record, that copy."""
    known = described.sweep.known if described.sweep else None
    if known is None or described.overwrite or is_finished(described, folder):
        return folder
    copies = [RunFolder(Path(known) / name, folder.key) for name in (RECORDS, SEARCH)]
    return next((copy for copy in copies if is_finished(described, copy)), folder)


def is_finished(described: RunDescription | PretrainingDescription, folder: RunFolder) -> bool:
    """Whether the run is done and what a study needs of it is there: of what a search has, its record alone."""
    known = described.sweep.known if described.sweep else None
    if is_searched(described) or (known is not None and folder.root == Path(known) / SEARCH):
        return (record := folder.record()) is not None and record.done
    return folder.finished() is not None


def is_searched(described: RunDescription | PretrainingDescription) -> bool:
    """Whether it is a run of a study's search, which is scored on a part of train."""
    return described.held_out.share > 0 and bool((described.study or {}).get("tune"))
