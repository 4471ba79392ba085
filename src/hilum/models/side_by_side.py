"""Several members' last layers as one: grouped convolutions in place of as many small ones.

Behind a shared prefix, members do the same with other weights. Run one after another, each layer is so small that
waking the processor's other threads costs as much as its arithmetic. Here the channels of m members lie beside each
other, [n, m · c, h, w], member by member; a convolution of all of them is one of m times the groups, and batch
normalisation, pooling and activations take m times the channels as they are. The numbers are those of the members
alone, up to the order in which a kernel adds.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)
"""Layers that do nothing when answering."""
ELEMENTWISE: tuple[Callable[..., Any], ...] = (operator.add, operator.iadd, operator.mul, torch.add, torch.mul)


def plan_of(suffix: Sequence[nn.Module]) -> fx.Graph | None:
    """The steps of a member's layers; ``None`` where one of them can't be taken side by side.

    Args:
        suffix: layers behind the prefix, in their order.
    """
    root = nn.Sequential(*suffix)
    try:
        graph = fx.symbolic_trace(root).graph
    except Exception:  # tracing raises whatever it likes on a layer that looks at its input; such ones are run apart
        return None
    modules = dict(root.named_modules())
    return graph if all(_can_run(node, modules) for node in graph.nodes) else None


def run_plan(
    plan: fx.Graph, members: Sequence[nn.ModuleList], maps: Float[Tensor, "n c y x"]
) -> Float[Tensor, "m n d h w"]:
    """The maps at the cut through every member's layers.

    Args:
        plan: from `plan_of`.
        members: the layers of each, of one architecture; their weights are looked up now.
        maps: what the shared prefix gave.
    """
    count = len(members)
    done: dict[fx.Node, Tensor] = {}
    apart: dict[fx.Node, list[Tensor]] = {}

    def of_each(node: fx.Node) -> list[Tensor]:
        if node not in apart:
            apart[node] = list(done[node].chunk(count, dim=1))
        return apart[node]

    for node in plan.nodes:
        if node.op == "placeholder":
            apart[node] = [maps] * count
            done[node] = torch.cat(apart[node], dim=1)
        elif node.op == "call_module":
            own = [one.get_submodule(str(node.target)) for one in members]
            done[node] = _layer(own, done[_node(node.args[0])])
        elif node.op == "call_function" and node.target is torch.cat:
            # Member by member, and in one step: a kernel then keeps its own layout of channels throughout.
            given: list[fx.Node] = [_node(one) for one in node.args[0]]
            done[node] = torch.cat([of_each(one)[i] for i in range(count) for one in given], dim=1)
        elif node.op == "call_function":
            done[node] = node.target(*(done[_node(one)] for one in node.args))
        else:
            done[node] = done[_node(node.args[0])]
    return torch.stack(of_each(next(iter(reversed(plan.nodes)))))


def _can_run(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Conv2d):
            return bool(module.padding_mode == "zeros")
        if isinstance(module, nn.BatchNorm2d):
            return bool(module.track_running_stats)
        plain = not isinstance(module, nn.MaxPool2d) or not module.return_indices
        return bool(plain) and isinstance(module, (*ACTIVATIONS, *POOLS, *IDLE))
    if node.op == "call_function" and node.target is torch.cat:
        return bool(1 in node.args[1:] or node.kwargs.get("dim") == 1)
    if node.op == "call_function":
        return node.target in ELEMENTWISE and all(isinstance(one, fx.Node) for one in node.args) and not node.kwargs
    return node.op in ("placeholder", "output")


def _node(argument: Any) -> fx.Node:
    node: fx.Node = argument
    return node


def _layer(own: list[nn.Module], beside: Tensor) -> Tensor:
    """One layer of all members on [n, m · c, h, w]."""
    first = own[0]
    if isinstance(first, IDLE):
        return beside
    if isinstance(first, nn.Conv2d):
        groups, kernels = len(own) * first.groups, torch.cat([cast(Tensor, one.weight) for one in own])
        return functional.conv2d(
            beside, kernels, _joined(own, "bias"), first.stride, first.padding, first.dilation, groups
        )
    if isinstance(first, nn.BatchNorm2d):
        mean, variance = _joined(own, "running_mean"), _joined(own, "running_var")
        weight, bias = _joined(own, "weight"), _joined(own, "bias")
        return functional.batch_norm(beside, mean, variance, weight, bias, training=False, eps=first.eps)
    plain = copy.copy(first)
    if isinstance(first, ACTIVATIONS):
        vars(plain)["inplace"] = False  # the other layers behind this map need it as it is
    done: Tensor = plain(beside)
    return done


def _joined(own: list[nn.Module], name: str) -> Tensor | None:
    values = [getattr(one, name) for one in own]
    return None if values[0] is None else torch.cat(values)
