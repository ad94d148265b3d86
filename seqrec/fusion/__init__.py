"""Late fusion of a trained model with transition counts, fitted on validation (docs/fusion.md)."""
