"""The batch plan: each window once, for any number of processes."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from harness.data.plan import SENTINEL, RankBatches, ShuffledBatches, plan_batches


def test_longest_first_and_ties_by_index():
    assert plan_batches([3, 5, 5, 1, 3], 2) == [[1, 2], [0, 4], [3]]
    assert plan_batches([], 2) == []


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_ranks_share_the_plan_exactly_once(count, world_size):
    draw = random.Random(count)
    plan = plan_batches([draw.randint(1, 9) for _ in range(count)], 2)
    shares = [list(RankBatches(plan, rank, world_size)) for rank in range(world_size)]
    assert {len(share) for share in shares} == {-(-len(plan) // world_size)}
    assert len(RankBatches(plan, 0, world_size)) == len(shares[0])
    for rank, share in enumerate(shares):
        real = [batch for number, batch in share if number != SENTINEL]
        assert real == plan[rank::world_size]
    numbers = [number for share in shares for number, _ in share if number != SENTINEL]
    assert sorted(numbers) == list(range(len(plan)))
    windows = Counter(w for share in shares for _, batch in share for w in batch)
    assert windows == Counter(range(count))


def test_a_short_rank_gets_sentinels():
    assert list(RankBatches([[0], [1], [2]], 1, 2)) == [(1, [1]), (SENTINEL, [])]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shuffled_batches_do_not_overlap(world_size):
    torch.manual_seed(1)
    ranks = [ShuffledBatches(20, 3, rank, world_size) for rank in range(world_size)]
    seen = [window for rank in ranks for _, batch in rank for window in batch]
    assert len(seen) == len(set(seen)) == 3 * world_size * (20 // (3 * world_size))
    assert set(seen) <= set(range(20))
    assert all(len(batch) == 3 for rank in ranks for _, batch in rank)


def test_the_order_follows_seed_and_epoch():
    torch.manual_seed(1)
    batches = ShuffledBatches(50, 5)
    first = list(batches)
    assert list(batches) == first
    batches.set_epoch(1)
    assert list(batches) != first
    torch.manual_seed(2)
    assert list(ShuffledBatches(50, 5)) != first
    torch.manual_seed(1)
    assert list(ShuffledBatches(50, 5)) == first
