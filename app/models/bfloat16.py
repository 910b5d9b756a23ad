"""Convolutions of a frozen module in bfloat16, everything else in float32.

Convolutions are most of what a model of pictures costs, and each sees one frame only. Recurrences stay exact: their
state is carried on and on, and one step at a time they are too small to gain anything. PyTorch's autocast takes every
layer and converts its weights anew in each call: on a processor with AMX that costs all that is gained.

Only here and in `torchscript.py` are graphs of TorchScript touched.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from app.models.torchscript import KEPT_METHODS

_FOLLOWING = {"aten::relu", "aten::add", "aten::leaky_relu", "aten::hardtanh", "aten::silu", "aten::max_pool2d"}
"""Operators that are as exact between two convolutions in bfloat16: value by value, or a choice of one; no views."""


def lower(frozen: torch.jit.ScriptModule, device: torch.device) -> int:
    """Changes the module in place; gives back how many convolutions are in bfloat16 from now on.

    Those are the convolutions of pictures with fixed weights. The module must not have run yet. On the processor it
    cannot be saved afterwards, for its weights are then in oneDNN's layout. Raises RuntimeError.
    """
    methods = ["forward", *(name for name in KEPT_METHODS if frozen._c._has_method(name))]
    return sum(_lower(frozen._c._get_method(name).graph, device) for name in methods)


def _lower(graph: Any, device: torch.device) -> int:
    torch._C._jit_pass_constant_propagation(graph)  # of a list, when the frozen module has been saved
    torch._C._jit_pass_remove_mutation(graph)
    aliases = graph.alias_db()
    # Of what something else is written into, the value in bfloat16 would not know.
    fixed = {value.unique() for node in _nodes(graph) for value in node.outputs() if not aliases.has_writers(value)}
    lowered: dict[int, Any] = {}
    """By the number of a float32 value, the same in bfloat16."""
    convolutions = []
    for node in list(_nodes(graph)):
        if node.kind() == "aten::conv2d" and _has_fixed_weights(node):
            _lower_convolution(graph, node, lowered)
            convolutions.append(node)
        elif node.kind() in _FOLLOWING and _are_lowered(node, lowered):
            for place, value in enumerate(list(node.inputs())):
                node.replaceInput(place, lowered.get(value.unique(), value))
        else:
            continue
        result = node.output()
        is_fixed = result.unique() in fixed
        result.setType(torch._C.TensorType.get())  # no longer that of a float32 one
        exact = _insert_cast(graph, node, result, torch.float32)
        exact.node().moveAfter(node)
        result.replaceAllUsesAfterNodeWith(exact.node(), exact)
        if is_fixed:
            lowered[exact.unique()] = result
    torch._C._jit_pass_dce(graph)
    if device.type == "cpu":
        for node in convolutions:
            _pack(graph, node)
        torch._C._jit_pass_dce(graph)
    graph.lint()
    return len(convolutions)


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _are_lowered(node: Any, lowered: dict[int, Any]) -> bool:
    tensors = [value for value in node.inputs() if isinstance(value.type(), torch._C.TensorType)]
    return bool(tensors) and all(value.unique() in lowered for value in tensors)  # numbers are added, too


def _has_fixed_weights(node: Any) -> bool:
    _, weight, bias, *settings = node.inputs()
    is_float = isinstance(weight.toIValue(), Tensor) and weight.toIValue().dtype == torch.float32
    sizes_are_numbers = all(isinstance(value.toIValue(), list | int) for value in settings)  # padding may be a word
    return is_float and bias.node().kind() == "prim::Constant" and sizes_are_numbers


def _lower_convolution(graph: Any, node: Any, lowered: dict[int, Any]) -> None:
    pictures, weight, bias, *_ = node.inputs()
    low = lowered.get(pictures.unique())
    node.replaceInput(0, _insert_cast(graph, node, pictures, torch.bfloat16) if low is None else low)
    with graph.insert_point_guard(node):
        in_bfloat16 = weight.toIValue().bfloat16().contiguous(memory_format=torch.channels_last)
        node.replaceInput(1, graph.insertConstant(in_bfloat16))
        if bias.toIValue() is not None:
            node.replaceInput(2, graph.insertConstant(bias.toIValue().bfloat16()))


def _insert_cast(graph: Any, before: Any, value: Any, dtype: torch.dtype) -> Any:
    """`value.to(dtype)`"""
    with graph.insert_point_guard(before):
        rest = [graph.insertConstant(argument) for argument in (dtype, False, False, None)]
        return _insert(graph, "aten::to", [value, *rest])


def _insert(graph: Any, kind: str, inputs: list[Any]) -> Any:
    """The output, a tensor, of a new node where the graph's insert point is."""
    node = graph.insertNode(graph.create(kind, inputs, 1))
    node.output().setType(torch._C.TensorType.get())
    return node.output()


def _pack(graph: Any, node: Any) -> None:
    """Lays the weights out once, not in each call, and takes the ReLU that follows along."""
    pictures, weight, bias, *settings = node.inputs()
    stride, padding, dilation, groups = (value.toIValue() for value in settings)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight.toIValue(), padding, stride, dilation, groups, None)
    uses = node.output().uses()
    has_relu = len(uses) == 1 and uses[0].user.kind() == "aten::relu"
    with graph.insert_point_guard(node):
        layout = graph.insertNode(graph.create("prim::Constant", [], 1))
        layout.t_("value", packed)  # insertConstant does not take one
        layout.output().setType(torch._C.TensorType.get())
        attribute, algorithm = graph.insertConstant("relu" if has_relu else "none"), graph.insertConstant("")
        scalars = graph.insertNode(graph.create("prim::ListConstruct", [], 1)).output()
        scalars.setType(torch._C.ListType(torch._C.OptionalType(torch._C.NumberType.get())))
        sizes = [settings[1], settings[0], settings[2], settings[3]]
        inputs = [pictures, layout.output(), bias, *sizes, attribute, scalars, algorithm]
        result = _insert(graph, "mkldnn::_convolution_pointwise", inputs)
    (uses[0].user if has_relu else node).output().replaceAllUsesWith(result)
