"""When a run's score may stand beside the paper's: the same data, classes, backbone and kind of pretraining."""

from exfuse.errors import plural
from exfuse.palette import VOC_CLASSES
from exfuse.store.record import Record
from exfuse.store.study_file import Paper

_IMAGENET = ("imagenet", "imagenet_finetune")  # of the config group `pretraining`
TRUST = {"P": "read from the paper's own table", "N": "from a second-hand note", "R": "recalled, no source at hand"}


def departures(record: Record, paper: Paper) -> list[str]:
    """In what a finished run's protocol is not the paper's; empty where the two scores may be compared.

    Args:
        record: of a finished run.
        paper: what the paper's table was made with.
    """
    found = []
    ours, theirs = record.images, paper.images
    if any(ours[split] != theirs[split] for split in ("train", "val")):
        found.append(f"{ours['train']}/{ours['val']} train/val images instead of {theirs['train']}/{theirs['val']}")
    classes = record.scores.iou
    if list(classes) != VOC_CLASSES:
        found.append(f"{plural(len(classes), 'class')} that are not VOC's {len(VOC_CLASSES)}")
    if record.encoder != paper.backbone:
        found.append(f"backbone {record.encoder} instead of {paper.backbone}")
    if (pretraining := _pretraining(record)) != paper.pretraining:
        found.append(f"weights: {pretraining} instead of {paper.pretraining}")
    debug = record.config.get("debug") or {}
    if debug.get("images") or debug.get("val_is_train"):
        found.append("a debugging run")
    return found


def _pretraining(record: Record) -> str:
    """``ImageNet``, or what the encoder started from instead."""
    if record.init_from:
        return f"a whole model trained on {record.init_from.data}"
    weights = record.weights_name
    if weights in ("timm", "package"):
        return "ImageNet"
    if weights == "pretrained":
        option = str(record.choices.get("pretraining"))
        return "ImageNet" if option in _IMAGENET else option
    return weights
