"""What tables call the techniques and their options, and which option is the baseline's and which the paper's."""

from collections.abc import Mapping

from exfuse.store.variants import TECHNIQUES, variant_label

BASELINE = dict(zip(TECHNIQUES, ("none", "standard", "deconv", "none", "none"), strict=True))
PAPER_OPTIONS = {"ss": "heads_removed", "lr": "rearranged", "ecre": "subpixel_supervised", "seb": "product", "dap": "wide"}
FULL_NAMES = {
    "ss": "semantic supervision",
    "lr": "layer rearrangement",
    "ecre": "explicit channel resolution embedding",
    "seb": "semantic embedding branch",
    "dap": "densely adjacent prediction",
}


def short_name(name: str, options: Mapping[str, str], decoder: str) -> str:
    """A row's name with the paper's options left out, where the name is the variant's label or begins with it.

    ``ss-heads_removed+dap-last`` becomes ``ss+dap-last``; a name that somebody chose stays as it is.
    """
    label = variant_label({f"technique/{technique}": option for technique, option in options.items()} | {"decoder": decoder})
    if name != label and not name.startswith(f"{label} "):
        return name
    papers = {f"{technique}-{option}": technique for technique, option in PAPER_OPTIONS.items()}
    return "+".join(papers.get(part, part) for part in label.split("+")) + name[len(label) :]
