"""What holds for every quantizer: each is one entry in `CASES`."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.quantizers import QUANTIZERS, Quantizer, build_quantizer
from tests.quantizers import start_on

DIMS = torch.tensor([[4, 6, 3], [4, 2, 5]])
ROWS = 300

Case = tuple[QuantizerConfig, Tensor]
ONE_BOOK = [[[8], [3], [1]], [[5], [16], [4]]]
TWO_BOOKS = [[[8, 8], [3, 1], [1, 1]], [[5, 4], [16, 12], [4, 1]]]
CASES: dict[str, tuple[dict, list]] = {
    "ema": ({"kind": "ema"}, ONE_BOOK),
    "ema, several codebooks": ({"kind": "ema"}, TWO_BOOKS),
    "fsq, 2 values": ({"kind": "fsq", "fsq_levels": 2}, [[[16], [8], [1]], [[2], [4], [32]]]),
    "fsq, 3 values": ({"kind": "fsq", "fsq_levels": 3}, [[[81], [9], [1]], [[3], [9], [27]]]),
    "fsq, 4 values": ({"kind": "fsq", "fsq_levels": 4}, [[[256], [16], [1]], [[4], [16], [64]]]),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    settings, codes = CASES[request.param]
    return QuantizerConfig(**settings), torch.tensor(codes)


def latents(rows: int = ROWS, seed: int = 0) -> Tensor:
    width = int(DIMS.max())
    z = torch.randn(2, 3, rows, width, generator=Generator().manual_seed(seed))
    return z * (torch.arange(width) < DIMS[:, :, None, None])


def started(case: Case, members: slice = slice(None)) -> Quantizer:
    config, codes = case
    quantizer = build_quantizer(DIMS[members], codes[members], config)
    start_on(quantizer, latents()[members, ..., : int(DIMS[members].max())], range(2)[members], batch_size=64)
    return quantizer


def test_every_registered_quantizer_is_held_to_the_contract() -> None:
    assert {settings["kind"] for settings, _ in CASES.values()} == set(QUANTIZERS)
    for kind in QUANTIZERS:
        assert QuantizerConfig(kind=kind).kind == kind
    with pytest.raises(ValidationError, match="unknown quantizer 'emma'; did you mean 'ema'"):
        QuantizerConfig(kind="emma")


class TestQuantizer:
    def test_tokens_stand_for_the_codes_and_lie_within_their_codebooks(self, case: Case) -> None:
        quantizer = started(case)
        result = quantizer(latents(seed=1))
        assert result.tokens_MGBS.shape == (2, 3, ROWS, case[1].shape[2])
        assert (result.tokens_MGBS >= 0).all() and (result.tokens_MGBS < case[1][:, :, None]).all()
        torch.testing.assert_close(quantizer.lookup(result.tokens_MGBS), result.codes_MGBZ)
        torch.testing.assert_close(result.straight_through_MGBZ, result.codes_MGBZ)

    def test_padding_stays_zero_and_a_level_off_has_one_code(self, case: Case) -> None:
        quantizer = started(case)
        result = quantizer(latents(seed=1))
        width = int(DIMS.max())
        padding = torch.arange(width) >= DIMS[:, :, None, None]
        assert not (result.codes_MGBZ * padding).any()
        assert (result.codes_MGBZ[0, 2] == result.codes_MGBZ[0, 2, :1]).all()

    def test_gradient_reaches_the_latent_alone(self, case: Case) -> None:
        quantizer = started(case)
        z = latents(seed=1).requires_grad_(True)
        quantizer(z).straight_through_MGBZ.sum().backward()
        assert z.grad is not None and torch.isfinite(z.grad).all()
        assert (z.grad[0, 0, :, :4] > 0).all(), "straight-through: more latent, more code"
        assert list(quantizer.parameters()) == []

    @pytest.mark.parametrize("compiled", [False, True])
    def test_the_start_returns_what_quantizing_the_same_latents_gives(self, case: Case, compiled: bool) -> None:
        config, codes = case
        quantizer = build_quantizer(DIMS, codes, config)
        z = latents()
        returned = start_on(quantizer, z, [0, 1], batch_size=64, compiled=compiled)
        torch.testing.assert_close(returned, quantizer(z).codes_MGBZ, rtol=1e-4, atol=1e-5)

    def test_the_start_leaves_less_error_than_one_code_would(self, case: Case) -> None:
        z = latents()
        left = (z - started(case)(z).codes_MGBZ).square().sum(dim=(2, 3))
        spread = (z - z.mean(dim=2, keepdim=True)).square().sum(dim=(2, 3))
        assert (left[0, :2] < 0.9 * spread[0, :2]).all() and (left[1, 1:] < spread[1, 1:]).all()

    def test_a_row_does_not_depend_on_its_batch_nor_a_member_on_the_others(self, case: Case) -> None:
        quantizer, z = started(case), latents(seed=1)
        together = quantizer(z)
        assert torch.equal(quantizer(z[:, :, 7:8]).tokens_MGBS, together.tokens_MGBS[:, :, 7:8])
        alone = started(case, slice(1, 2))
        width = int(DIMS[1].max())
        assert torch.equal(alone(z[1:, ..., :width]).tokens_MGBS, together.tokens_MGBS[1:])

    def test_a_dead_member_does_not_move(self, case: Case) -> None:
        quantizer, z = started(case), latents(seed=1)
        before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
        for _ in range(5):
            quantizer.update(quantizer(z), torch.tensor([True, False]), expire=True)
        for name, tensor in quantizer.state_dict().items():
            assert torch.equal(tensor[1], before[name][1])

    def test_state_survives_a_reload(self, case: Case) -> None:
        quantizer, z = started(case), latents(seed=1)
        fresh = build_quantizer(DIMS, case[1], case[0])
        fresh.load_state_dict(quantizer.state_dict())
        assert torch.equal(fresh(z).codes_MGBZ, quantizer(z).codes_MGBZ)

    def test_a_start_without_data_is_finite_and_repeatable(self, case: Case) -> None:
        outputs = []
        for _ in range(2):
            quantizer = build_quantizer(DIMS, case[1], case[0])
            for member in range(2):
                generator = Generator().manual_seed(member)
                for group in range(DIMS.shape[1]):
                    quantizer.start_from_noise(member, group, generator)
            outputs.append(quantizer(latents()).codes_MGBZ)
        assert torch.isfinite(outputs[0]).all() and torch.equal(*outputs)


def test_a_further_codebook_lowers_the_error() -> None:
    z = latents()
    one, two = (started((QuantizerConfig(), torch.tensor(codes))) for codes in (ONE_BOOK, TWO_BOOKS))
    left_one, left_two = ((z - each(z).codes_MGBZ).square().sum(dim=(2, 3)) for each in (one, two))
    more = torch.tensor(TWO_BOOKS)[..., 1] > 1
    assert (left_two[more] < 0.8 * left_one[more]).all()
    torch.testing.assert_close(left_two[~more], left_one[~more], rtol=0.2, atol=1e-3)
