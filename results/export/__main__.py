"""python -m results.export: a trial of a study as a file that works without the study."""

from results.export.command import main
from spinlock_dist.errors import run_command

if __name__ == "__main__":
    run_command(main)
