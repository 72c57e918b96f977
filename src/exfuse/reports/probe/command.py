"""`exfuse report probe`: draw cells from each run's maps, teach and score probes, say what several seeds say together."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from rich import box

from exfuse.analysis.figures import probe as figure, style
from exfuse.analysis.student import student
from exfuse.composition.reading import read_split, split_of
from exfuse.data.subsets import spread_evenly
from exfuse.devices import choose_device
from exfuse.errors import UserError, plural
from exfuse.files import write_folder
from exfuse.limits import Device, NonNegativeFloat, Positive, PositiveFloat, Seed
from exfuse.reports.features.sources import Source, find_sources, target_folder
from exfuse.reports.features.taps import load_sources
from exfuse.reports.probe.cells import QUESTIONS, Cells, Drawer, probe
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import Option
from exfuse.store.probes import FOLDER, ProbeIndex, ProbeResult, ProbeSummary, write_probes
from exfuse.terminal import Console, Progress, RichTable


def summarise_probes(results: Sequence[ProbeResult]) -> list[ProbeSummary]:
    """Mean, spread and interval over seeds, by question, level and row, rows in the order in which they first come."""
    groups: dict[tuple[str, str, str], list[ProbeResult]] = {}
    for result in results:
        groups.setdefault((result.question, result.level, result.row), []).append(result)
    order = {row: place for place, row in enumerate(dict.fromkeys(result.row for result in results))}
    keys = sorted(groups, key=lambda key: (QUESTIONS.index(key[0]), key[1], order[key[2]]))
    return [_summary(groups[key]) for key in keys]


def _summary(group: Sequence[ProbeResult]) -> ProbeSummary:
    before, after = [one.before for one in group], [one.after for one in group]
    differences = [one.after - one.before for one in group]
    difference, low, high = student(differences)[:3] if len(group) > 1 else (differences[0], None, None)
    first = group[0]
    return ProbeSummary(
        first.row,
        first.level,
        first.question,
        len(group),
        statistics.mean(before),
        statistics.stdev(before) if len(group) > 1 else None,
        statistics.mean(after),
        statistics.stdev(after) if len(group) > 1 else None,
        difference,
        low,
        high,
        statistics.mean(one.chance for one in group),
    )


def probe_tables(summaries: Sequence[ProbeSummary], title: str) -> list[RichTable]:
    """The summaries for a terminal, in %, a table a question; they fit into 80 columns."""
    found = []
    for question in dict.fromkeys(one.question for one in summaries):
        chosen = [one for one in summaries if one.question == question]
        heading = f"{title}\n{figure.TITLES[question]}; guessing: {100 * chosen[0].chance:.1f}"
        table = RichTable(title=heading, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("level", no_wrap=True)
        table.add_column("row", overflow="fold")
        for header in ("before", "after", "after - before [95 %]", "seeds"):
            table.add_column(header, justify="right", no_wrap=True)
        for one in chosen:
            changed = (mean_text(one.after, one.after_sd), difference_text(one)) if one.difference else ("as before", "")
            table.add_row(one.level, one.row, mean_text(one.before, one.before_sd), *changed, str(one.seeds))
        found.append(table)
    return found


def mean_text(mean: float, spread: float | None) -> str:
    """In %: ``43.2 ± 0.8``."""
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def difference_text(one: ProbeSummary) -> str:
    """In points: ``+1.2 [+0.4, +2.0]``."""
    text = f"{100 * one.difference:+.1f}"
    return text if one.low is None or one.high is None else f"{text} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"


# What `exfuse report probe` does: draw cells from each run's maps, teach and score the probes, write one folder.


def probe_features(
    checkpoint: str | list[str] | None,
    study_folder: str | None,
    paths_runs: str,
    train_images: Positive | None,
    test_images: Positive | None,
    cells: Annotated[int, Meta(ge=2)],
    band: NonNegativeFloat,
    strength: PositiveFloat,
    seed: Seed,
    output: str | None,
    device: Device,
    data: Option | None = None,
) -> None:
    """Probe every run of a study, or those that ``checkpoint`` names.

    Args:
        checkpoint, study_folder, paths_runs: whose maps, see `find_sources`.
        train_images, test_images: that teach the classifiers and that score them; None for all.
        cells: of each image, level and question at most so many.
        band: px on either side of a border that belong to it.
        strength: inverse of the L2 penalty.
        seed: of the draw of cells.
        output: folder to write, see `target_folder`.
        device: to run models on.
        data: in the place of what the first run was trained with.

    Raises:
        CheckpointError: if a checkpoint cannot be used or scores other classes than the data name.
        DataError: if the data cannot be read.
        UserError: see `find_sources`; or if the output folder holds something else, which is then left as it is.
    """
    sources = find_sources(checkpoint, study_folder, paths_runs)
    folder, of = target_folder(output, study_folder, FOLDER, sources)
    _, trained, _ = load_checkpoint(sources[0].checkpoint)
    splits = [read_split(data, name) if data else split_of(trained, name) for name in ("train", "val")]
    positions = [spread_evenly(len(splits[0]), train_images), spread_evenly(len(splits[1]), test_images)]
    where, drawer = choose_device(device), Drawer(cells, band, seed)
    results: list[ProbeResult] = []
    console = Console()
    with Progress(transient=True, console=console) as progress:
        task = progress.add_task("Probing", total=len(sources) * sum(map(len, positions)))
        mapped = load_sources(sources, splits[0].classes, splits[0], where, bool(study_folder), console)
        for source, model, transform in mapped:
            taught: dict[tuple[str, str], Cells] = {}
            tested: dict[tuple[str, str], Cells] = {}
            for found, split, places in zip((taught, tested), splits, positions, strict=True):
                for _ in drawer.draw(found, model, transform, split, places, where):
                    progress.advance(task)
            results += _score(source, taught, tested, strength)
    if not results:
        raise UserError("No probe could be taught: the chosen images show a single class. Choose more train_images.")
    settings: dict[str, float | str | None] = {"cells": cells, "band": band, "strength": strength, "seed": seed}
    settings |= {"data": splits[1].name, "train_images": len(positions[0]), "test_images": len(positions[1])}
    _write(folder, results, settings, of)
    title = f"Linear probes: {splits[1].name}, {plural(len(positions[1]), 'image')}, balanced accuracy %"
    for table in probe_tables(summarise_probes(results), title):
        console.print(table)
        console.print()
    console.print(f"Scores and figure: {folder}", soft_wrap=True, highlight=False)


def _score(
    source: Source, taught: dict[tuple[str, str], Cells], tested: dict[tuple[str, str], Cells], strength: float
) -> Iterator[ProbeResult]:
    for (level, question), cells in taught.items():
        before = probe(cells.joined("before"), tested[level, question].joined("before"), strength)
        same = all(np.array_equal(one, other) for one, other in zip(cells.before, cells.after, strict=True))
        after = before if same else probe(cells.joined("after"), tested[level, question].joined("after"), strength)
        if before is None or after is None:
            continue
        run = source.run
        scores = (before.accuracy, after.accuracy, before.chance, before.cells)
        yield ProbeResult(run.key, run.row, run.seed, run.seb, level, question, *scores)


def _write(output: Path, results: Sequence[ProbeResult], settings: dict[str, float | str | None], of: str) -> None:
    seeds = sorted({result.seed for result in results})
    title = f"{settings['data']}, {settings['test_images']} images to score on, seeds {', '.join(map(str, seeds))}"
    summary = summarise_probes(results)

    def write(scratch: Path) -> None:
        style.save(figure.draw(summary, title), scratch / "probe.svg")
        write_probes(scratch, results, ProbeIndex(settings, summary))

    write_folder(output, write, checked=True, of=of)
