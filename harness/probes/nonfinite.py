"""Where NaN or infinity arises in a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.base.shards import channel_group, class_of, in_any_share, local


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
    passed: list[tuple[str, nn.Module]] = []
    flags: list[tuple[bool, bool]] = []

    def finished(
        name: str,
        module: nn.Module,
        arguments: tuple[object, ...],
        named: dict[str, object],
        output: object,
    ) -> None:
        values = [value for key, value in named.items() if "mask" not in key]
        broken = not _all_finite(output)
        passed.append((name, module))
        flags.append((broken, broken and not _all_finite([*arguments, *values])))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hook = partial(finished, name)
            hooks.enter_context(module.register_forward_hook(hook, with_kwargs=True))
        run()
    broken, was_given = _in_any_share(model, flags).T
    sources = [*np.flatnonzero(broken & ~was_given), *np.flatnonzero(broken)]
    bad = _bad_parameters(model)
    if not sources:
        return None
    name, module = passed[sources[0]]
    own = (key for key, _ in module.named_parameters(recurse=False))
    causes = [key for key in own if f"{name}.{key}".lstrip(".") in bad]
    name = name or class_of(model).__name__
    if not causes:
        return name
    return f"{name} (its {' and '.join(causes)} {'is' if len(causes) == 1 else 'are'} not finite)"


def _in_any_share(model: nn.Module, flags: Sequence[tuple[bool, bool]]) -> NDArray[np.bool_]:
    """Flags of outputs, of which other processes may have other channels [n, 2]."""
    own, group = np.array(flags, np.float64).reshape(-1, 2), channel_group(model)
    return (own if group is None else group.each(own).max(0)) > 0


def _bad_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that are not finite, be it in the share of another process."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    bad = [not local(parameter).isfinite().all() for parameter in parameters.values()]
    return set(compress(parameters, in_any_share(model, bad)))


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
