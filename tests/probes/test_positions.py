"""Every value of a text in exactly one part, and none of the padding, against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.probes.positions import PARTS, Part, Positions

# Rows of tokens (1) and padding (0), all of one length.
MASKS = {
    "right": ["111111", "111100", "100000"],
    "left": ["111111", "001111", "000001"],
    "both": ["011110", "111111", "000110"],
    "rows without tokens": ["000000", "111000", "000000", "000111"],
    "nothing": ["000000", "000000"],
    "one row": ["111100"],
    "one token": ["1", "0", "1"],
    "short row first": ["100000", "110000", "111111"],
}


def mask_of(name: str) -> Tensor:
    return torch.tensor([[int(flag) for flag in row] for row in MASKS[name]])


def numbered(mask: Tensor, features: int) -> Tensor:
    """Hidden states [B, T, D] of which no two are equal."""
    count = mask.numel() * features
    return torch.arange(count, dtype=torch.float64).reshape(*mask.shape, features)


def values(positions: Positions, placed: Tensor, name: Part) -> list[float]:
    found: list[float] = []
    parts = positions.parts
    assert len(parts) == len(PARTS)
    for number, where, rows in parts.filled:
        if PARTS[number] == name:
            assert rows == sum(stop - start for start, stop in parts.stretches[where])
            for start, stop in parts.stretches[where]:
                assert stop > start
                found += placed.flatten(0, 1)[start:stop].flatten().tolist()
    return found


def expected(mask: Tensor, hidden: Tensor) -> dict[Part, list[float]]:
    parts: dict[Part, list[float]] = {"first": [], "rest": []}
    for row in range(len(mask)):
        seen = False
        for place in range(mask.shape[1]):
            if mask[row, place]:
                parts["rest" if seen else "first"] += hidden[row, place].tolist()
                seen = True
    return parts


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("features", [1, 3])
def test_every_value_once(name: str, features: int) -> None:
    mask = mask_of(name)
    hidden = numbered(mask, features)
    positions = Positions.of_mask(mask)
    placed = positions.placed(hidden)
    assert placed is not None
    for part, wanted in expected(mask, hidden).items():
        assert values(positions, placed, part) == wanted, part


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64])
def test_any_type_of_mask(dtype: torch.dtype) -> None:
    for name in MASKS:
        mask = mask_of(name)
        assert Positions.of_mask(mask.to(dtype)) == Positions.of_mask(mask)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("layout", ["flat", "experts", "heads", "heads last", "swapped"])
def test_any_shape_of_output(name: str, layout: str) -> None:
    mask = mask_of(name)
    rows, length = mask.shape
    hidden = numbered(mask, 6)
    split = hidden.unflatten(2, (2, 3))
    output = {
        "flat": hidden.flatten(0, 1),
        "experts": split.flatten(0, 1),
        "heads": split.transpose(1, 2).contiguous(),
        "heads last": split,
        "swapped": split.transpose(1, 2),
    }[layout]
    positions = Positions.of_mask(mask)
    placed = positions.placed(output)
    assert placed is not None
    assert placed.shape == (rows, length, 6)
    assert torch.equal(placed, hidden)


def test_as_many_heads_as_tokens() -> None:
    mask = mask_of("right")
    hidden = numbered(mask, 12)
    positions = Positions.of_mask(mask)
    heads = hidden.unflatten(2, (6, 2))
    for output in (heads, heads.transpose(1, 2), heads.transpose(1, 2) * 1.0):
        placed = positions.placed(output)
        assert placed is not None
        assert torch.equal(placed, hidden)


@pytest.mark.parametrize("shape", [(), (6,), (18,), (3, 7, 4), (4, 6, 5), (2, 4), (5, 6, 2, 2)])
def test_what_has_no_place_in_the_text(shape: tuple[int, ...]) -> None:
    assert Positions.of_mask(mask_of("right")).placed(torch.zeros(shape)) is None


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("features", [3, 1])
def test_texts_are_whole(name: str, features: int) -> None:
    mask = mask_of(name)
    hidden = numbered(mask, features)
    texts = list(Positions.of_mask(mask).texts(hidden))
    rows = [row for row in range(len(mask)) if mask[row].any()]
    assert len(texts) == len(rows)
    for text, row in zip(texts, rows, strict=True):
        assert torch.equal(text, hidden[row][mask[row].bool()])


@pytest.mark.parametrize("alive", ["111", "101", "010", "000"])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("features", [3, 1])
def test_one_step_of_generation(alive: str, length: int, features: int) -> None:
    going = torch.tensor([flag == "1" for flag in alive])
    hidden = numbered(torch.ones(3, length), features)
    positions = Positions.of_last(going, length)
    placed = positions.placed(hidden)
    assert placed is not None
    assert values(positions, placed, "first") == []
    assert values(positions, placed, "rest") == hidden[going, -1].flatten().tolist()
    texts = [text.tolist() for text in positions.texts(placed)]
    assert texts == [[row] for row in hidden[going, -1].tolist()]
