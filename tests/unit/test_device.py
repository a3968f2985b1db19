"""How arithmetic is set on a device, and that it is left as it was found."""

from __future__ import annotations

import pytest
import torch

from spinlock_dist.device import denormals_flushed


def flushed() -> bool:
    return (torch.tensor(1e-40) * torch.tensor(0.5)).item() == 0


@pytest.mark.parametrize("before", [False, True])
def test_flushing_of_denormals_is_as_it_was_before_also_after_an_error(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with denormals_flushed():
            assert flushed()
            with denormals_flushed():
                pass
            assert flushed()
        assert flushed() == before
        with pytest.raises(ValueError, match="inside"), denormals_flushed():
            raise ValueError("inside")
        assert flushed() == before
    finally:
        torch.set_flush_denormal(False)
