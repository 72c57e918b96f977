"""Starting from the whole model of another run (``init_from``): which run that is, and whether its weights fit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from exfuse.composition.reading import read_split
from exfuse.data.scenes import drawn_already
from exfuse.data.split import Split, same_images
from exfuse.errors import ConfigError, DataError, UserError, classes_text, first_line, plural
from exfuse.runs.plan import divided, start_folder
from exfuse.store.description import Normalisation, RunDescription, from_plain, to_plain
from exfuse.store.folder import RunFolder
from exfuse.store.key import aside
from exfuse.store.record import InitFrom, Record
from exfuse.store.seal import check_sealed
from exfuse.store.variants import complete


class Start(NamedTuple):
    """A finished run whose model another one starts from.

    Attributes:
        folder: of the run.
        record: that it left.
        checkpoint: SHA-256 of its last checkpoint.
    """

    folder: RunFolder
    record: Record
    checkpoint: str

    def __str__(self) -> str:
        miou = 100 * self.record.scores.miou
        return f"whole model of run {self.folder.key}, {self.record.data}, {miou:.1f} % mIoU"

    def lend_normalisation(self, run: RunDescription) -> RunDescription:
        """The run with images scaled as this one's were, where it names no scaling of its own."""
        if run.backbone.normalisation is not None:
            return run
        scaling = msgspec.convert(self.record.config["backbone"]["normalisation"], Normalisation)
        return replace(run, backbone=replace(run.backbone, normalisation=scaling))

    def describe(self) -> InitFrom:
        """What the record of the run that starts here keeps of it, for provenance."""
        return InitFrom(self.folder.key, self.record.data, self.record.label, self.checkpoint)


def find_start(run: RunDescription, classes: tuple[str, ...]) -> Start | None:
    """The run that ``init_from`` names, once it is known to be whole and to fit; None for a null.

    Args:
        run: that starts from it.
        classes: names of the ids that it will learn.

    Raises:
        ConfigError: if ``init_from`` names no finished run, or its model has another architecture or other classes.
        CheckpointError: if its checkpoint is missing or not the one that its record describes.
    """
    folder = start_folder(run)
    if folder is None:
        return None
    record = folder.finished()
    if record is None or record.scored is None:
        raise ConfigError(f"init_from={run.init_from}: {folder.path} holds no finished run. Finish or choose another.")
    theirs = tuple(record.classes)
    if theirs != classes:
        raise ConfigError(
            f"init_from={run.init_from} knows {classes_text(theirs)}, this run's data name {classes_text(classes)}: a whole "
            "model starts only from the same classes."
        )
    if differing := [*_differences(_architecture(record.config), _architecture(to_plain(run)))]:
        raise ConfigError(
            f"init_from={run.init_from} is of another architecture: {'; '.join(differing[:4])}. Choose the same options, or "
            "another run."
        )
    return Start(folder, record, check_sealed(folder.last))


def check_unseen(start: Start, scored: Iterable[Split]) -> str:
    """Refuse to score on what a model has learnt from: the run's training images, and those of runs that it started from.

    Args:
        start: the run whose model is taken.
        scored: splits that the model will be scored on, if only to stop its training or to choose its settings.

    Returns:
        What to say where that cannot be checked, since data or runs are gone; else nothing.

    Raises:
        DataError: naming one of the images.
    """
    scored = [split for split in scored if not split.seen]
    try:
        shared = seen_images(from_plain(start.record.config, RunDescription), scored)
    except UserError as error:
        names = ", ".join(split.name for split in scored)
        return f"Nobody has checked that {names} took no part in training run {start.folder.key}: {first_line(error)}"
    if shared:
        raise DataError(
            f"init_from: run {start.folder.key} learnt from {plural(len(shared), 'image')} that this run is scored on, e.g. "
            f"{shared[0]}. Start from a run that never saw them, or score others."
        )
    return ""


def seen_images(run: RunDescription, splits: Sequence[Split]) -> list[str]:
    """Which images of some splits a run, or one whose model it starts from, is trained on, by their content.

    Raises:
        UserError: if a run, or its data, are no longer there; scenes are not drawn for this.
    """
    with drawn_already():
        train = divided(run, lambda data, held_out: {"train": read_split(data, "train", held_out)})["train"]
    learnt = [item.image for item in train.items]
    found = [one for split in splits for one in same_images([item.image for item in split.items], learnt)]
    if (folder := start_folder(run)) is not None:
        before = folder.finished()
        if before is None:
            raise UserError(f"{folder.path}, which it started from, is gone.")
        found += seen_images(from_plain(before.config, RunDescription), splits)
    return found


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    options = {slot: option.get("option") for slot, option in config["technique"].items()}
    chosen = {slot: {**config["technique"].get(slot, {}), "option": option} for slot, option in complete(options).items()}
    backbone = {name: config["backbone"][name] for name in ("name", "arguments", "output_stride")}
    decoder = {name: value for name, value in config["decoder"].items() if name not in (aside()["decoder"] or ())}
    return {"technique": chosen, "decoder": decoder, "backbone": backbone}


def _differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in sorted({*theirs, *ours}):
            yield from _differences(theirs.get(name), ours.get(name), f"{path}.{name}" if path else str(name))
    elif theirs != ours:
        yield f"{path.removesuffix('.option')} is {theirs} there and {ours} here"
