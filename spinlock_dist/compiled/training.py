"""One category trained for one epoch: the same arithmetic as `training/trainer.py`, without padding, masks and calls.

Under the default losses nothing of a category reaches another, so that each is trained by itself. With e_l the error of
what levels up to l rebuild, z_l a latent and c_l the sum of its codes, the loss of a batch is

    a * |e_last|^2  +  w_c * b * sum_l |z_l - c_l|^2  +  w_i * d * sum_{l < last} |e_l|^2

and its gradient goes from fine to coarse: decoder l gives that of its own codes and, as contexts, of the coarser ones;
straight through, the codes' gradient is the latent's; encoder l gives that of the coarser codes. What a level sees of
coarser reconstructions is detached, so that nothing goes back through the residuals.

While decoders are refined, tokens are given: what is left of the loss are the first and the last term, and of the
backward pass the decoders' own gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spinlock_dist.compiled.build import all_finite, entry_point, inner, is_finite
from spinlock_dist.compiled.layers import backward, forward, mlp_at
from spinlock_dist.compiled.products import add_mapped, add_mapped_back

BLOCK = 512
"""Rows that go through all levels together: few enough for the second-level cache, and many for each call."""
BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
HELD = np.float32(1e-6)
"""A code of fewer rows than this stays where it is: its average is no longer one."""


class Shape(NamedTuple):
    """Sizes of one category. `codes_LS` is 0 where a level has no further codebook; `latents_L` is where a level's
    latent begins among those of all levels, `encoders_L` and `decoders_L` where its networks begin in the weights."""

    features: int
    hidden: int
    residual: bool
    dims_L: np.ndarray
    codes_LS: np.ndarray
    latents_L: np.ndarray
    encoders_L: np.ndarray
    decoders_L: np.ndarray


class Weights(NamedTuple):
    """Weights of all categories with both of Adam's moments, flat, and the `places` of this category's in them."""

    flat: np.ndarray
    first: np.ndarray
    second: np.ndarray
    places_W: np.ndarray


class Codebooks(NamedTuple):
    """Codes, and the moving averages of how often and for which latents they were chosen."""

    codes_LSKZ: np.ndarray
    size_LSK: np.ndarray
    sum_LSKZ: np.ndarray


class Recipe(NamedTuple):
    """Settings of the category's training. `scales_T` make the three sums of squares above the terms of the loss, whose
    weights are `weights_T`; `used_F` is 0 for features that do not vary. `steps`: those taken before."""

    batch: int
    steps: int
    rates_S: np.ndarray
    scales_T: np.ndarray
    weights_T: np.ndarray
    used_F: np.ndarray
    decay: float
    expiry_share: float
    expiry_every: int


class Category(NamedTuple):
    """One category of one member: `data_FN` are its features of the training rows."""

    shape: Shape
    books: Codebooks
    recipe: Recipe
    data_FN: np.ndarray


class Block(NamedTuple):
    """What the forward pass leaves for the backward pass, and room for it."""

    target_FR: np.ndarray
    seen_LFR: np.ndarray
    partial_LFR: np.ndarray
    latent_ZR: np.ndarray
    codes_ZR: np.ndarray
    left_ZR: np.ndarray
    encoder_LHR: np.ndarray
    decoder_LHR: np.ndarray
    token_R: np.ndarray
    score_R: np.ndarray
    score_KR: np.ndarray
    to_codes_ZR: np.ndarray
    to_hidden_HR: np.ndarray
    to_output_FR: np.ndarray


class Statistics(NamedTuple):
    """Of one batch: how often each code was chosen, for what in sum, and what its codebook saw of the first rows."""

    hits_LSK: np.ndarray
    sums_LSKZ: np.ndarray
    rows_LSKZ: np.ndarray


class Work(NamedTuple):
    """Room that every batch of an epoch uses again. `terms_T` are those of the loss: error, commitment, partials."""

    block: Block
    statistics: Statistics
    terms_T: np.ndarray


@inner
def _block_of(shape, rows, most_codes):
    levels, latents = len(shape.dims_L), shape.dims_L.sum()
    features, hidden, f4 = shape.features, shape.hidden, np.float32
    return Block(
        np.empty((features, rows), f4),
        np.empty((levels, features, rows), f4),
        np.empty((levels, features, rows), f4),
        np.empty((latents, rows), f4),
        np.empty((latents, rows), f4),
        np.empty((latents, rows), f4),
        np.empty((levels, hidden, rows), f4),
        np.empty((levels, hidden, rows), f4),
        np.empty(rows, np.int32),
        np.empty(rows, f4),
        np.empty((most_codes, rows), f4),
        np.empty((latents, rows), f4),
        np.empty((hidden, rows), f4),
        np.empty((features, rows), f4),
    )


@inner
def _encoder(shape, flat, level):
    context = shape.latents_L[level] if shape.residual else 0
    return mlp_at(flat, shape.encoders_L[level], (shape.features, context, shape.hidden, shape.dims_L[level]))


@inner
def _decoder(shape, flat, level):
    sizes = (shape.dims_L[level], shape.latents_L[level], shape.hidden, shape.features)
    return mlp_at(flat, shape.decoders_L[level], sizes)


@inner
def _nearest(codes_KZ, seen_ZR, count, block, rows):
    """Put the nearest code of each row into `token_R`: the largest of z.c - |c|^2 / 2, as |z|^2 is the same for all."""
    dims = seen_ZR.shape[0]
    turned_ZK = np.empty((dims, count), np.float32)
    for k in range(count):
        half = np.float32(0)
        for z in range(dims):
            half += codes_KZ[k, z] * codes_KZ[k, z]
            turned_ZK[z, k] = codes_KZ[k, z]
        block.score_KR[k, :rows] = np.float32(-0.5) * half
    add_mapped(turned_ZK, seen_ZR, block.score_KR, rows)
    best_R, token_R = block.score_R, block.token_R
    best_R[:rows] = block.score_KR[0, :rows]
    token_R[:rows] = 0
    for k in range(1, count):
        score_R, code = block.score_KR[k], np.int32(k)
        for r in range(rows):
            better = score_R[r] > best_R[r]
            best_R[r] = score_R[r] if better else best_R[r]
            token_R[r] = code if better else token_R[r]


@inner
def _quantize(category, work, level, start, rows):
    """Fill the level's codes, book by book of what is left, and count; `start`: where in the batch the block begins."""
    shape, block, statistics = category.shape, work.block, work.statistics
    low, dims = shape.latents_L[level], shape.dims_L[level]
    left_ZR, codes_ZR = block.left_ZR[low : low + dims], block.codes_ZR[low : low + dims]
    left_ZR[:, :rows] = block.latent_ZR[low : low + dims, :rows]
    codes_ZR[:, :rows] = 0
    token_R = block.token_R
    for book in range(shape.codes_LS.shape[1]):
        count = shape.codes_LS[level, book]
        if count == 0:
            continue
        codes_KZ = category.books.codes_LSKZ[level, book]
        _nearest(codes_KZ, left_ZR, count, block, rows)
        hits_K, sums_KZ = statistics.hits_LSK[level, book], statistics.sums_LSKZ[level, book]
        rows_KZ = statistics.rows_LSKZ[level, book]
        for r in range(rows):
            hits_K[token_R[r]] += 1
        for z in range(dims):
            for r in range(min(rows, count - start)):
                rows_KZ[start + r, z] = left_ZR[z, r]
            seen_R, code_R = left_ZR[z], codes_ZR[z]
            for r in range(rows):
                sums_KZ[token_R[r], z] += seen_R[r]
                value = codes_KZ[token_R[r], z]
                code_R[r] += value
                seen_R[r] -= value


@inner
def _look_up(category, tokens_RLS, work, rows):
    """Fill the codes of all levels that stand for the tokens of the block's rows."""
    shape, block = category.shape, work.block
    block.codes_ZR[:, :rows] = 0
    for level in range(len(shape.dims_L)):
        low, dims = shape.latents_L[level], shape.dims_L[level]
        for book in range(shape.codes_LS.shape[1]):
            if shape.codes_LS[level, book] == 0:
                continue
            codes_KZ = category.books.codes_LSKZ[level, book]
            for z in range(dims):
                code_R = block.codes_ZR[low + z]
                for r in range(rows):
                    code_R[r] += codes_KZ[tokens_RLS[r, level, book], z]


@inner
def _encode(category, flat, work, level, start, rows):
    """Encode and quantize at one level what the coarser ones left, or the features themselves."""
    shape, block = category.shape, work.block
    low, high = shape.latents_L[level], shape.latents_L[level] + shape.dims_L[level]
    seen_FR = block.seen_LFR[level]
    for f in range(shape.features):
        for r in range(rows):
            seen_FR[f, r] = block.target_FR[f, r]
            if level > 0 and shape.residual:
                seen_FR[f, r] -= block.partial_LFR[level - 1, f, r]
    context_ZR = block.codes_ZR[:low] if shape.residual else block.codes_ZR[:0]
    seen = (seen_FR, context_ZR, block.encoder_LHR[level])
    forward(_encoder(shape, flat, level), seen, block.latent_ZR[low:high], rows, False)
    _quantize(category, work, level, start, rows)


@inner
def _decode(category, flat, work, level, rows):
    """Rebuild the block's target from the codes of the levels up to one."""
    shape, block = category.shape, work.block
    low, high = shape.latents_L[level], shape.latents_L[level] + shape.dims_L[level]
    partial_FR = block.partial_LFR[level]
    if level > 0:
        partial_FR[:, :rows] = block.partial_LFR[level - 1, :, :rows]
    seen = (block.codes_ZR[low:high], block.codes_ZR[:low], block.decoder_LHR[level])
    forward(_decoder(shape, flat, level), seen, partial_FR, rows, level > 0)


@inner
def _squares(found_R, wanted_R, weight, factor, gradient_R, rows):
    """Sum of squared differences times `weight`; `gradient` grows by `factor` times the difference."""
    total = np.float32(0)
    for r in range(rows):
        error = weight * (found_R[r] - wanted_R[r])
        total += error * error
        gradient_R[r] += factor * error
    return total


@inner
def _backward_decoder(category, flat, gradient, work, level, rows):
    """Add a level's share of the error to the terms of the loss, and its decoder's gradient, after the finer ones'."""
    shape, recipe, block, terms_T = category.shape, category.recipe, work.block, work.terms_T
    low, high = shape.latents_L[level], shape.latents_L[level] + shape.dims_L[level]
    term = 0 if level == len(shape.dims_L) - 1 else 2
    factor = np.float32(2) * recipe.weights_T[term] * recipe.scales_T[term]
    for f in range(shape.features):
        found_R, wanted_R, to_R = block.partial_LFR[level, f], block.target_FR[f], block.to_output_FR[f]
        total = _squares(found_R, wanted_R, recipe.used_F[f], factor, to_R, rows)
        terms_T[term] += recipe.scales_T[term] * total
    seen = (block.codes_ZR[low:high], block.codes_ZR[:low], block.decoder_LHR[level])
    decoder, to_decoder = _decoder(shape, flat, level), _decoder(shape, gradient, level)
    backward(decoder, to_decoder, seen, block.to_output_FR, block.to_hidden_HR, rows)


@inner
def _backward_encoder(category, flat, gradient, work, level, rows):
    """Carry the gradient on, from the decoder whose backward pass was just done, to the codes and the encoder."""
    shape, recipe, block, f4 = category.shape, category.recipe, work.block, np.float32
    low, high = shape.latents_L[level], shape.latents_L[level] + shape.dims_L[level]
    to_own_ZR, to_coarser_ZR = block.to_codes_ZR[low:high], block.to_codes_ZR[:low]
    decoder = _decoder(shape, flat, level)
    add_mapped_back(decoder.context_CH, block.to_hidden_HR, to_coarser_ZR, rows)
    add_mapped_back(decoder.linear_IO, block.to_output_FR, to_own_ZR, rows)
    add_mapped_back(decoder.hidden_IH, block.to_hidden_HR, to_own_ZR, rows)
    factor = f4(2) * recipe.weights_T[1] * recipe.scales_T[1]
    for z in range(low, high):
        total = _squares(block.latent_ZR[z], block.codes_ZR[z], f4(1), factor, block.to_codes_ZR[z], rows)
        work.terms_T[1] += recipe.scales_T[1] * total
    encoder, to_encoder = _encoder(shape, flat, level), _encoder(shape, gradient, level)
    context_ZR = block.codes_ZR[:low] if shape.residual else block.codes_ZR[:0]
    seen = (block.seen_LFR[level], context_ZR, block.encoder_LHR[level])
    backward(encoder, to_encoder, seen, to_own_ZR, block.to_hidden_HR, rows)
    if shape.residual:
        add_mapped_back(encoder.context_CH, block.to_hidden_HR, to_coarser_ZR, rows)


@inner
def _adam(weights, gradient, first, second, rate, step):
    """Kingma & Ba 2015, in the form of torch's fused kernel."""
    f4 = np.float32
    scaled = f4(rate / (1 - np.float64(BETA_1) ** step))
    root = f4(np.sqrt(1 - np.float64(BETA_2) ** step))
    for w in range(len(weights)):
        g = gradient[w]
        first[w] += (f4(1) - BETA_1) * (g - first[w])
        second[w] = BETA_2 * second[w] + (f4(1) - BETA_2) * g * g
        weights[w] -= scaled * first[w] / (np.sqrt(second[w]) / root + EPSILON)


@inner
def _move_codebooks(category, statistics, expire):
    """Moving averages, and with `expire` new places for codes that hardly any row chose: see `EMAQuantizer.update`."""
    shape, books, recipe = category.shape, category.books, category.recipe
    kept = np.float32(1 - recipe.decay)
    for level in range(len(shape.dims_L)):
        dims = shape.dims_L[level]
        for book in range(shape.codes_LS.shape[1]):
            count = shape.codes_LS[level, book]
            size_K, sum_KZ = books.size_LSK[level, book], books.sum_LSKZ[level, book]
            codes_KZ, mean = books.codes_LSKZ[level, book], np.float32(0)
            for k in range(count):
                size_K[k] += kept * (statistics.hits_LSK[level, book, k] - size_K[k])
                mean += size_K[k] / np.float32(count)
                for z in range(dims):
                    sum_KZ[k, z] += kept * (statistics.sums_LSKZ[level, book, k, z] - sum_KZ[k, z])
            for k in range(count):
                if expire and size_K[k] < np.float32(recipe.expiry_share) * mean:
                    size_K[k] = mean
                    for z in range(dims):
                        sum_KZ[k, z] = statistics.rows_LSKZ[level, book, k % recipe.batch, z] * mean
                if size_K[k] >= HELD:
                    for z in range(dims):
                        codes_KZ[k, z] = sum_KZ[k, z] / size_K[k]


@inner
def _step(category, flat, gradient, batch, work):
    """Forward and backward of one batch, block by block; `batch`: its rows, and the tokens of all if they are given."""
    rows_B, tokens_NLS = batch
    refined, levels, block = len(tokens_NLS) > 0, len(category.shape.dims_L), work.block
    gradient[:] = 0
    work.terms_T[:] = 0
    work.statistics.hits_LSK[:] = 0
    work.statistics.sums_LSKZ[:] = 0
    width = block.target_FR.shape[1]
    for start in range(0, len(rows_B), width):
        rows = min(width, len(rows_B) - start)
        for f in range(category.shape.features):
            feature_N, target_R = category.data_FN[f], block.target_FR[f]
            for r in range(rows):
                target_R[r] = feature_N[rows_B[start + r]]
        block.to_codes_ZR[:, :rows] = 0
        block.to_output_FR[:, :rows] = 0
        if refined:
            _look_up(category, tokens_NLS[rows_B[start : start + rows]], work, rows)
        for level in range(levels):
            if not refined:
                _encode(category, flat, work, level, start, rows)
            _decode(category, flat, work, level, rows)
        for level in range(levels - 1, -1, -1):
            _backward_decoder(category, flat, gradient, work, level, rows)
            if not refined:
                _backward_encoder(category, flat, gradient, work, level, rows)


@entry_point
def train_epoch(category, stored, order_N, tokens_NLS, sums_T):
    """Train one category on its rows in the order `order_N`, a step for each rate; rows that fill no batch are left.

    Given the tokens of all rows, only decoders learn; empty, encoders choose them and everything does. Moves `stored`
    and the codebooks, and adds the terms of every batch to `sums_T`. Returns the number of steps taken: fewer than
    there are rates if a term or the gradient was not finite. That batch has moved nothing; its terms count.
    """
    recipe, books, places_W = category.recipe, category.books, stored.places_W
    weights, gradient = stored.flat[places_W], np.empty(len(places_W), np.float32)
    first, second = stored.first[places_W], stored.second[places_W]
    work = Work(
        _block_of(category.shape, min(BLOCK, recipe.batch), books.codes_LSKZ.shape[2]),
        Statistics(np.zeros_like(books.size_LSK), np.zeros_like(books.sum_LSKZ), np.zeros_like(books.sum_LSKZ)),
        np.zeros(3, np.float64),
    )
    taken = 0
    for rate in recipe.rates_S:
        rows_B = order_N[taken * recipe.batch : (taken + 1) * recipe.batch]
        _step(category, weights, gradient, (rows_B, tokens_NLS), work)
        sums_T += work.terms_T
        magnitude = np.float32(0)
        for g in gradient:
            magnitude += abs(g)
        if not (all_finite(work.terms_T) and is_finite(magnitude)):
            break
        taken += 1
        _adam(weights, gradient, first, second, rate, recipe.steps + taken)
        if len(tokens_NLS) == 0:
            _move_codebooks(category, work.statistics, (recipe.steps + taken) % recipe.expiry_every == 0)
    for w in range(len(places_W)):
        stored.flat[places_W[w]] = weights[w]
        stored.first[places_W[w]] = first[w]
        stored.second[places_W[w]] = second[w]
    return taken
