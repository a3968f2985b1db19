"""The same tokenizer written the plain way, to measure the batched one against: a module per category and level.

Loops over categories and levels, a DataLoader, `torch.optim.Adam`, a quantizer with one-hot codes: what one writes
first, and what most published code looks like. `from_batched` copies the weights of one member of the batched model;
with them both give the same losses and gradients (tests/contracts/test_reference.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spinlock_dist.config import TrialConfig
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.level import GroupMLP


class PlainMLP(nn.Module):
    """A linear map plus a one-hidden-layer correction that also sees contexts: `[B, I] -> [B, O]`."""

    def __init__(self, inputs: int, contexts: int, hidden: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.hidden = nn.Linear(inputs + contexts, hidden)
        self.out = nn.Linear(hidden, outputs, bias=False)

    def forward(self, x: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """Return the mapped rows."""
        return self.linear(x) + self.out(torch.relu(self.hidden(torch.cat([x, *contexts], dim=1))))


class PlainQuantizer(nn.Module):
    """Nearest code, straight-through, moving averages, expiry: van den Oord et al. 2017, appendix A.1."""

    codebook: Tensor
    size: Tensor
    sum: Tensor

    def __init__(self, codes: int, dim: int, decay: float, expiry_share: float):
        super().__init__()
        self.decay, self.expiry_share = decay, expiry_share
        self.register_buffer("codebook", torch.zeros(codes, dim))
        self.register_buffer("size", torch.ones(codes))
        self.register_buffer("sum", torch.zeros(codes, dim))

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes, straight-through codes `[B, Z]` and one-hot tokens `[B, K]`."""
        seen = latent.detach()
        distances = seen.square().sum(1, keepdim=True) - 2 * seen @ self.codebook.T + self.codebook.square().sum(1)
        one_hot = functional.one_hot(distances.argmin(dim=1), len(self.codebook)).to(latent)
        codes = one_hot @ self.codebook
        return codes, latent + (codes - latent).detach(), one_hot

    @torch.no_grad()
    def update(self, latent: Tensor, one_hot: Tensor, expire: bool) -> None:
        """Move the codes towards the latents they were chosen for; revive those that are hardly chosen."""
        self.size.mul_(self.decay).add_(one_hot.sum(dim=0), alpha=1 - self.decay)
        self.sum.mul_(self.decay).add_(one_hot.T @ latent, alpha=1 - self.decay)
        if expire:
            dead = self.size < self.expiry_share * self.size.mean()
            rows = latent[torch.arange(len(self.size)) % len(latent)]
            self.sum[dead] = rows[dead] * self.size.mean()
            self.size[dead] = self.size.mean()
        self.codebook.copy_(self.sum / self.size.clamp(min=1e-6)[:, None])


class PlainLevel(nn.Module):
    """Encoder, quantizer and decoder of one category at one level."""

    def __init__(self, features: int, dim: int, codes: int, coarser: int, hidden: int, config: TrialConfig):
        super().__init__()
        self.encoder = PlainMLP(features, coarser, hidden, dim)
        self.quantizer = PlainQuantizer(codes, dim, config.quantizer.ema_decay, config.quantizer.expiry_share)
        self.decoder = PlainMLP(dim, coarser, hidden, features)


class PlainVQVAE(nn.Module):
    """Residual levels, a decoder per category; the losses of the default config."""

    def __init__(
        self, columns: Sequence[Sequence[int]], dims: Tensor, codes: Tensor, variance: Tensor, config: TrialConfig
    ):
        """`dims` and `codes` are `[C, L]`, `variance` `[D]` is that of the training rows."""
        super().__init__()
        self.config, self.columns = config, [torch.tensor(list(each)) for each in columns]
        self.variances = [variance[each] for each in self.columns]
        hidden = config.model.hidden
        self.categories = nn.ModuleList(
            nn.ModuleList(
                PlainLevel(
                    len(each),
                    int(dims[row, level]),
                    int(codes[row, level]),
                    int(dims[row, :level].sum()),
                    hidden,
                    config,
                )
                for level in range(dims.shape[1])
            )
            for row, each in enumerate(columns)
        )
        self.steps = 0

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """Return the terms for rows `[B, D]`, and move the codebooks as training does after the step."""
        self.seen: list[tuple[PlainQuantizer, Tensor, Tensor]] = []
        errors, partial_errors, distances = [], [], []
        for columns, variance, levels in zip(self.columns, self.variances, self.categories, strict=True):
            target, rebuilt = x[:, columns], torch.zeros(len(x), len(columns))
            coarser: list[Tensor] = []
            for place, level in enumerate(levels):  # type: ignore[arg-type]
                latent = level.encoder(target - rebuilt.detach(), coarser)
                codes, straight, one_hot = level.quantizer(latent)
                rebuilt = rebuilt + level.decoder(straight, coarser)
                coarser = [*coarser, straight]
                self.seen.append((level.quantizer, latent.detach(), one_hot))
                distances.append((latent - codes.detach()).square().sum(dim=1).mean() / variance.sum())
                error = (rebuilt - target).square().sum(dim=1).mean() / variance.sum()
                (errors if place == len(levels) - 1 else partial_errors).append(error)  # type: ignore[arg-type]
        shares = torch.stack([variance.sum() for variance in self.variances])
        shares = shares / shares.sum()
        depth = len(distances) // len(errors)
        weights = self.config.loss
        terms = {
            "reconstruction": (torch.stack(errors) * shares).sum(),
            "commitment": (torch.stack(distances).view(-1, depth) * shares[:, None]).sum() / depth,
            "informativeness": torch.stack(partial_errors).mean(),
        }
        total = terms["reconstruction"] + weights.commitment * terms["commitment"]
        return {**terms, "total": total + weights.informativeness * terms["informativeness"]}

    def update_codebooks(self) -> None:
        """Move every codebook by the rows of the last `losses`."""
        self.steps += 1
        expire = self.steps % self.config.quantizer.expiry_every == 0
        for quantizer, latent, one_hot in self.seen:
            quantizer.update(latent, one_hot, expire)


def from_batched(model: HierarchicalVQVAE, variance: Tensor, config: TrialConfig) -> PlainVQVAE:
    """Return member 0 of the batched model the plain way, with the same weights and codebooks.

    Raises `ValueError` for what the plain one has not: several codebooks at a level, or a level that is off.
    """
    codes = torch.tensor(model.plans[0].codes)
    if codes.shape[2] > 1 or bool((codes < 2).any()) or model.config.levels != "residual" or model.shared:
        raise ValueError("only residual levels of one codebook each, with a decoder per category")
    columns = [model.layout.columns[row, :size].tolist() for row, size in enumerate(model.layout.sizes)]
    dims = model.dims_MGL[0]
    plain = PlainVQVAE(columns, dims, codes[..., 0], variance, config)
    with torch.no_grad():
        for row, levels in enumerate(plain.categories):
            for place, level in enumerate(levels):  # type: ignore[arg-type]
                ours, at = model.level_of(row, place)
                size, dim = len(columns[row]), int(dims[row, place])
                coarser = dims[row, :place].tolist()
                _copy_mlp(level.encoder, ours.encoder, at, size, coarser, dim)
                _copy_mlp(level.decoder, ours.decoder, at, dim, coarser, size)
                count = int(codes[row, place, 0])
                level.quantizer.codebook.copy_(ours.quantizer.codebook_MGSKZ[0, at, 0, :count, :dim])  # type: ignore
                level.quantizer.size.copy_(ours.quantizer.size_MGSK[0, at, 0, :count])  # type: ignore
                level.quantizer.sum.copy_(ours.quantizer.sum_MGSKZ[0, at, 0, :count, :dim])  # type: ignore
    return plain


def _copy_mlp(plain: PlainMLP, ours: GroupMLP, row: int, inputs: int, contexts: Sequence[int], outputs: int) -> None:
    plain.linear.weight.copy_(ours.linear_MGIO[0, row, :inputs, :outputs].T)
    plain.linear.bias.copy_(ours.bias_MGO[0, row, :outputs])
    parts = [ours.hidden_MGIH[place][0, row, :width] for place, width in enumerate((inputs, *contexts))]
    plain.hidden.weight.copy_(torch.cat(parts).T)
    plain.hidden.bias.copy_(ours.hidden_bias_MGH[0, row])
    plain.out.weight.copy_(ours.out_MGHO[0, row, :, :outputs].T)
