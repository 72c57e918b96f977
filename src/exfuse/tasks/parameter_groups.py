"""Which parameters learn at which rate and decay."""

from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, lr: float, encoder_lr_factor: float, weight_decay: float, backbone: str
) -> list[dict[str, Any]]:
    """Groups for an optimiser: backbone or not, times decayed or not.

    Args:
        model: with a backbone somewhere inside.
        lr: rate of everything that starts from random weights.
        encoder_lr_factor: the backbone's rate as a share of ``lr``.
        weight_decay: of weights; norms and biases, the tensors of one dimension, have none.
        backbone: the name of that submodule.
    """
    inside = {id(parameter) for parameter in model.get_submodule(backbone).parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault((id(parameter) in inside, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "name": f"{'encoder' if in_backbone else 'decoder'}{'' if decayed else '_no_decay'}",
            "params": parameters,
            "lr": lr * (encoder_lr_factor if in_backbone else 1.0),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]
