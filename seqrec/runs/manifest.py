"""Facts about a run that tell whether its metrics can be compared with others."""

import os
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from seqrec import __version__
from seqrec.utils.trust import flag

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "lightning-fabric", "hydra-core", "numpy", "pandas", "scipy")


def environment(device: torch.device) -> dict:
    """Return versions, git commit, machine and command; the processor is that of `device`."""
    return {
        "versions": {"seqrec": __version__, "python": platform.python_version(), **{n: version(n) for n in PACKAGES}},
        "git_commit": git_commit(),
        "machine": {"processor": processor(device), "cores": os.cpu_count(), "system": platform.system()},
        "command": [*sys.argv, *flag()],
        "overrides": list(HydraConfig.get().overrides.task)
        if HydraConfig.initialized()
        else None,  # of this job of a sweep
    }


def processor(device: torch.device) -> str:
    """Return the name of the accelerator or CPU that `device` is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listed = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", listed.read_text(), re.MULTILINE) if listed.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def git_commit(root: Path = ROOT) -> str | None:
    """Return the commit of the checkout, "+changes" appended where code was edited or added; None if it is no checkout."""
    if not (root / "train.py").exists():  # installed, perhaps below another project's repository
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "seqrec", "conf", "train.py")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of the process in bytes: on the accelerator if `device` is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def parameter_count(module: torch.nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
