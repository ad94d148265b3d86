"""`seqrec.run` and `seqrec.load`, for notebooks and scripts."""

import warnings
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seqrec.cli import compose_config, explain, set_up_logging
from seqrec.commands.train import job
from seqrec.runs.directory import RunDir
from seqrec.utils.errors import UserError


@dataclass(frozen=True)
class Run:
    """A finished run."""

    directory: Path
    config: DictConfig
    metrics: dict  # metrics.json: validation, test, best epoch
    ranks: dict[str, np.ndarray]  # ranks_test.npz: arrays [R], a row per user of the test set


def run(overrides: Sequence[str] = (), directory: str | Path | None = None) -> Run:
    """Run one experiment as the command line does, from any working directory; a run that is complete is returned at once.

    `overrides` are those of the command line, such as ["method=asarrec", "dataset=beauty"]. `directory` is the run directory;
    by default it is below outputs/. Raises UserError for what the user can fix.
    """
    if isinstance(overrides, str):
        raise UserError(f'overrides: give a list, as in ["{overrides}"]')
    set_up_logging()
    hydra_config = HydraConfig.instance()
    before = hydra_config.cfg
    try:
        config = compose_config(list(overrides), return_hydra_config=True)
        folder = Path(config.hydra.run.dir if directory is None else directory)
        if config.dry_run or (config.trainer.devices, config.trainer.num_nodes) != (1, 1):
            raise UserError("dry_run=true and trainer.devices other than 1 work on the command line only")
        hydra_config.set_config(config)  # the manifest keeps the overrides
        job(config, folder)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, list(overrides))) from None
    finally:
        hydra_config.cfg = before
    run_dir = RunDir(folder)
    return Run(folder, run_dir.config(), run_dir.metrics(), run_dir.ranks())


class Model:
    """The method of a run at its best epoch. Histories are lists of raw item ids, oldest first, of users known or new.

    Item ids that are not in the run's data are skipped with a warning; UserError where none is left.
    """

    def __init__(self, directory: Path, data_dir: str | None):
        from seqrec.build import load as load_experiment

        self._experiment = load_experiment(directory, data_dir=data_dir)
        self.item_ids: np.ndarray = self._experiment.dataset.item_ids[1:]  # [V] raw ids

    def score(self, sequences: Sequence[Sequence], mask_history: bool = True) -> np.ndarray:
        """Return the score of every item as the next one, [B, V] in the order of `item_ids`; -inf at masked items."""
        from seqrec.evaluation.recommend import scores

        experiment, wanted = self._experiment, self._rows(sequences)
        found = np.empty((len(sequences), len(self.item_ids)), np.float32)
        given = (experiment.scorer, wanted, len(self.item_ids), experiment.fabric.device, mask_history)
        for rows, scored in scores(*given):
            found[rows] = scored[:, 1:].cpu().numpy()
        return found

    def recommend(self, sequences: Sequence[Sequence], k: int = 10, mask_history: bool = True) -> list[list]:
        """Return the raw ids of the `k` best items after each sequence, best first; fewer where fewer are left."""
        from seqrec.evaluation.recommend import recommend

        if not isinstance(k, int | np.integer) or k < 1:
            raise UserError(f"k={k}: must be a whole number above 0")
        experiment, rows = self._experiment, self._rows(sequences)
        return recommend(experiment.scorer, experiment.dataset, rows, k, experiment.fabric.device, mask_history)

    def _rows(self, sequences: Sequence[Sequence]):
        from seqrec.evaluation.recommend import of_sequences

        several = isinstance(sequences, Sized)
        if not several or any(isinstance(each, str) or not isinstance(each, Sized) for each in sequences):
            raise UserError("sequences: give a list of item ids per user, as in [[1, 2, 3], [4, 5]]")
        rows, unknown = of_sequences(self._experiment.dataset, sequences)
        if unknown:
            warnings.warn(f"{unknown} unknown item ids skipped", stacklevel=3)
        return rows


def load(directory: str | Path, data_dir: str | None = None) -> Model:
    """Return the model of a run directory; `data_dir` is the folder of the raw data if it has moved.

    Raises UserError for a folder that is no run directory, and for other data than the run had.
    """
    return Model(Path(directory), data_dir)
