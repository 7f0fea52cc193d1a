"""Puts as many models as possible through the weights at once, and the others after them.

A step of decoding takes the time to read the weights, whether for few rows or for some more: all
variants of a model as rows of one batch take little longer than the original alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.base import shards
from harness.base.console import note
from harness.base.memory import give_back, ran_out
from harness.models.repository import said
from harness.outliers.parameters import storage_key, unique_parameters
from harness.writing.executors import Alone, Given, Group
from harness.writing.generate import generating
from harness.writing.reads import NotByRowError
from harness.writing.rows import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.outliers.intervention import Intervention
    from harness.outliers.tensor_patch import TensorPatch

_Interventions = Mapping[str, "Intervention | None"]
_Names = tuple[str, ...]

# Models that go together keep so large a share of the weights as entries of their own at most, each
# with a value and a place: an eighth of the memory of weights in float32, a quarter in bfloat16. In
# time more would pay: four models of the demo with four tenths took 3.5 times the original alone on
# one core (with a twentieth 3.1, without any 2.2), one after the other 4.1 times.
_MOST = 1 / 16
# The second is the first that is made from a cache.
_TRIED_TOKENS = 2


class Together:
    """Lets models go through the weights as rows of one batch, where that gives what they give.

    Which ones can is found out once, by a trial: interventions that set entries of parameters which
    modules of the model are called with, not too many of them, in a model that is whole in this
    process and whose cache holds keys and values of each row. The others go one after the other,
    and so do all from then on for which memory runs out.

    Args:
        arguments: Arguments of the model's `generate`.
        pad_id: What fills texts up.

    Attributes:
        reasons: Why models go by themselves, by name.
    """

    def __init__(self, arguments: Mapping[str, Any], pad_id: int) -> None:
        self.reasons: dict[str, str] = {}
        self._arguments = arguments
        self._pad_id = pad_id
        self._known: list[tuple[dict[str, Intervention | None], list[_Names]]] = []

    def run(
        self,
        model: PreTrainedModel,
        interventions: _Interventions,
        work: Callable[[Group], Given],
    ) -> Iterator[tuple[Group, Given]]:
        """Does the work for groups of models."""
        groups = self.groups(model, interventions)
        for names in list(groups):
            done = self._try(model, interventions, names, work) if len(names) > 1 else None
            if done is not None:
                yield done
                continue
            if len(names) > 1:
                # Out here nothing holds on to what the attempt had in memory.
                give_back()
            apart: list[_Names] = [(name,) for name in names]
            place = groups.index(names)
            groups[place : place + 1] = apart
            for name in names:
                alone = Alone(name, interventions[name])
                yield alone, work(alone)

    def groups(self, model: PreTrainedModel, interventions: _Interventions) -> list[_Names]:
        """Names of the models that go together.

        Args:
            model: The original.
            interventions: What is done to it, by name.
        """
        for known, groups in self._known:
            if list(known) == list(interventions) and all(
                known[name] is each for name, each in interventions.items()
            ):
                return groups
        groups = list(self._found(model, interventions))
        self._known.append((dict(interventions), groups))
        return groups

    def _try(
        self,
        model: PreTrainedModel,
        interventions: _Interventions,
        names: _Names,
        work: Callable[[Group], Given],
    ) -> tuple[Group, Given] | None:
        """What the work gives for models together; None where they are better run one by one."""
        try:
            # Made anew each time: what the original holds may have changed since.
            rows = Rows(model, {name: _entries_set(interventions[name]) or () for name in names})
            return rows, work(rows)
        except (NotByRowError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, NotByRowError) or ran_out(error)):
                raise
            self.reasons |= dict.fromkeys(names, said(error))
            if ran_out(error):
                note("memory ran out, so models write one after the other from here on")
        return None

    def _found(self, model: PreTrainedModel, interventions: _Interventions) -> Iterator[_Names]:
        waiting: dict[str, Sequence[TensorPatch]] = {}
        is_divided = shards.is_divided(model)
        for name, intervention in interventions.items():
            sets = _entries_set(intervention)
            if sets is None or is_divided:
                self.reasons[name] = "the model is divided" if is_divided else "it sets no entries"
                yield (name,)
            else:
                waiting[name] = sets
        most = _MOST * sum(parameter.numel() for parameter in unique_parameters(model).values())
        while waiting:
            names = _first(waiting, most)
            changes = {name: waiting[name] for name in names}
            objection = self._objection(model, changes) if len(names) > 1 else None
            if objection is None:
                yield tuple(names)
            else:
                names = _hindered(model, changes, objection)
                self.reasons |= dict.fromkeys(names, str(objection))
                yield from ((name,) for name in names)
            for name in names:
                del waiting[name]

    def _objection(
        self, model: PreTrainedModel, changes: Mapping[str, Sequence[TensorPatch]]
    ) -> NotByRowError | None:
        """Continues two prompts of different length; says what is in the way of going together."""
        few = {**self._arguments, "max_new_tokens": _TRIED_TOKENS, "min_new_tokens": _TRIED_TOKENS}
        try:
            rows = Rows(model, changes)
            mask = torch.tensor([[0, 0, 1], [1, 1, 1]], device=model.device).repeat(len(changes), 1)
            ids = torch.arange(mask.numel(), device=model.device).view_as(mask)
            ids %= model.config.get_text_config().vocab_size
            with generating(model, 0), rows.applied(model, len(mask)), rows.checked(model):
                output: Any = model.generate(
                    input_ids=ids.where(mask.bool(), self._pad_id),
                    attention_mask=mask,
                    # Any tokens will do, also of a model whose logits are no numbers.
                    logits_processor=[lambda _, scores: torch.rand_like(scores)],
                    pad_token_id=self._pad_id,
                    return_dict_in_generate=True,
                    **few,
                )
        except NotByRowError as error:
            return error
        except Exception as error:  # whatever foreign code makes of it, one by one it may work
            return NotByRowError(said(error), [])
        cache = getattr(output, "past_key_values", None)
        if self._arguments.get("use_cache", True) and not _is_by_row(cache, len(mask)):
            return NotByRowError("its cache is not known to be one of keys and values by row", [])
        return None


def _entries_set(intervention: Intervention | None) -> Sequence[TensorPatch] | None:
    """The entries that a model sets, of which the original has none; None where it does more."""
    return () if intervention is None else intervention.entries_set


def _first(waiting: Mapping[str, Sequence[TensorPatch]], most: float) -> list[str]:
    """The first of some models, and those after it that may go with it."""
    names: list[str] = []
    entries = 0
    for name, tensors in waiting.items():
        more = entries + sum(tensor.entries for tensor in tensors)
        if not names or (len(names) + 1) * more <= most:
            names.append(name)
            entries = more
    return names


def _hindered(
    model: nn.Module, changes: Mapping[str, Sequence[TensorPatch]], objection: NotByRowError
) -> list[str]:
    """The models that edit the parameters which an objection names; all where it names none."""
    keys = {storage_key(model.get_parameter(name)) for name in objection.parameters}
    hindered = [
        name
        for name, tensors in changes.items()
        if any(storage_key(tensor.parameter_of(model)) in keys for tensor in tensors)
    ]
    return hindered or list(changes)


def _is_by_row(cache: Any, rows: int) -> bool:
    """Whether a cache holds keys and values of each row as they are, and nothing else."""
    from transformers.cache_utils import (
        DynamicLayer,
        DynamicSlidingWindowLayer,
        StaticLayer,
        StaticSlidingWindowLayer,
    )

    known = DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(
        type(layer) in known and layer.keys is not None and len(layer.keys) == rows
        for layer in layers
    )
