"""Predictions of finished runs on a study's example images."""

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from exfuse.composition.reading import read_split
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.bands import as_rgb
from exfuse.data.segmentation import SegmentationDataset
from exfuse.data.split import Split
from exfuse.data.subsets import spread_evenly
from exfuse.devices import choose_device
from exfuse.errors import DataError, UserError
from exfuse.reports.page.gathering import Wish, image_name
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import NOTHING, HeldOut, Option
from exfuse.store.examples import ExampleImage, Examples, bounded, write_ids, write_image
from exfuse.store.record import Record
from exfuse.tasks.prediction import predict_split
from exfuse.terminal import track


def add_predictions(
    records: Mapping[str, Record], manifest: str, runs: Path, folder: Path, there: Examples | None, wish: Wish
) -> dict[str, str]:
    """Write images and truths, if they are not ``there``, and the predictions of every run, run by run.

    Args:
        records: of the runs, by key.
        manifest: of the val split on which they were scored.
        runs: folder of the runs with their checkpoints.
        folder: of the examples.
        there: examples gathered earlier.
        wish: which images.

    Returns:
        Why a run was left out, by its key.
    """
    reasons: dict[str, str] = {}
    splits: dict[tuple[Option, HeldOut], Split] = {}
    examples = there
    for key, record in track(records.items(), description="Predicting examples", transient=True, total=len(records)):
        try:
            model, trained, classes = load_checkpoint(runs / key)
            split = _split((wish.data, NOTHING) if wish.data else (trained.data, trained.held_out), splits, manifest)
            if list(split.classes) != record.classes or list(split.classes) != classes:
                raise DataError(f"{split.name} has other classes than the run")
            dataset = SegmentationDataset(split, build_eval_transform(trained))
            examples = (examples or _write_images(split, manifest, folder, wish)).without_run(key)
            positions = [int(image.name) for image in examples.images]
            predicted = predict_split(model, dataset, positions, choose_device(wish.device))
            for image, found in zip(examples.images, predicted, strict=True):
                path, size = examples.prediction(image, key), (image.width, image.height)
                write_ids(path, found.prediction, size, examples.classes)
        # a checkpoint of an older version may lack what today's code reads: its run is left out, by name
        except (UserError, KeyError, AttributeError, TypeError, RuntimeError, ValueError) as error:
            reasons[key] = f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error)
        else:
            examples = examples.with_run(key, record)
    return reasons


def _split(data: tuple[Option, HeldOut], known: dict[tuple[Option, HeldOut], Split], manifest: str) -> Split:
    """The val split of a run's data, read once; refused if it is not the one that was scored."""
    if data not in known:
        known[data] = read_split(data[0], "val", data[1])
    split = known[data]
    if split.manifest() != manifest:
        raise DataError(
            f"{split.name} on this machine is not the data that the run was scored on. Choose them: data=NAME data.root=DIR."
        )
    return split


def _write_images(split: Split, manifest: str, folder: Path, wish: Wish) -> Examples:
    chosen = []
    examples = Examples(
        folder=folder,
        data=split.name.removesuffix(" val"),
        manifest=manifest,
        classes=tuple(split.classes),
        long_side=wish.long_side,
        images=(),
    )
    for position in spread_evenly(len(split), wish.images):
        item = split.items[position]
        image = as_rgb(split.image(position))
        size = bounded(image.shape[1], image.shape[0], wish.long_side)
        chosen.append(example := ExampleImage(item.id, image_name(position), *size))
        write_image(examples.image(example), image, size)
        write_ids(examples.truth(example), split.mask(position), size, split.classes)
    found = replace(examples, images=tuple(chosen))
    found.write()
    return found
