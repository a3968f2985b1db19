"""The EMA quantizer: who moves, who does not, and why its codebooks stay alive."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.kmeans import kmeans
from spinlock_dist.model.quantizers.ema import EMAQuantizer
from tests.quantizers import start_on


def make(dims: list[list[int]], codes: list[list[int]], **settings: float) -> EMAQuantizer:
    return EMAQuantizer(torch.tensor(dims), torch.tensor(codes)[..., None], QuantizerConfig(**settings))


def latents(dims: list[list[int]], rows: int, seed: int = 0) -> Tensor:
    width = max(max(row) for row in dims)
    z = torch.randn(len(dims), len(dims[0]), rows, width, generator=Generator().manual_seed(seed))
    return z * (torch.arange(width) < torch.tensor(dims)[:, :, None, None])


DIMS, CODES = [[4, 8], [8, 4]], [[5, 3], [1, 7]]


def started() -> tuple[EMAQuantizer, Tensor]:
    quantizer, z = make(DIMS, CODES), latents(DIMS, rows=200)
    start_on(quantizer, z, [0, 1], batch_size=200)
    return quantizer, z


def test_nearest_code_by_brute_force_and_never_padding() -> None:
    quantizer, z = started()
    result = quantizer(z)
    for member, groups in enumerate(CODES):
        for group, codes in enumerate(groups):
            book = quantizer.codebook_MGSKZ[member, group, 0, :codes]
            expected = torch.cdist(z[member, group], book).argmin(dim=1)
            assert torch.equal(result.tokens_MGBS[member, group, :, 0], expected)
            assert torch.allclose(result.codes_MGBZ[member, group], book[expected])


def test_gradient_passes_straight_through_to_the_latent_alone() -> None:
    quantizer, z = started()
    z.requires_grad_(True)
    weight = torch.randn_like(z.detach())
    (quantizer(z).straight_through_MGBZ * weight).sum().backward()
    assert torch.allclose(z.grad, weight)
    assert list(quantizer.parameters()) == []


def test_codes_move_to_the_mean_of_their_rows() -> None:
    quantizer, z = started()
    alive = torch.ones(2, dtype=torch.bool)
    for _ in range(400):
        quantizer.update(quantizer(z), alive, expire=False)
    result = quantizer(z)
    for code in range(5):
        mine = z[0, 0][result.tokens_MGBS[0, 0, :, 0] == code]
        assert torch.allclose(quantizer.codebook_MGSKZ[0, 0, 0, code], mine.mean(dim=0), atol=1e-3)


def test_a_member_that_is_not_alive_keeps_its_codebook() -> None:
    quantizer, z = started()
    before = quantizer.codebook_MGSKZ.clone()
    quantizer.update(quantizer(z * 3), torch.tensor([True, False]), expire=True)
    assert not torch.equal(quantizer.codebook_MGSKZ[0], before[0])
    assert torch.equal(quantizer.codebook_MGSKZ[1], before[1])


def test_an_expired_code_is_placed_on_a_row_and_stays_there() -> None:
    quantizer, z = started()
    quantizer.codebook_MGSKZ[0, 0, 0, 2, :4] = 1e4
    quantizer.sum_MGSKZ[0, 0, 0, 2, :4] = 1e4 * 1e-4
    quantizer.size_MGSK[0, 0, 0, 2] = 1e-4
    alive = torch.ones(2, dtype=torch.bool)
    quantizer.update(quantizer(z), alive, expire=True)
    revived = quantizer.codebook_MGSKZ[0, 0, 0, 2].clone()
    assert (torch.cdist(revived[None], z[0, 0]).min() < 1e-5).item()
    quantizer.update(quantizer(z), alive, expire=False)
    moved = (quantizer.codebook_MGSKZ[0, 0, 0, 2] - revived).norm() / revived.norm()
    assert moved < 0.1  # a stale size would have pulled it to a twentieth of its norm


def test_without_expiry_an_unused_code_stays_where_it_is() -> None:
    quantizer, z = started()
    far = torch.full((4,), 1e4)
    quantizer.codebook_MGSKZ[0, 0, 0, 2, :4] = far
    quantizer.sum_MGSKZ[0, 0, 0, 2, :4] = far * quantizer.size_MGSK[0, 0, 0, 2]
    for _ in range(3000):
        quantizer.update(quantizer(z), torch.ones(2, dtype=torch.bool), expire=False)
    assert torch.allclose(quantizer.codebook_MGSKZ[0, 0, 0, 2, :4], far, rtol=1e-3)


def test_padding_stays_zero() -> None:
    quantizer, z = started()
    for step in range(20):
        quantizer.update(quantizer(z), torch.ones(2, dtype=torch.bool), expire=step % 2 == 0)
    book = quantizer.codebook_MGSKZ[:, :, 0]
    for member, groups in enumerate(CODES):
        for group, codes in enumerate(groups):
            assert not book[member, group, codes:].any()
            assert not book[member, group, :, DIMS[member][group] :].any()


def test_a_single_code_learns_the_mean() -> None:
    quantizer, z = started()
    assert torch.allclose(quantizer.codebook_MGSKZ[1, 0, 0, 0], z[1, 0].mean(dim=0), atol=1e-5)
    assert not quantizer(z).tokens_MGBS[1, 0].any()


def test_kmeans_finds_separated_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = centres.repeat(50, 1) + 0.1 * torch.randn(150, 2, generator=Generator().manual_seed(0))
    found, nearest = kmeans(x, 3, 10, Generator().manual_seed(1))
    assert nearest.bincount().tolist() == [50, 50, 50]
    assert torch.equal(nearest, torch.cdist(x, found).argmin(dim=1))
    assert (torch.cdist(centres, found).min(dim=1).values < 0.2).all()


def test_kmeans_with_fewer_distinct_rows_than_clusters_is_finite() -> None:
    x = torch.ones(20, 3)
    centres, nearest = kmeans(x, 8, 5, Generator().manual_seed(0))
    assert torch.isfinite(centres).all() and torch.equal(centres[nearest], x)


@pytest.mark.parametrize("clusters", [1, 4, 16])
def test_kmeans_is_deterministic_and_no_worse_than_its_start(clusters: int) -> None:
    x = torch.randn(300, 5, generator=Generator().manual_seed(2))
    one, few = (kmeans(x, clusters, n, Generator().manual_seed(3)) for n in (1, 25))
    again = kmeans(x, clusters, 25, Generator().manual_seed(3))
    assert all(torch.equal(*pair) for pair in zip(few, again, strict=True))
    distortion = [(x - centres[nearest]).square().sum() for centres, nearest in (few, one)]
    assert distortion[0] <= distortion[1] * (1 + 1e-6)
