"""Fold batch norms into convolutions and join each convolution with the addition and activation behind it.

The order of a module's children says nothing certain of the order of its calls: `torch.fx` traces the calls themselves, so this
works for any encoder of timm that it can trace.
"""

import operator
from collections import Counter
from collections.abc import Callable

import torch
from timm.layers import BatchNormAct2d
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exfuse.fusing.convolution import FusedConvolution

Make = Callable[[nn.Conv2d, nn.Module | None], FusedConvolution]
_RELU = (F.relu, torch.relu, torch.relu_, F.relu_)
_KNOWN = ("exfuse", "timm", "torch", "torchvision")
_ADDITIONS = (operator.add, operator.iadd, torch.add)


def is_foreign(module: nn.Module) -> bool:
    """Whether a module is of code that nobody here knows: what it does may depend on more than a trace or its layers show."""
    return type(module).__module__.partition(".")[0] not in _KNOWN


class _Tracer(fx.Tracer):
    """Sees convolutions and norms of any class, timm's too, as one call each, and so foreign modules."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or is_foreign(m)
        return whole or super().is_leaf_module(m, module_qualified_name)


def fuse_graph(module: nn.Module, make: Make) -> fx.GraphModule:
    """An equivalent of ``module`` in evaluation mode, with batch norms folded and convolutions joined with what follows.

    Args:
        module: takes tensors and returns tensors or a list of them; is not changed, but its parameters may be shared.
        make: makes the joined convolution from a convolution and an activation (None for none).

    Raises:
        TraceError: if the module's calls depend on values that only an input has, or hooks take part in them.
    """
    if hooked := next((name for name, part in module.named_modules() if part._forward_hooks or part._forward_pre_hooks), None):
        raise TraceError(f"{type(module).__name__} cannot be traced: {hooked} has hooks, which no trace sees")
    tracer = _Tracer()
    try:
        graph = tracer.trace(module.eval())
    except Exception as error:  # a value that only an input has fails in whatever the module does with it
        raise TraceError(f"{type(module).__name__} cannot be traced: {error}") from error
    traced = fx.GraphModule(tracer.root, graph)
    _drop_identities(traced)
    _fold_batch_norms(traced)
    _drop_identities(traced)  # timm's norms may hold one in place of an activation
    _join(traced, make)
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _drop_identities(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if isinstance(_module(traced, node), (nn.Identity, nn.Dropout)):  # in evaluation
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


def _fold_batch_norms(traced: fx.GraphModule) -> None:
    once = _called_once(traced)
    for node in list(traced.graph.nodes):
        norm = _module(traced, node)
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or node.target not in once:
            continue
        source = node.args[0]
        convolution = _module(traced, source)
        if not isinstance(convolution, nn.Conv2d) or source.target not in once or len(source.users) > 1:
            continue
        _replace(traced, source.target, fuse_conv_bn_eval(convolution, norm))
        if isinstance(norm, BatchNormAct2d):  # timm's norm with its activation inside
            _replace(traced, node.target, norm.act)
        else:
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)


def _join(traced: fx.GraphModule, make: Make) -> None:
    once = _called_once(traced)
    position = {node: place for place, node in enumerate(traced.graph.nodes)}
    for node in list(traced.graph.nodes):
        convolution = _module(traced, node)
        if not isinstance(convolution, nn.Conv2d) or node.target not in once:
            continue
        behind: list[fx.Node] = []
        user, arguments = _only_user(node), node.args
        if user is not None and _is_addition_to(user, node):
            addend = user.args[1] if user.args[0] is node else user.args[0]
            # the addend must be known by then; of two convolutions in one sum the later one takes the earlier one's result
            if isinstance(addend, fx.Node) and position[addend] < position[node]:
                behind.append(user)
                arguments = (*node.args, addend)
                user = _only_user(user)
        activation = _activation(traced, user) if user is not None else None
        if user is not None and activation is not None:
            behind.append(user)
        _replace(traced, node.target, make(convolution, activation))
        if behind:
            behind[-1].replace_all_uses_with(node)
            for absorbed in reversed(behind):
                traced.graph.erase_node(absorbed)
        node.args = arguments


def _is_addition_to(node: fx.Node, summand: fx.Node) -> bool:
    """Whether a node adds to ``summand``, and does so in a way that changes nothing else."""
    if node.op != "call_function" or node.target not in _ADDITIONS or len(node.args) != 2 or node.kwargs:
        return False
    return node.args[0] is not node.args[1] and (node.target is not operator.iadd or node.args[0] is summand)


def _activation(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    module = _module(traced, node)
    if isinstance(module, (nn.ReLU, nn.ReLU6)):
        return type(module)()
    return nn.ReLU() if node.op == "call_function" and node.target in _RELU else None


def _module(traced: fx.GraphModule, node: object) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _called_once(traced: fx.GraphModule) -> set[str]:
    """Modules that are called in one place and of which nobody reads a weight past the call."""
    calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    return {target for target, number in calls.items() if number == 1} - read


def _replace(traced: fx.GraphModule, target: object, module: nn.Module) -> None:
    parent, _, name = str(target).rpartition(".")
    setattr(traced.get_submodule(parent), name, module)
