"""Addresses of classes that moved; must not import torch."""

# The hash of a run covers `_target_`, as it was when the class came into the project: {address now: first address}.
# Whoever moves or renames a class adds a line, so that its runs keep their directories and old ones can be read.
FIRST_ADDRESS = {
    "seqrec.methods.autosam.Sampler": "seqrec.methods.sampler.Sampler",
    "seqrec.noise.TrainingNoise": "seqrec.data.training_noise.TrainingNoise",
}


def current_address(target: str) -> str:
    """Return where the class that `_target_` names stands today."""
    return next((now for now, first in FIRST_ADDRESS.items() if first == target), target)


def with_first_addresses(node):
    """Return plain values (nested dictionaries and lists) with every `_target_` as it was when its class was new."""
    if isinstance(node, list):
        return [with_first_addresses(value) for value in node]
    if not isinstance(node, dict):
        return node
    return {
        key: FIRST_ADDRESS.get(value, value)
        if key == "_target_" and isinstance(value, str)
        else with_first_addresses(value)
        for key, value in node.items()
    }
