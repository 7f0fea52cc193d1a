"""How a model is divided among processes, and what of it is refused before anything is loaded."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.errors import ConfigError
from harness.models.configuration import text_config

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from harness.models.pretrained import Pretrained

_KEY = "trainer.strategy"
_TENSOR_KEY = f"{_KEY}.tensor_parallel_size"

# They keep parameters in ways of their own, in which single entries cannot be found again.
_OTHERS = ("FSDPStrategy", "DeepSpeedStrategy")


def check_strategy(strategy: object, device_map: object = None) -> None:
    """Refuses strategies that divide a model in another way than `Sharding` knows.

    Args:
        strategy: That of a trainer.
        device_map: Placement of the weights within one process, if any.

    Raises:
        ConfigError: Naming the strategy, or the placement where there are several processes.
    """
    name = type(strategy).__name__
    if name in _OTHERS:
        reason = (
            "divides a model in a way in which its weights cannot be edited; choose "
            "lightning.pytorch.strategies.ModelParallelStrategy"
        )
        raise ConfigError(_KEY, name, reason)
    if device_map is not None and getattr(strategy, "world_size", 1) > 1:
        reason = "spreads the model within one process; leave it out, or start one process"
        raise ConfigError("model.device_map", device_map, reason)


@dataclass(frozen=True)
class Sharding:
    """A model that is larger than a device, as Lightning's `ModelParallelStrategy` divides it.

    Weights are read from safetensors, by each process those of its share. On the command line:
    `--trainer.strategy ModelParallelStrategy --trainer.strategy.data_parallel_size 4
    --trainer.strategy.tensor_parallel_size 2 --trainer.devices 8`.

    Args:
        data: Over how many processes FSDP2 spreads every parameter; each has batches of its own.
        tensor: Over how many processes layers are cut, which have the same batches.
        device: Kind of device: `cuda`, `cpu`.
    """

    data: int = 1
    tensor: int = 1
    device: str = "cpu"

    @classmethod
    def of(cls, mesh: DeviceMesh | None) -> Sharding | None:
        """How the mesh of a strategy divides a model; None where it does not.

        Args:
            mesh: With the axes `data_parallel` and `tensor_parallel`; None without such a strategy.
        """
        if mesh is None or mesh.size() == 1:
            return None
        data, tensor = (mesh[axis].size() for axis in ("data_parallel", "tensor_parallel"))
        return cls(data, tensor, mesh.device_type)

    def check(self, source: Pretrained) -> None:
        """Refuses, before any weight is read, what cannot be divided.

        Args:
            source: The model.

        Raises:
            ConfigError: Naming the key, and what would be accepted.
        """
        if source.device_map is not None:
            reason = f"spreads the model within one process; leave it out, or {_KEY}"
            raise ConfigError("model.device_map", source.device_map, reason)
        if source.architecture is not None:
            reason = "a model with random weights is made whole; give model.pretrained"
            raise ConfigError("model.architecture", source.architecture, reason)
        if source.base is not None:
            why = "is an adapter, which is merged into a whole model; merge and save it first"
            raise source.refused(f"{why}, or leave {_KEY} out")
        if source.checkpoint.gguf is not None:
            why = "is a GGUF file, which each process would dequantise as a whole"
            raise source.refused(f"{why}; give safetensors, or leave {_KEY} out")
        found = str(torch.accelerator.current_accelerator() or "cpu").partition(":")[0]
        if found != self.device:
            reason = f"a divided model lies on the {found} of this machine"
            raise ConfigError("trainer.accelerator", self.device, f"{reason}: choose that")
        self._check_plans(source)
        self._check_heads(source)

    def _check_plans(self, source: Pretrained) -> None:
        if find_spec("transformers.distributed.mixin") is None:
            reason = "reading shares of weights needs transformers 5.23 or newer"
            raise ConfigError(_KEY, "ModelParallelStrategy", reason)
        skeleton, kind = source.skeleton, source.config.model_type
        for size, name, key in (
            (self.data, "fsdp_plan", f"{_KEY}.data_parallel_size"),
            (self.tensor, "tp_plan", _TENSOR_KEY),
        ):
            if size > 1 and not getattr(skeleton, name, None):
                reason = f"transformers has no plan to divide a model of type {kind} so; choose 1"
                raise ConfigError(key, size, reason)

    def _check_heads(self, source: Pretrained) -> None:
        config = text_config(source.config)
        for name in ("num_attention_heads", "num_key_value_heads"):
            heads = getattr(config, name, None)
            if isinstance(heads, int) and heads % self.tensor:
                reason = f"must divide the {heads} heads of the model ({name})"
                raise ConfigError(_TENSOR_KEY, self.tensor, reason)

    @contextmanager
    def loading(self) -> Iterator[Mapping[str, Any]]:
        """Gives the arguments of `from_pretrained` by which each process reads its share."""
        from transformers.distributed import DistributedConfig, mixin

        gather = mixin.apply_fully_sharded_data_parallelism
        # From this transformers takes the device, which Lightning may have chosen otherwise.
        rank = os.environ.get("LOCAL_RANK")
        try:
            mixin.apply_fully_sharded_data_parallelism = partial(_gathered_apart, gather)
            if self.device != "cpu":
                os.environ["LOCAL_RANK"] = str(torch.accelerator.current_device_index())
            yield {
                "distributed_config": DistributedConfig(fsdp_size=self.data, tp_size=self.tensor)
            }
        finally:
            mixin.apply_fully_sharded_data_parallelism = gather
            os.environ.pop("LOCAL_RANK", None)
            if rank is not None:
                os.environ["LOCAL_RANK"] = rank


def _gathered_apart(
    gather: Callable[..., nn.Module], model: Any, mesh: Any, plan: Mapping[str, str], experts: Any
) -> nn.Module:
    """Has FSDP2 gather so that body and head of a model can run apart, and tied weights once.

    Of transformers' own plan, the last norm and the head are gathered together, and the two names
    of a tied weight apart, as weights are tied when they were read.

    Args:
        gather: What applies a plan to a model.
        model: The model, without values.
        mesh: The processes.
        plan: By module, whether it is let go after it ran.
        experts: The plan of experts.
    """
    model.tie_weights()
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name.rpartition(".")[0])
    tied = {name for aliases in names.values() if len(aliases) > 1 for name in aliases}
    head = model.get_output_embeddings()
    return gather(
        model,
        mesh,
        {
            name: style if model.get_submodule(name) is head else "free_full_weight"
            for name, style in plan.items()
            # What is left out belongs to the model as a whole.
            if name not in tied
        },
        experts,
    )
