"""What the code computes, as one number in every key: a change that alters what a run computes raises it, with a line below."""

NUMBERS_VERSION = 2

HISTORY = {
    1: "keys hold options by name, data by content and this number",
    2: "steps of whole batches, weighed by labelled pixel over all their parts; "
    "gradients of half-precision maps enlarged in float32; "
    "SEB, DAP's narrow form and their controls start as the network without them, SEB's kernels are scaled by their fan-in; "
    "whatever is pretrained learns at the encoder's rate; the loss is summed over maps where rows of classes are short",
}
