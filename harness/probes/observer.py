"""Observes what flows through a model, and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.base import sent
from harness.base.shards import channel_group, puts_out_share
from harness.errors import ConfigError
from harness.probes.choosing import looks
from harness.probes.deferred import Deferred
from harness.probes.immediate import Immediate
from harness.probes.massive import Massive
from harness.probes.moments import Thresholds
from harness.probes.observation import Observation, Phase
from harness.probes.positions import Positions
from harness.probes.sites import Site


@dataclass(frozen=True)
class Observer:
    """Measures the outputs of sites by forward hooks, which are there only within a block.

    Each row of a batch belongs to a model, its owner; what is seen is kept by owner.

    Args:
        model: The model.
        sites: What to observe.
        thresholds: What counts as an outlier.
        massive: What counts as a massive activation, in the residual stream.

    Raises:
        ConfigError: On observing, if the model is compiled: its new hooks would never be called.
    """

    model: nn.Module
    sites: Sequence[Site]
    thresholds: Thresholds = field(default_factory=Thresholds)
    massive: Massive = field(default_factory=Massive)

    @contextmanager
    def watching(
        self, attention_mask: Tensor, owners: str | Sequence[str]
    ) -> Iterator[Observation]:
        """Observes forward passes over a batch.

        Args:
            attention_mask: 1 for tokens, 0 for padding on either side [B, T].
            owners: Name of the model that each row belongs to; one name stands for all rows.
        """
        follower = _Follower(self, Positions.of_mask(attention_mask, owners))
        follower.positions = follower.prompts
        with self._hooked(follower):
            yield follower.observation

    @contextmanager
    def generating(
        self, attention_mask: Tensor, end_ids: Collection[int], owners: str | Sequence[str]
    ) -> Iterator[Observation]:
        """Observes a call of the model's `generate`: the prompts, then every token but the last.

        A text that has ended is padded by `generate` while others go on: that is left out.

        Args:
            attention_mask: 1 for tokens of the prompts, 0 for padding [B, T].
            end_ids: Ids of tokens that end a text.
            owners: Name of the model that each row belongs to; one name stands for all rows.
        """
        # The mask as it was given: `generate` drops one of ones, and some caches change it.
        follower = _Follower(self, Positions.of_mask(attention_mask, owners))
        begins = partial(follower.begins, torch.tensor(sorted(end_ids), dtype=torch.int64))
        with self._hooked(follower) as hooks:
            hook = self.model.register_forward_pre_hook(begins, with_kwargs=True)
            hooks.enter_context(hook)
            yield follower.observation

    @contextmanager
    def _hooked(self, follower: _Follower) -> Iterator[ExitStack]:
        check_not_compiled(self.model)
        with ExitStack() as hooks:
            for site in self.sites:
                module = self.model.get_submodule(site.name)
                hook = partial(follower.finished, site)
                hooks.enter_context(module.register_forward_hook(hook))
            yield hooks
        follower.end()


class _Follower:
    """Follows a model from one forward pass to the next, and measures what its sites put out."""

    def __init__(self, observer: Observer, prompts: Positions) -> None:
        self.observation = Observation(prompts.owners)
        self.prompts = prompts
        # Those of the pass that goes on; None while none should be observed.
        self.positions: Positions | None = None
        self._what = (observer.thresholds, observer.massive)
        self._at_once = Immediate(self.observation, *self._what)
        self._phase: Phase = "prefill"
        self._alive: Tensor | None = None
        self._meters: dict[torch.device, Immediate | Deferred] = {}
        self._widths: dict[str, int] = {}
        self._group = channel_group(observer.model)
        self._is_share = puts_out_share(observer.model)

    def end(self) -> None:
        """Sends what was measured in all forward passes to the host."""
        for meter in self._meters.values():
            meter.end()
        if self._group is not None:
            self.observation.count_all(self._group, self._is_share)

    def begins(
        self, end_ids: Tensor, module: nn.Module, inputs: object, named: Mapping[str, Any]
    ) -> None:
        """Forward pre-hook of a model that generates."""
        if self.positions is None:
            self.positions = self.prompts
            return
        ids: Tensor = named["input_ids"]
        if self._alive is None:
            self._alive = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
            self._end_ids = end_ids.to(ids.device, non_blocking=True)
        self._alive = self._alive & (ids[:, -1:] != self._end_ids).all(1)
        self._phase = "decode"
        self.positions = self.prompts.last(self._alive, ids.shape[1])

    def finished(self, site: Site, module: nn.Module, inputs: object, output: Any) -> None:
        """Forward hook of a site; returns nothing, so that the output stays what it is."""
        tensor = _hidden_states(output)
        if self.positions is None or tensor is None:
            return
        with torch.no_grad():
            values = self._by_token(site, self.positions, tensor)
            if values is None:
                return
            group = self._group if self._is_share(site.name) else None
            if group is not None:
                # Its processes have to meet here.
                self._at_once.see(site, self._phase, self.positions, values, group)
            else:
                self._meter(values.device).see(site, self._phase, self.positions, values)

    def _meter(self, device: torch.device) -> Immediate | Deferred:
        if device not in self._meters:
            self._meters[device] = self._at_once
            if sent.is_awaited(device):
                choose = partial(looks, *self._what, device)
                self._meters[device] = Deferred(self.observation, device, choose)
        return self._meters[device]

    def _by_token(self, site: Site, positions: Positions, output: Tensor) -> Tensor | None:
        """A site's output by row and token, [B, T, D]; None where it has no place in the text.

        It has none where there are more values to a token than in the forward pass before: keys
        that are made anew of a cached latent are those of all tokens before, and not of one.
        """
        values = positions.by_token(output)
        if values is None or self._widths.setdefault(site.name, values.shape[2]) != values.shape[2]:
            self.observation.unplaced.add((site.name, self._phase))
            return None
        return values


def check_not_compiled(model: nn.Module) -> None:
    """Refuses a model that was compiled, whose new hooks would never be called.

    Raises:
        ConfigError: Naming the module.
    """
    why = "is compiled, and hooks do not work on what torch.compile has made"
    instead = "observe the model uncompiled, or set activations.enabled to false"
    for name, module in model.named_modules():
        compiled = getattr(module, "_compiled_call_impl", None) is not None
        if compiled or hasattr(module, "_orig_mod"):
            name = name or type(model).__name__
            raise ConfigError("activations.enabled", True, f"{name} {why}; {instead}")


def _hidden_states(output: Any) -> Tensor | None:
    """The hidden states in a module's output, which may have caches or weights beside them."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    elif isinstance(output, tuple):
        output = output[0] if output else None
    usable = isinstance(output, Tensor) and output.is_floating_point()
    return output if usable else None
