"""Observes what flows through a model, and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from harness.errors import ConfigError
from harness.probes.massive import Massive
from harness.probes.measuring import measure_parts
from harness.probes.moments import Moments, Thresholds
from harness.probes.positions import PARTS, Part, Positions
from harness.probes.sites import RESIDUAL, Site

Phase = Literal["prefill", "decode"]
"""A forward pass over many positions at once, or one that continues texts by a token each."""


class Seen(NamedTuple):
    """Of what something was seen: a part of the positions, in one phase, at one site."""

    site: Site
    phase: Phase
    part: Part


class Observation(dict[Seen, Moments]):
    """Moments of what was seen, added up over the forward passes of one block of code.

    Attributes:
        positions: The tokens of the forward pass that goes on; None while none should be observed.
        phase: The phase that it is in.
        sites: Names of the sites that were watched.
        unplaced: Sites and phases whose output had no place in the text, and was left out.
    """

    def __init__(self, positions: Positions | None = None) -> None:
        super().__init__()
        self.positions = positions
        self.phase: Phase = "prefill"
        self.sites: frozenset[str] = frozenset()
        self.unplaced: set[tuple[str, Phase]] = set()
        self._widths: dict[str, int] = {}

    def place(self, site: Site, output: Tensor) -> Tensor | None:
        """A site's output by row and token, [B, T, D]; None where it has no place in the text.

        It has none where there are more values to a token than in the forward pass before: keys
        that are made anew of a cached latent are those of all tokens before, and not of one.
        """
        placed = self.positions.placed(output) if self.positions is not None else None
        if placed is None or self._widths.setdefault(site.name, placed.shape[2]) != placed.shape[2]:
            self.unplaced.add((site.name, self.phase))
            return None
        return placed

    def add(self, seen: Seen, moments: Moments) -> None:
        """Adds moments to those that there are."""
        if moments.count:
            self[seen] = self[seen] + moments if seen in self else moments


class Observer:
    """Measures the outputs of sites by forward hooks, which are there only within a block.

    Args:
        model: The model.
        sites: What to observe.
        thresholds: What counts as an outlier.
        massive: What counts as a massive activation, in the residual stream.

    Raises:
        ConfigError: If the model is compiled: hooks that come later would never be called.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        thresholds: Thresholds | None = None,
        massive: Massive | None = None,
    ) -> None:
        self.model = model
        self.sites = list(sites)
        self._names = frozenset(site.name for site in self.sites)
        self.thresholds = thresholds or Thresholds()
        self.massive = massive or Massive()

    @contextmanager
    def watching(self, attention_mask: Tensor) -> Iterator[Observation]:
        """Observes forward passes over a batch.

        Args:
            attention_mask: 1 for tokens, 0 for padding on either side [B, T].
        """
        with self._hooked(Observation(Positions.of_mask(attention_mask))) as observation:
            yield observation

    @contextmanager
    def generating(self, attention_mask: Tensor, end_ids: Collection[int]) -> Iterator[Observation]:
        """Observes a call of the model's `generate`: the prompts, then every token but the last.

        A text that has ended is padded by `generate` while others go on: that is left out.

        Args:
            attention_mask: 1 for tokens of the prompts, 0 for padding [B, T].
            end_ids: Ids of tokens that end a text.
        """
        follow = _Generation(attention_mask, end_ids)
        with self._hooked(follow.observation) as observation:
            handle = self.model.register_forward_pre_hook(follow.step, with_kwargs=True)
            try:
                yield observation
            finally:
                handle.remove()

    @contextmanager
    def _hooked(self, observation: Observation) -> Iterator[Observation]:
        check_not_compiled(self.model)
        handles = []
        observation.sites = self._names
        try:
            for site in self.sites:
                module = self.model.get_submodule(site.name)
                handles.append(
                    module.register_forward_hook(partial(self._finished, site, observation))
                )
            yield observation
        finally:
            for handle in handles:
                handle.remove()

    def _finished(
        self, site: Site, seen: Observation, module: nn.Module, inputs: Any, output: Any
    ) -> None:
        """Forward hook of a site; returns nothing, so that the output stays what it is."""
        tensor = _tensor(output)
        if seen.positions is None or tensor is None:
            return
        with torch.no_grad():
            placed = seen.place(site, tensor.detach())
            if placed is None:
                return
            found = measure_parts(placed.flatten(0, 1), seen.positions.parts, self.thresholds)
            parts = dict(zip(PARTS, found, strict=True))
            # The median is over a text, of which decoding has one token at a time.
            if site.kind == RESIDUAL and seen.positions.begins:
                parts = self._with_massive(parts, seen.positions, placed)
        for part, moments in parts.items():
            seen.add(Seen(site, seen.phase, part), moments)

    def _with_massive(
        self, parts: dict[Part, Moments], positions: Positions, placed: Tensor
    ) -> dict[Part, Moments]:
        # A text with NaN has none, but others of the batch may.
        if all(moments.max_abs <= self.massive.absolute for moments in parts.values()):
            return parts
        counts: dict[Part, int] = {"first": 0, "rest": 0}
        for text in positions.texts(placed):
            bound = self.massive.bound(text)
            if math.isfinite(bound):
                massive = text.abs() >= bound
                first = int(massive[0].sum())
                counts["first"] += first
                counts["rest"] += int(massive.sum()) - first
        return {part: replace(m, massive=counts[part]) for part, m in parts.items()}


class _Generation:
    """Follows `generate` from one forward pass to the next."""

    def __init__(self, attention_mask: Tensor, end_ids: Collection[int]) -> None:
        # As it was given: `generate` drops a mask of ones, and some caches make another of it.
        self._prompts = Positions.of_mask(attention_mask.cpu())
        self._end_ids = torch.tensor(sorted(end_ids), dtype=torch.int64)
        self._alive = torch.ones(len(attention_mask), dtype=torch.bool)
        self.observation = Observation()

    def step(self, module: nn.Module, inputs: object, named: Mapping[str, Any]) -> None:
        """Forward pre-hook of the model."""
        if self.observation.positions is None:
            self.observation.positions = self._prompts
            return
        ids: Tensor = named["input_ids"].cpu()
        self._alive &= ~torch.isin(ids[:, -1], self._end_ids)
        self.observation.phase = "decode"
        self.observation.positions = Positions.of_last(self._alive, ids.shape[1])


def check_not_compiled(model: nn.Module) -> None:
    """Refuses a model that was compiled, whose new hooks would never be called.

    Raises:
        ConfigError: Naming the module.
    """
    for name, module in model.named_modules():
        compiled = getattr(module, "_compiled_call_impl", None) is not None
        if compiled or hasattr(module, "_orig_mod"):
            reason = (
                f"{name or type(model).__name__} is compiled, and hooks do not work on what "
                "torch.compile has made; observe the model uncompiled, or set "
                "activations.enabled to false"
            )
            raise ConfigError("activations.enabled", True, reason)


def _tensor(output: Any) -> Tensor | None:
    """The hidden states in a module's output, which may have caches or weights beside them."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    elif isinstance(output, tuple):
        output = output[0] if output else None
    usable = isinstance(output, Tensor) and output.is_floating_point()
    return output if usable else None
