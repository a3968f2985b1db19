"""python -m results.report: what a study found, as one HTML file."""

from results.report.command import main
from spinlock_dist.errors import run_command

if __name__ == "__main__":
    run_command(main)
