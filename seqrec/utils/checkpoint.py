"""Checkpoints: tensors and plain values only, written to a temporary name and renamed, read with weights_only."""

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import nn

from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically


@contextmanager
def damage_named(file: str, advice: str) -> Iterator[None]:
    """Turn whatever reading a damaged file raises into a UserError of one line."""
    try:
        yield
    except (UserError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # there is no end to what damage makes of a file
        raise UserError(f"{file} is damaged, or of another version ({type(error).__name__}); {advice}") from error


class Checkpoints:
    """The two checkpoints of a run directory: `best.pt` (weights) and `last.pt` (the full training state)."""

    def __init__(self, folder: Path, config_hash: str, data_sha256: str):
        self.folder = folder
        self.identity = {"config_hash": config_hash, "data_sha256": data_sha256}

    def save(self, name: str, state: dict) -> None:
        """Write a checkpoint; after a crash at any moment the file is the old one or the new one."""
        write_atomically(self.folder / name, lambda stream: torch.save({**state, **self.identity}, stream))

    def load(self, name: str) -> dict | None:
        """Read a checkpoint, or None where there is none.

        Raises UserError if it is damaged, of another configuration or of other data.
        """
        path = self.folder / name
        if not path.exists():
            return None
        with self.damage_named(name):
            state = _read(path)
            of = {"data_sha256": self.identity["data_sha256"], **state}  # early checkpoints have no data hash
            of = {key: of[key] for key in self.identity}
        for key, now in self.identity.items():
            if of[key] != now:
                raise UserError(
                    f"{path} belongs to another run ({key} {of[key]}, now {now}); "
                    "take another hydra.run.dir, or start again with force=true"
                )
        return state

    def load_best(self, module: nn.Module) -> int | None:
        """Load the weights of best.pt; returns their epoch, or None where there is no such file. Raises as `load` does."""
        best = self.load("best.pt")
        if best is None:
            return None
        with self.damage_named("best.pt"):
            module.load_state_dict(best["model"])
            return best["epoch"]

    def damage_named(self, name: str) -> AbstractContextManager[None]:
        """Turn what a damaged checkpoint, or one with other parts, raises into a UserError."""
        return damage_named(str(self.folder / name), "start again with force=true")


def take_over(module: nn.Module, parts: tuple[str, ...], folder: str, key: str, advice: str) -> None:
    """Load the weights whose names begin with one of `parts` from the best epoch of another run's directory.

    Raises UserError, naming the configuration `key`, if they are missing or do not fit; `advice` is what must agree.
    """
    path = Path(folder) / "best.pt"
    if not path.exists():
        raise UserError(f"{key}={folder}: there is no best.pt in it; give the directory of a run of a trained method")
    with damage_named(f"{key}={folder}: best.pt", "do that run again"):
        there = _read(path)["model"]
        saved, own = ({n: v for n, v in state.items() if n.startswith(parts)} for state in (there, module.state_dict()))
    for name in own | saved:
        shape, here = (tuple(state[name].shape) if name in state else "missing" for state in (saved, own))
        if shape != here:
            raise UserError(f"{key}={folder}: {name} is {shape} there and {here} here; {advice}")
    module.load_state_dict(saved, strict=False)


def _read(path: Path) -> dict:
    with path.open("rb") as content:  # once, since another process may replace the file
        with zipfile.ZipFile(content) as archive:
            if archive.testzip():  # torch itself does not look at the checksums
                raise zipfile.BadZipFile
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)


def random_state() -> dict:
    """Return the state of torch's global generators."""
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict) -> None:
    """Set the global generators to what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
