"""Every value of a text in exactly one part, and none of the padding, against plain loops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from harness.probes.positions import PARTS, Part, Positions

OWNER = "original"

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


def values(positions: Positions, by_token: Tensor) -> dict[tuple[str, Part], list[float]]:
    found: dict[tuple[str, Part], list[float]] = {}
    parts = positions.parts
    assert (parts.stretches[:, 0] < parts.stretches[:, 1]).all()
    for key, where, rows in parts.filled:
        stretches = parts.stretches[where]
        assert rows == sum(stop - start for start, stop in stretches)
        cut = [by_token.flatten(0, 1)[start:stop].flatten() for start, stop in stretches]
        found[key] = torch.cat(cut).tolist()
    return found


def expected(
    mask: Tensor, owners: Sequence[str], hidden: Tensor
) -> dict[tuple[str, Part], list[float]]:
    parts: dict[tuple[str, Part], list[float]] = defaultdict(list)
    for row, owner in enumerate(owners):
        seen = False
        for place in range(mask.shape[1]):
            if mask[row, place]:
                parts[owner, "rest" if seen else "first"] += hidden[row, place].tolist()
                seen = True
    return parts


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("owners", ["aaaa", "abab", "abba", "bbaa", "cacb"])
def test_every_value_once(name: str, features: int, owners: str) -> None:
    mask = mask_of(name)
    owners = owners[: len(mask)]
    hidden = numbered(mask, features)
    positions = Positions.of_mask(mask, list(owners))
    by_token = positions.by_token(hidden)
    assert by_token is not None
    found = values(positions, by_token)
    assert found == expected(mask, owners, hidden)
    # Owners in the order of their first rows, and parts in theirs.
    order = [(owner, part) for owner in dict.fromkeys(owners) for part in PARTS]
    assert list(found) == [key for key in order if key in found]


def test_one_name_stands_for_all_rows() -> None:
    mask = mask_of("right")
    assert Positions.of_mask(mask, "abc").owners == ("abc",) * 3
    with pytest.raises(ValueError, match="2 owners of 3 rows"):
        Positions.of_mask(mask, ["a", "b"])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64])
def test_any_type_of_mask(dtype: torch.dtype) -> None:
    for name in MASKS:
        mask = mask_of(name)
        of_that_type = Positions.of_mask(mask.to(dtype), OWNER)
        assert of_that_type.spans == Positions.of_mask(mask, OWNER).spans


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
    positions = Positions.of_mask(mask, OWNER)
    by_token = positions.by_token(output)
    assert by_token is not None
    assert by_token.shape == (rows, length, 6)
    assert torch.equal(by_token, hidden)


def test_as_many_heads_as_tokens() -> None:
    mask = mask_of("right")
    hidden = numbered(mask, 12)
    positions = Positions.of_mask(mask, OWNER)
    heads = hidden.unflatten(2, (6, 2))
    for output in (heads, heads.transpose(1, 2), heads.transpose(1, 2) * 1.0):
        by_token = positions.by_token(output)
        assert by_token is not None
        assert torch.equal(by_token, hidden)


@pytest.mark.parametrize("shape", [(), (6,), (18,), (3, 7, 4), (4, 6, 5), (2, 4), (5, 6, 2, 2)])
def test_what_has_no_place_in_the_text(shape: tuple[int, ...]) -> None:
    assert Positions.of_mask(mask_of("right"), OWNER).by_token(torch.zeros(shape)) is None


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("features", [3, 1])
def test_texts_are_whole(name: str, features: int) -> None:
    mask = mask_of(name)
    hidden = numbered(mask, features)
    owners = [f"owner of {row}" for row in range(len(mask))]
    texts = list(Positions.of_mask(mask, owners).texts(hidden))
    rows = [row for row in range(len(mask)) if mask[row].any()]
    assert len(texts) == len(rows)
    for (owner, text), row in zip(texts, rows, strict=True):
        assert owner == owners[row]
        assert torch.equal(text, hidden[row][mask[row].bool()])


@pytest.mark.parametrize("alive", ["111", "101", "010", "000"])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("features", [3, 1])
def test_one_step_of_generation(alive: str, length: int, features: int) -> None:
    going = torch.tensor([flag == "1" for flag in alive])
    hidden = numbered(torch.ones(3, length), features)
    positions = Positions.of_mask(mask_of("right"), tuple("aba")).last(going, length)
    by_token = positions.by_token(hidden)
    assert by_token is not None
    wanted: dict[tuple[str, Part], list[float]] = defaultdict(list)
    for owner, goes_on, row in zip("aba", going, hidden[:, -1], strict=True):
        if goes_on:
            wanted[owner, "rest"] += row.tolist()
    assert values(positions, by_token) == wanted
    texts = [text.tolist() for _, text in positions.texts(by_token)]
    assert texts == [[row] for row in hidden[going, -1].tolist()]
