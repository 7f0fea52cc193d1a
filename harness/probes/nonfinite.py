"""Where NaN or infinity arises in a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn


def first_nonfinite(model: nn.Module, run: Callable[[], object]) -> str | None:
    """Names the module in which a NaN or an infinity arises.

    That is the first module, in the order in which modules finish (inner before outer), whose
    output is not finite although its inputs are. What happens between modules belongs to the one
    around it: attention that overflows is the attention module's, not its output projection's,
    which was handed the result. Where none is found, because what is not finite was handed to the
    model, it is the first whose output is not finite.

    Attention masks are no values: neither arguments that have "mask" in their name nor tensors
    that hold zeros and -inf and nothing else count.

    Args:
        model: The model to watch.
        run: Runs the model, for example `lambda: model(input_ids)`.

    Returns:
        The module's name, the model's class for the model as a whole; in brackets its own
        parameters that are not finite, if there are any: `model.layers.3.mlp.down_proj (its
        weight is not finite)`. None if every output is finite.
    """
    arisen: list[tuple[str, nn.Module]] = []
    passed: list[tuple[str, nn.Module]] = []

    def finished(
        name: str,
        module: nn.Module,
        arguments: tuple[object, ...],
        named: dict[str, object],
        output: object,
    ) -> None:
        if arisen or _all_finite(output):
            return
        passed.append((name, module))
        values = [value for key, value in named.items() if "mask" not in key]
        if _all_finite([*arguments, *values]):
            arisen.append((name, module))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hook = partial(finished, name or type(model).__name__)
            hooks.enter_context(module.register_forward_hook(hook, with_kwargs=True))
        run()
    found = arisen or passed
    return _described(*found[0]) if found else None


def _described(name: str, module: nn.Module) -> str:
    own = module.named_parameters(recurse=False)
    causes = [key for key, parameter in own if not parameter.isfinite().all()]
    if not causes:
        return name
    return f"{name} (its {' and '.join(causes)} {'is' if len(causes) == 1 else 'are'} not finite)"


def _all_finite(value: object) -> bool:
    return all(tensor.isfinite().all() or _is_mask(tensor) for tensor in _tensors(value))


def _is_mask(tensor: Tensor) -> bool:
    zero = tensor == 0
    return bool(zero.any() and (zero | (tensor == -torch.inf)).all())


def _tensors(value: object) -> Iterator[Tensor]:
    """Floating-point tensors in nested tuples, lists and mappings, such as a `ModelOutput`."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
