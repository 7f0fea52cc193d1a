"""Where entries of a divided tensor lie, against torch's own cutting of a tensor of positions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from harness.base import shards

WORLD = 6
CUTS = [
    ((6,), [Shard(0)]),
    ((6,), [Shard(1)]),
    ((6,), [Replicate()]),
    ((2, 3), [Shard(0), Shard(1)]),
    ((2, 3), [Shard(1), Shard(0)]),
    ((2, 3), [Shard(0), Shard(0)]),
    ((2, 3), [Replicate(), Shard(2)]),
    ((2, 3), [_StridedShard(0, split_factor=3), Shard(0)]),
    ((6,), [_StridedShard(1, split_factor=2)]),
]


@pytest.fixture(params=range(WORLD))
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    """One process of six, whose others are made up: cutting asks them for nothing."""
    dist.init_process_group("fake", rank=request.param, world_size=WORLD, store=FakeStore())
    yield request.param
    dist.destroy_process_group()


def mesh_of(shape: tuple[int, ...]) -> DeviceMesh:
    return init_device_mesh("cpu", shape)


@pytest.mark.parametrize(("mesh", "cuts"), CUTS, ids=str)
def test_shares_hold_the_entries_that_they_should(rank, mesh, cuts):
    # Sizes that nothing divides, and one with fewer entries than processes.
    for shape in [(13, 12, 5), (12, 6, 3), (4, 7, 2)]:
        whole = torch.arange(torch.Size(shape).numel()).view(shape)
        divided = distribute_tensor(whole, mesh_of(mesh), cuts, src_data_rank=None)
        index = torch.arange(0, whole.numel(), 3)
        here, found = shards.share(index, divided)
        own = shards.local(divided).flatten()
        assert torch.equal(here, torch.isin(index, own))
        assert torch.equal(own[found], index[here])


def test_every_entry_lies_somewhere():
    whole, seen = torch.arange(13 * 5).view(13, 5), torch.zeros(65, dtype=torch.int64)
    for rank in range(WORLD):
        dist.init_process_group("fake", rank=rank, world_size=WORLD, store=FakeStore())
        divided = distribute_tensor(whole, mesh_of((2, 3)), [Shard(1), Shard(0)])
        seen += shards.share(torch.arange(65), divided)[0]
        dist.destroy_process_group()
    assert seen.tolist() == [1] * 65


def test_what_is_not_divided_is_what_it_is():
    tensor, index = torch.randn(3, 4), torch.tensor([1, 5])
    here, found = shards.share(index, tensor)
    assert here.all()
    assert found is index
    assert shards.whole(tensor) is tensor
    assert shards.local(tensor) is tensor
    assert shards.layout(tensor) is None
    assert torch.equal(shards.collect(index, here, tensor), index)
    model = nn.Linear(2, 2)
    assert shards.most(model, [3, -1]) == [3, -1]
    assert shards.in_any_share(model, [True, False]) == [True, False]
    assert shards.channel_group(model) is None
    assert shards.class_of(model) is nn.Linear


def test_a_module_keeps_the_name_of_its_class(rank):
    model = nn.Sequential(nn.Linear(12, 12))
    fully_shard(model[0], mesh=mesh_of((6,)))
    fully_shard(model, mesh=mesh_of((6,)))
    assert isinstance(model[0].weight, DTensor)
    assert shards.class_of(model) is nn.Sequential
    assert shards.class_of(model[0]) is nn.Linear
