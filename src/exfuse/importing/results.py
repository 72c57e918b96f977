"""What other code may write of its runs, read file by file; whatever cannot be used ends in one line that names the file."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from exfuse.errors import UserError
from exfuse.importing.arrays import counted_run
from exfuse.importing.stated import PAGE, STUDY_FILES, Columns, FolderFile, Found, RunFile, read_stated
from exfuse.importing.tables import averaged_run, read_lines, read_table


def read_results(folder: Path, columns: Columns) -> tuple[FolderFile, list[Found], list[Path]]:
    """Everything that a folder says, its runs by path, or by row of the table that holds them; or a table alone.

    Returns:
        What holds for all of them, the runs, and the files that were left out.

    Raises:
        UserError: naming the first file that cannot be used, and why.
    """
    if folder.is_file():
        return FolderFile(), [*read_table(folder, columns)], []
    if not folder.is_dir():
        raise UserError(f"No folder {folder}: expected one with result files. {PAGE}")
    below = [path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    every = sorted(path for path in below if path.is_symlink() or not path.is_dir())
    shared = [path for path in every if path.parent == folder and path.name in STUDY_FILES]
    if len(shared) > 1:
        raise UserError(f"{shared[1]} and {shared[0]} both say what holds for all runs: keep one of them.")
    file = read_stated(shared[0], FolderFile, "what holds for all runs") if shared else FolderFile()
    by_stem: dict[Path, dict[str, Path]] = {}
    for path in every:
        if path not in shared and path.suffix in (".json", ".npz", ".csv"):
            by_stem.setdefault(path.with_suffix(""), {})[path.suffix] = path
    found = [run for parts in by_stem.values() for run in _runs(parts, columns)]
    if not found:
        raise UserError(f"{folder} holds no result file: expected RUN.json with RUN.npz or RUN.csv, or a table. {PAGE}")
    read = {*shared, *(path for parts in by_stem.values() for path in parts.values())}
    return file, found, [path for path in every if path not in read]


def _runs(parts: Mapping[str, Path], columns: Columns) -> Iterator[Found]:
    """What one name's files hold: one run, or a table of several."""
    said, counts, table = (parts.get(suffix) for suffix in (".json", ".npz", ".csv"))
    if counts is not None and table is not None:
        raise UserError(f"{table} and {counts.name} lie side by side: a run is scored by one of them. Move the other away.")
    if said is None:
        if counts is not None:
            raise UserError(f"{counts} has no {counts.with_suffix('.json').name} beside it, which says row and seed. {PAGE}")
        assert table is not None
        yield from read_table(table, columns)
        return
    run = read_stated(said, RunFile, "what a run is")
    if counts is not None:
        yield counted_run(said, run, counts)
    elif table is not None:
        wanted = {"image": columns.image, "score": columns.score, "group": columns.group}
        lines = [*read_lines(table, wanted, columns)]
        yield averaged_run(said, run, table, lines)
    else:
        raise UserError(f"{said} has no {said.stem}.npz or {said.stem}.csv beside it, with what each image scored. {PAGE}")
