"""The EMA quantizer against the well-known PyTorch library of vector quantizers, on equal sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Generator
from vector_quantize_pytorch import VectorQuantize

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.quantizers import EMAQuantizer

CODES, DIMS, ROWS, DECAY = 12, 5, 64, 0.9


def both(group: int) -> tuple[EMAQuantizer, VectorQuantize, torch.Tensor]:
    """Return ours with three groups, theirs with the codebook of one of them, and latents for ours."""
    generator = Generator().manual_seed(group)
    codes_MGS = torch.tensor([[[4], [CODES], [20]]])
    ours = EMAQuantizer(torch.tensor([[3, DIMS, 8]]), codes_MGS, QuantizerConfig(ema_decay=DECAY))
    latents = torch.randn(1, 3, ROWS, 8, generator=generator) * (torch.arange(8) < ours.dims_MG[0][:, None, None])
    ours.start_from_data(0, latents[0], generator, batch_size=ROWS)
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
        ((result.straight_MGBZ[0, 1, :, :DIMS] * weight).sum() + distance).backward()
        ((quantized[0] * weight).sum() + commitment.sum()).backward()
        torch.testing.assert_close(z.grad[0, 1, :, :DIMS], reference.grad)
        ours.update(result, torch.tensor([True]), expire=False)
        torch.testing.assert_close(
            ours.codebook_MGSKZ[0, 1, 0, :CODES, :DIMS], theirs._codebook.embed[0], rtol=1e-4, atol=1e-5
        )
