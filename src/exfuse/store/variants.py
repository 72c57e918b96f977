"""A readable name of a variant."""

from collections.abc import Mapping

TECHNIQUES = ("ss", "lr", "ecre", "seb", "dap")  # the order in which a variant is named
_BASELINE = {"none", "standard", "deconv"}
_USUAL_DECODER = "levels_2345"


def variant_label(choices: Mapping[str, str]) -> str:
    """The technique options and the decoder of a variant, the baseline's left out: ``ss-heads_removed+seb-product``."""
    techniques = {name: choices[f"technique/{name}"] for name in TECHNIQUES if f"technique/{name}" in choices}
    named = [f"{name}-{option}" for name, option in techniques.items() if option not in _BASELINE]
    if (decoder := choices.get("decoder", _USUAL_DECODER)) != _USUAL_DECODER:
        named.append(decoder)
    return "+".join(named) or "baseline"
