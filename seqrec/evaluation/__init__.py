"""Everything that examines a finished model: ranks, metrics, perturbed inputs, recommendations."""
