"""Cost of simulating operators: seconds of one core per operator, by kind and in all.

    python benchmarks/generate.py [--grid 32] [--steps 64] [--realizations 2]

Reads CPU time, so that other processes on the machine disturb it little. Reference, one core of an AMD EPYC virtual
machine, torch 2.13: 15 to 18 ms an operator at the default settings, of which 8 for the simulation (noise 2,
steps 6) and 8 for the features (Fourier transforms 2, moments 2, channel covariances 0.7, quantiles 0.7).
"""

from __future__ import annotations

import argparse
import time

import torch

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.simulator.extract import BLOCK_ROWS, simulate_block
from spinlock_dist.simulator.parameters import KINDS, draw_parameters
from spinlock_dist.simulator.simulate import simulate


def main() -> None:
    """Print one line a kind (simulation alone) and one for a whole block with features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("grid", "steps", "realizations"):
        parser.add_argument(f"--{name}", type=int, default=getattr(SimulatorConfig(), name))
    config = SimulatorConfig(**vars(parser.parse_args()))
    torch.set_num_threads(1)
    simulate_block(SimulatorConfig(grid=8, steps=8), 0)  # warm up
    for kind in KINDS:
        print(f"{kind:20s} {_simulation_ms(kind, config):6.1f} ms an operator, without features")
    began = time.process_time()
    simulate_block(config, 0)
    print(f"{'all, with features':20s} {1e3 * (time.process_time() - began) / BLOCK_ROWS:6.1f} ms an operator")


def _simulation_ms(kind: str, config: SimulatorConfig) -> float:
    parameters = draw_parameters(0, 0, BLOCK_ROWS // len(KINDS))
    shape = {"grid": config.grid, "steps": config.steps, "realizations": config.realizations}
    began = time.process_time()
    simulate(kind, parameters, generator=torch.Generator().manual_seed(0), **shape)
    return 1e3 * (time.process_time() - began) / len(parameters)


if __name__ == "__main__":
    main()
