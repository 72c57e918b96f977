"""Layer rearrangement (LR), ExFuse section 3.1: move residual blocks from res-4 to the early stages.

ResNeXt101 has {3, 4, 23, 3} blocks in res-2..res-5; LR uses {8, 8, 9, 8}. At unchanged widths every block of this
family costs the same multiply-adds, whatever its stage, so the FLOPs stay what they were.
"""

# Who gets the blocks that do not divide by four: res-4 first, which makes the paper's {8, 8, 9, 8} out of 33 blocks;
# the order of the others is chosen, not from the paper.
_REMAINDER_ORDER = (2, 1, 3)


Depths = tuple[int, ...] | None


def standard(depths: Depths) -> Depths:
    """Leave the blocks of res-2..res-5 where the architecture has them."""
    return depths


def rearranged(depths: Depths) -> Depths:
    """Spread the same total number of blocks evenly over res-2..res-5.

    Args:
        depths: residual blocks in res-2, res-3, res-4 and res-5.

    Returns:
        Four depths with the same sum; (3, 4, 23, 3) becomes the paper's (8, 8, 9, 8).

    Raises:
        ValueError: if ``depths`` is None: the encoder has no residual stages whose blocks could be moved.

    Example:
        >>> rearranged((3, 4, 23, 3))  # of a timm ResNet: ResNet(Bottleneck, layers=rearranged(...))
        (8, 8, 9, 8)
    """
    if depths is None:
        raise ValueError(
            "technique/lr=rearranged needs residual stages of equal blocks (ResNet, ResNeXt), which this encoder lacks. "
            "Choose such a backbone, e.g. backbone=resnet50, or technique/lr=standard."
        )
    share, remainder = divmod(sum(depths), 4)
    spread = [share] * 4
    for stage in _REMAINDER_ORDER[:remainder]:
        spread[stage] += 1
    return tuple(spread)
