"""Groups in one padded tensor, and shared out into buckets."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.categories.category import Category
from spinlock_dist.model.layout import BUCKET_COST, GroupLayout, make_buckets

Sizes = st.lists(st.integers(1, 120), min_size=1, max_size=30)


def layout_of(sizes: list[int]) -> GroupLayout:
    """Return a layout whose groups take the columns in turns, from the last one down."""
    columns = iter(range(sum(sizes) - 1, -1, -1))
    return GroupLayout([Category(f"c{i}", tuple(next(columns) for _ in range(size))) for i, size in enumerate(sizes)])


@given(Sizes)
def test_every_group_is_in_one_bucket_wide_enough(sizes: list[int]) -> None:
    buckets = make_buckets(sizes)
    assert sorted(group for bucket in buckets for group in bucket.groups) == list(range(len(sizes)))
    assert all(bucket.width == max(sizes[group] for group in bucket.groups) for bucket in buckets)


@given(Sizes)
def test_no_other_single_cut_would_be_cheaper(sizes: list[int]) -> None:
    def cost(cuts: list[list[int]]) -> int:
        return sum(BUCKET_COST + len(each) * max(each) for each in cuts if each)

    ordered, found = sorted(sizes), make_buckets(sizes)
    chosen = cost([[sizes[group] for group in bucket.groups] for bucket in found])
    assert chosen <= min(cost([ordered[:at], ordered[at:]]) for at in range(len(sizes)))


def test_alike_groups_share_a_bucket_and_unlike_ones_do_not() -> None:
    assert [bucket.groups for bucket in make_buckets([10, 11, 9, 12])] == [[0, 1, 2, 3]]
    assert [bucket.groups for bucket in make_buckets([50, 5, 4, 48])] == [[1, 2], [0, 3]]


@given(Sizes)
def test_what_is_split_into_buckets_joins_again(sizes: list[int]) -> None:
    layout = layout_of(sizes)
    values = torch.randn(2, 3, sum(sizes), generator=torch.Generator().manual_seed(0))
    grouped = layout.pack(values)
    assert torch.equal(layout.unpack(grouped), values)
    parts = layout.split(grouped)
    assert torch.equal(layout.join(parts, dim=2), grouped)
    for group, (bucket, row) in enumerate(layout.places):
        assert torch.equal(parts[bucket][:, :, row, : sizes[group]], values[..., layout.columns[group, : sizes[group]]])
