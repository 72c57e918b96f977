"""The archive that VOC's evaluation server takes: results/VOC2012/Segmentation/COMPETITION_test_cls/ID.png in a .tar.gz."""

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

COMPETITIONS = {
    "comp5": "trained on VOC's own data alone",
    "comp6": "trained on any data but the test's: ImageNet, SBD and COCO are such",
}


def results_folder(competition: str, split: str) -> PurePosixPath:
    """Where the server looks for the masks of a competition: comp5 or comp6."""
    return PurePosixPath("results", "VOC2012", "Segmentation", f"{competition}_{split}_cls")


def write_archive(path: Path, folder: PurePosixPath, masks: Iterable[tuple[str, bytes]]) -> None:
    """Write encoded masks as a .tar.gz whose bytes depend on nothing but them: no time, user or file name goes in.

    Args:
        path: of the archive.
        folder: in it, see `results_folder`.
        masks: id and PNG of each image, in any order.
    """
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for id, content in sorted(masks):
            member = tarfile.TarInfo(str(folder / f"{id}.png"))  # owner 0, time 0, mode 0644
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
