"""A planted outlier: made, not found. It tells whether the harness finds what is known to be there.

One channel of a trained Llama-style model is rescaled by a power of two: the row that writes it by
2^k and the column that reads it by 2^-k, or the other way round. Powers of two cost no bit, so the
function is what it was, and one entry is now above the threshold: of those that can be brought
there alone, the one whose loss hurts most on the given text. The text that it is looked for on is
the one that it is measured on; being made, it claims nothing about the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from harness.demo import documents

THRESHOLD = 5.0
_MEASURED = 6
# What writes a channel and what reads it, where what lies between is linear in the channel.
_PAIRS = (("self_attn.v_proj", "self_attn.o_proj"), ("mlp.up_proj", "mlp.down_proj"))


@dataclass(frozen=True)
class Planted:
    """An entry that is, or could be made, the only one above the threshold.

    Attributes:
        name: Its parameter, whose row or column of the channel grows.
        index: Its row-major position there.
        other: The parameter whose column or row of the channel shrinks.
        channel: Number of the channel.
        power: The channel is scaled by two to this power.
        worth: What its loss costs, nats per token.
    """

    name: str
    index: int
    other: str
    channel: int
    power: int
    worth: float


def demo_windows(tokenizer: PreTrainedTokenizerBase, count: int = 8, length: int = 250) -> Tensor:
    """The beginnings of documents of the embedded corpus, each after a BOS, [count, length]."""
    texts = [text[: 20 * length] for _, text in documents("validation")]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [[tokenizer.bos_token_id, *ids[: length - 1]] for ids in encoded if len(ids) >= length]
    return torch.tensor(rows[:count])


@torch.no_grad()
def mean_nll(model: LlamaForCausalLM, windows: Tensor) -> float:
    """Nats per token, summed in fp64."""
    return float(_nll(model, windows, torch.float64)) / windows[:, 1:].numel()


def plant(model: LlamaForCausalLM, windows: Tensor) -> Planted:
    """Rescales one channel of a model in place.

    Args:
        model: A trained model in fp32 with as many key-value heads as heads.
        windows: Token ids, [B, T].
    """
    candidates = sorted(_candidates(model, windows), key=lambda candidate: -candidate.worth)
    before = mean_nll(model, windows)
    measured = [
        Planted(**vars(candidate) | {"worth": _without(model, windows, candidate) - before})
        for candidate in candidates[:_MEASURED]
    ]
    best = max(measured, key=lambda candidate: candidate.worth)
    for name, factor in ((best.name, 2.0**best.power), (best.other, 2.0**-best.power)):
        _lines(name, model.get_parameter(name).detach())[best.channel] *= factor
    return best


def _candidates(model: LlamaForCausalLM, windows: Tensor) -> Iterator[Planted]:
    """The largest entry of each channel that a power of two brings above the threshold alone."""
    worths = _worths(model, windows)
    for layer in range(len(model.model.layers)):
        for pair in _PAIRS:
            writer, reader = (f"model.layers.{layer}.{name}.weight" for name in pair)
            for name, other in ((writer, reader), (reader, writer)):
                weight = model.get_parameter(name).detach()
                positions = _lines(name, torch.arange(weight.numel()).view_as(weight))
                largest, where = _lines(name, weight.abs()).topk(2)
                for channel, (first, second) in enumerate(largest.tolist()):
                    power = math.floor(math.log2(THRESHOLD / second))
                    if first * 2**power > THRESHOLD:
                        index = int(positions[channel, where[channel, 0]])
                        worth = float(worths[name].flatten()[index])
                        yield Planted(name, index, other, channel, power, worth)


def _lines(name: str, values: Tensor) -> Tensor:
    """A view with one line per channel: rows of what writes channels, columns of what reads."""
    return values if name.removesuffix(".weight").endswith(("v_proj", "up_proj")) else values.T


def _worths(model: LlamaForCausalLM, windows: Tensor) -> dict[str, Tensor]:
    """Estimates what the loss of each entry costs: to second order, by empirical Fisher."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".layers." in name:

            def keep(_: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = name) -> None:
                output.retain_grad()
                seen[f"{name}.weight"] = (inputs[0].detach().flatten(0, 1), output)

            handles.append(module.register_forward_hook(keep))
    try:
        _nll(model, windows, torch.float32).backward()
    finally:
        for handle in handles:
            handle.remove()
    worths, tokens = {}, windows[:, 1:].numel()
    for name, (inputs, output) in seen.items():
        weight, slopes = model.get_parameter(name), output.grad.flatten(0, 1)
        change = -weight.detach()
        curvature = slopes.square().T @ inputs.square()
        worths[name] = (change * weight.grad + change.square() * curvature / 2) / tokens
    model.zero_grad()
    return worths


def _nll(model: LlamaForCausalLM, windows: Tensor, dtype: torch.dtype) -> Tensor:
    logits = model(windows).logits[:, :-1].to(dtype)
    return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum")


def _without(model: LlamaForCausalLM, windows: Tensor, candidate: Planted) -> float:
    entries = model.get_parameter(candidate.name).detach().view(-1)
    value = entries[candidate.index].clone()
    try:
        entries[candidate.index] = 0
        return mean_nll(model, windows)
    finally:
        entries[candidate.index] = value
