"""Which of the processes of a run this one is; must not import torch."""

import os

# Set by torchrun (RANK), Slurm's srun (SLURM_PROCID), and the first process of a machine for those that it starts (the others).
NUMBERS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


def is_first() -> bool:
    """Return whether this process is the one that locks, writes and prints for all processes of its run."""
    return not any(int(os.environ.get(name, 0)) for name in NUMBERS)


def is_first_of_machine() -> bool:
    """Return whether this is the first of the processes on this machine, which fail alike until they are connected."""
    return not any(int(os.environ.get(name, 0)) for name in ("LOCAL_RANK", "SLURM_LOCALID"))
