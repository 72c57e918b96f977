"""The folder that `exfuse report features` writes, read back without torch: what a page needs to show it.

A study's folder may hold one as ``features/``; it stands alone as well. ``features.json`` is its index::

    {"schema": 1,
     "data": "VOC animals (subset)", "split": "val",     # of the statistics; null without them
     "band": 5,                                          # pixels of the truth that count as an edge's band
     "images": 100,                                      # that the statistics are over; 0: none
     "runs": [{"key": "...", "row": "ss_lr_seb", "seed": 0, "seb": "product"}, ...],
     "overviews": [{"image": "2007_000129", "files": ["2007_000129/features.png", "2007_000129/features.svg"]}, ...],
     "pictures": [{"image": "2007_000129", "run": "KEY", "row": "ss_lr_seb", "seed": 0, "level": "res2", "kind": "factor",
                   "file": "2007_000129/KEY_res2.png",
                   "statistics": {"contrast": {"before": 1.2, "after": 1.4}, ...}}, ...],   # of this image; {} without truth
     "summary": [{"run": "KEY", "row": "ss_lr_seb", "seed": 0, "level": "res2", "statistic": "contrast", "images": 98,
                  "before": 1.21, "before_sd": 0.3, "after": 1.4, "after_sd": 0.4,
                  "ratio": 1.1, "ratio_low": 1.0, "ratio_high": 1.3, "rises": 0.8,
                  "pooled_before": null, "pooled_after": null}, ...],
     "files": {"2007_000129/features.png": "...", ...}}   # SHA-256 of each

``row`` is the study's name of the row where the command was given a study, else the variant's label. ``kind`` says what SEB
does to the level: "factor", "addend" or "none". Paths are relative to the index. ``before`` and ``after`` are means over the
images that give the number (``images`` of them), ``_sd`` their standard deviation; ``ratio`` is the median over images of
after / before, ``ratio_low`` and ``ratio_high`` its quartiles; ``rises`` the share of images in which after is larger;
``pooled_`` is computed over all images at once. What does not apply is null: the branch's own statistics have no before. What
the statistics mean is said in `exfuse.reports.features`. ``features.csv`` holds the summary, ``per_image.csv`` every image's.
"""

from pathlib import Path

import msgspec

from exfuse.store.checked import Index, read_index

SCHEMA = 1
FOLDER = "features"  # inside a study's folder
INDEX = "features.json"


class FeatureRun(msgspec.Struct, frozen=True):
    """A run whose maps are shown; ``seb`` is its option of the technique."""

    key: str
    row: str
    seed: int
    seb: str

    @property
    def title(self) -> str:
        """For tables and pictures."""
        return f"{self.row}, seed {self.seed}"


class FeaturePicture(msgspec.Struct, frozen=True):
    """One level of one run in one image: before and after SEB. ``statistics`` is empty for an image without a truth."""

    image: str
    run: str
    row: str
    seed: int
    level: str
    kind: str
    file: str
    statistics: dict[str, dict[str, float | None]]


class FeatureOverview(msgspec.Struct, frozen=True):
    """All runs and levels in one image, as files of the same content in several formats."""

    image: str
    files: tuple[str, ...]


class SummaryRow(msgspec.Struct, frozen=True):
    """One statistic of one level of one run over images."""

    run: str
    row: str
    seed: int
    level: str
    statistic: str
    images: int
    before: float | None
    before_sd: float | None
    after: float | None
    after_sd: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    rises: float | None
    pooled_before: float | None
    pooled_after: float | None


class FeatureIndex(Index, frozen=True, kw_only=True):
    """A whole folder of feature pictures; the module's docstring describes each field."""

    INDEX = INDEX
    schema: int = SCHEMA
    data: str | None
    split: str | None
    band: float
    images: int
    runs: tuple[FeatureRun, ...]
    overviews: tuple[FeatureOverview, ...]
    pictures: tuple[FeaturePicture, ...]
    summary: tuple[SummaryRow, ...]

    def paths(self) -> list[str]:
        return [picture.file for picture in self.pictures] + [file for one in self.overviews for file in one.files]


def find_features(study: Path) -> FeatureIndex | None:
    """The feature pictures in a study's folder; None if it has none.

    Raises:
        UserError: see `read_features`.
    """
    folder = study / FOLDER
    return read_features(folder) if (folder / INDEX).is_file() else None


def read_features(folder: Path) -> FeatureIndex:
    """Read the index in ``folder``.

    Raises:
        UserError: if it is missing, cut short, of another schema, or names a file that is not in the folder or was altered.
    """
    remedy = "Make the pictures anew: exfuse report features --help"
    return read_index(folder, FeatureIndex, "a whole index of feature pictures", remedy, SCHEMA)
