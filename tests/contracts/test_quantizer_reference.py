"""Every quantizer and codec against a well-known library, on equal sizes: vector-quantize-pytorch, scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator
from vector_quantize_pytorch import FSQ as ReferenceFSQ
from vector_quantize_pytorch import ResidualVQ, VectorQuantize

from spinlock_dist.baselines.pca_scalar import PCAScalar
from spinlock_dist.baselines.residual_kmeans import ResidualKMeans
from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.quantizers.ema import EMAQuantizer
from spinlock_dist.model.quantizers.fsq import FSQ
from tests.quantizers import start_on

CODES, DIMS, ROWS, DECAY = 12, 5, 64, 0.9


def both(group: int) -> tuple[EMAQuantizer, VectorQuantize, torch.Tensor]:
    """Return ours with three groups, theirs with the codebook of one of them, and latents for ours."""
    generator = Generator().manual_seed(group)
    codes_MGS = torch.tensor([[[4], [CODES], [20]]])
    ours = EMAQuantizer(torch.tensor([[3, DIMS, 8]]), codes_MGS, QuantizerConfig(ema_decay=DECAY))
    latents = torch.randn(1, 3, ROWS, 8, generator=generator) * (torch.arange(8) < ours.dims_MG[0][:, None, None])
    start_on(ours, latents, [0], batch_size=ROWS)
    theirs = VectorQuantize(DIMS, CODES, decay=DECAY, eps=1e-12, threshold_ema_dead_code=0, rotation_trick=False)
    book = theirs._codebook
    book.embed.data.copy_(ours.codebook_MGSKZ[0, 1, 0, :CODES, :DIMS][None])
    book.embed_avg.data.copy_(ours.sum_MGSKZ[0, 1, 0, :CODES, :DIMS][None])
    book.cluster_size.data.copy_(ours.size_MGSK[0, 1, 0, :CODES][None])
    return ours, theirs, latents


@pytest.mark.parametrize("seed", range(3))
def test_tokens_codes_gradients_and_moving_averages_agree(seed: int) -> None:
    ours, theirs, latents = both(seed)
    theirs.train()
    generator = Generator().manual_seed(100 + seed)
    for _ in range(15):
        noise = 0.3 * torch.randn(latents.shape, generator=generator) * (latents != 0)
        z = (latents + noise).requires_grad_(True)
        reference = z.detach()[0, 1, :, :DIMS].clone().requires_grad_(True)
        result = ours(z)
        quantized, tokens, commitment = theirs(reference[None])
        assert torch.equal(result.tokens_MGBS[0, 1, :, 0], tokens[0])
        torch.testing.assert_close(result.codes_MGBZ[0, 1, :, :DIMS], quantized[0].detach())
        distance = (result.latent_MGBZ - result.codes_MGBZ.detach())[0, 1, :, :DIMS].square().mean()
        torch.testing.assert_close(distance, commitment.squeeze())
        weight = torch.randn(ROWS, DIMS, generator=generator)
        ((result.straight_through_MGBZ[0, 1, :, :DIMS] * weight).sum() + distance).backward()
        ((quantized[0] * weight).sum() + commitment.sum()).backward()
        torch.testing.assert_close(z.grad[0, 1, :, :DIMS], reference.grad)
        ours.update(result, torch.tensor([True]), expire=False)
        torch.testing.assert_close(
            ours.codebook_MGSKZ[0, 1, 0, :CODES, :DIMS], theirs._codebook.embed[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("seed", range(3))
def test_several_codebooks_agree_with_residual_quantization(seed: int) -> None:
    sizes = (CODES, 7, 5)
    generator = Generator().manual_seed(seed)
    latents = torch.randn(1, 1, ROWS, DIMS, generator=generator)
    ours = EMAQuantizer(torch.tensor([[DIMS]]), torch.tensor([[sizes]]), QuantizerConfig(ema_decay=DECAY))
    start_on(ours, latents, [0], batch_size=ROWS)
    theirs = ResidualVQ(dim=DIMS, codebook_size=sizes, decay=DECAY, eps=1e-12, threshold_ema_dead_code=0)
    for book, (layer, codes) in enumerate(zip(theirs.layers, sizes, strict=True)):
        layer._codebook.embed.data.copy_(ours.codebook_MGSKZ[0, 0, book, :codes][None])
        layer._codebook.embed_avg.data.copy_(ours.sum_MGSKZ[0, 0, book, :codes][None])
        layer._codebook.cluster_size.data.copy_(ours.size_MGSK[0, 0, book, :codes][None])
    theirs.train()
    for _ in range(15):
        z = latents + 0.3 * torch.randn(latents.shape, generator=generator)
        result = ours(z)
        quantized, tokens, _ = theirs(z[0])
        assert torch.equal(result.tokens_MGBS[0], tokens)
        torch.testing.assert_close(result.codes_MGBZ[0], quantized)
        ours.update(result, torch.tensor([True]), expire=False)
        for book, (layer, codes) in enumerate(zip(theirs.layers, sizes, strict=True)):
            torch.testing.assert_close(
                ours.codebook_MGSKZ[0, 0, book, :codes], layer._codebook.embed[0], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_finite_scalars_agree(levels: int) -> None:
    generator = Generator().manual_seed(levels)
    latents = torch.randn(1, 1, ROWS, 3, generator=generator)
    codes_MGS = torch.tensor([[[levels**3]]])
    ours = FSQ(torch.tensor([[3]]), codes_MGS, QuantizerConfig(kind="fsq", fsq_levels=levels))
    start_on(ours, latents, [0], batch_size=ROWS)
    theirs = ReferenceFSQ([levels] * 3, preserve_symmetry=True)
    reach_Z = ours.scale_MGZ[0, 0] * (levels - 1) / 2  # their codes fill [-1, 1], ours are in the latent's units
    z = latents.clone().requires_grad_(True)
    reference = latents[0].clone().requires_grad_(True)
    result = ours(z)
    quantized, tokens = theirs(reference / reach_Z)
    assert torch.equal(result.tokens_MGBS[0, 0, :, 0], tokens[0].long())
    torch.testing.assert_close(result.codes_MGBZ[0], quantized * reach_Z)
    torch.testing.assert_close(ours.lookup(result.tokens_MGBS)[0], theirs.indices_to_codes(tokens) * reach_Z)
    weight = torch.randn(ROWS, 3, generator=generator)
    (result.straight_through_MGBZ[0, 0] * weight).sum().backward()
    (quantized[0] * reach_Z * weight).sum().backward()
    torch.testing.assert_close(z.grad[0], reference.grad)


def test_residual_kmeans_codes_as_residual_quantization_does() -> None:
    sizes = (16, 8, 3)
    rng = np.random.default_rng(0)
    train, fresh = (rng.normal(size=(400, 6)).astype(np.float32) for _ in range(2))
    coder = ResidualKMeans.fit(train, np.array(sizes), Generator().manual_seed(0), beam=1)
    reference = ResidualVQ(dim=6, codebook_size=sizes).eval()
    for layer, codebook_KF in zip(reference.layers, coder.codebooks, strict=True):
        layer._codebook.embed.data.copy_(torch.from_numpy(codebook_KF[None]))
    quantized, tokens, _ = reference(torch.from_numpy(fresh)[None])
    assert (coder.encode(fresh) == tokens[0].numpy()).all()
    np.testing.assert_allclose(coder.decode(coder.encode(fresh)), quantized[0].numpy(), atol=1e-5)


def test_pca_scalar_codes_on_the_principal_components() -> None:
    rng = np.random.default_rng(0)
    train, fresh = rng.normal(size=(2, 400, 6)) @ rng.normal(size=(6, 6)) + 3
    coder = PCAScalar.fit(train, np.array([64, 64, 64]), Generator(), beam=1)
    kept = len(coder.grids)
    pca = PCA(n_components=kept).fit(train)
    signs_P = np.sign((pca.components_ * coder.axes_PF).sum(axis=1))
    np.testing.assert_allclose(pca.components_ * signs_P[:, None], coder.axes_PF, atol=1e-8)
    tokens_NP, scores_NP = coder.encode(fresh), pca.transform(fresh) * signs_P
    rebuilt_NP = np.empty_like(scores_NP)
    for component, grid in enumerate(coder.grids):
        distance_NK = np.abs(scores_NP[:, component, None] - grid.values)
        assert (tokens_NP[:, component] == distance_NK.argmin(axis=1)).all()
        rebuilt_NP[:, component] = grid.values[tokens_NP[:, component]]
    np.testing.assert_allclose(coder.decode(tokens_NP), pca.inverse_transform(rebuilt_NP * signs_P), rtol=1e-5)
