"""A small method, a test set and what perturbs them, for the tests of robustness."""

from dataclasses import replace
from itertools import product

import job_setting
import torch

from seqrec.build import build
from seqrec.evaluation.attacks import random_items, slots
from seqrec.evaluation.attacks import replaced as put
from seqrec.evaluation.perturbation import PerturbedEvaluator, attack_cells, noise_cells
from seqrec.noise.foreign_items import ForeignItems
from seqrec.noise.registry import NoiseSettings
from seqrec.utils.keyed_random import user_keys

CPU = torch.device("cpu")
# most events follow from the event before
CHAINS = ["dataset.transition_share=.9", "dataset.successors=2", "dataset.memory=0"]
SMALL = ["dataset.users=200", "dataset.items=120", "dataset.clusters=6", "max_len=7", *CHAINS]
METHODS = {
    "markov": ["method=markov", "loss=none", "backbone=none"],
    "popularity": ["method=popularity", "loss=none", "backbone=none"],
    "plain": ["dim=8", "backbone.layers=1", "trainer.max_epochs=3", "trainer.batch_size=32", "trainer.progress=false"],
}


def configure(method):
    return job_setting.configure(*SMALL, *METHODS[method])


class Case:
    """A method, the test set and what the perturbations need; max_len is below the length of many histories."""

    def __init__(self, method, cutoff=5):
        built = build(configure(method))
        self.method, self.evaluator, self.test = built.method, built.evaluator, built.split.test
        self.keys = user_keys(built.dataset.user_ids)[self.test.user]
        self.foreign = ForeignItems(
            built.split.train, user_keys(built.dataset.user_ids), built.dataset.num_items, "uniform", 0.0
        )
        self.perturbed = PerturbedEvaluator(self.evaluator, self.method, CPU, self.test, cutoff)

    def noise(self, *operators, ratios, draws=2, seed=0, **where):
        grid = [NoiseSettings(name.split("+"), ratio, **where) for name, ratio in product(operators, ratios)]
        return list(noise_cells(self.perturbed, self.keys, seed, self.foreign, grid, draws))

    def attacks(self, *positions, counts=(1,), draws=2, worst=0, gradient=False, seed=0):
        who = (self.perturbed, self.keys, seed, self.foreign)
        return list(attack_cells(*who, positions, counts, draws, worst, gradient))

    def attacked(self, position, count, seed):
        """The visible inputs after one draw of random items."""
        visible = replace(self.test, inputs=self.perturbed.visible)
        row, offset = slots(visible.inputs, position, count, self.keys, seed)
        return put(visible.inputs, offset, random_items(visible, row, offset, self.keys, seed, self.foreign))


def plain_case():
    """Return the case of a trained method whose scores lie far apart."""
    case = Case("plain")
    with torch.no_grad():
        case.method.items.weight[1:] *= 20
    case.perturbed = PerturbedEvaluator(case.evaluator, case.method, CPU, case.test, 5)
    return case


class Recorder(torch.nn.Module):
    """Passes batches on and remembers them."""

    def __init__(self, method):
        super().__init__()
        self.method, self.batches = method, []

    def score(self, batch):
        self.batches.append(batch)
        return self.method.score(batch)


def lists_of(rows):
    """Return the items of each row as a list."""
    return [rows.items[a:b].tolist() for a, b in zip(rows.start, rows.stop, strict=True)]
