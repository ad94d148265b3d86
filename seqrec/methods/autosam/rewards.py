"""AutoSAM's two rewards, over log-probabilities of items (arXiv 2311.00388; equations in docs/methods/autosam.md)."""

import torch
from torch import Tensor


def discounted_return(reward: Tensor, discount: float) -> Tensor:
    """Return G_t = sum of discount^(j - t - 1) reward_j over the later slots j of reward [B, T], [B, T]."""
    slot = torch.arange(reward.shape[1], device=reward.device)
    gap = slot[:, None] - slot - 1  # from t (column) to j (row)
    return reward @ torch.where(gap >= 0, discount ** gap.clamp(min=0), 0.0).to(reward.dtype)


def surprises(log_probability: Tensor, known: Tensor, margin: float) -> Tensor:
    """Return z_t = ell_t - mean of the known ell of the row + margin for log-probabilities ell [B, T], [B, T]."""
    mean = (log_probability * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    return log_probability - mean + margin


def perplexity_reward(kept: Tensor, surprise: Tensor) -> Tensor:
    """Return r_t^pp = (2 a_t - 1) z_t of actions a = kept [B, T] and z = surprise [B, T]."""
    return (2 * kept.float() - 1) * surprise


def reinforce(reward: Tensor, kept: Tensor, probability: Tensor, max_len: int) -> Tensor:
    """Return L_RL = -sum of R_t log(pi(a_t) + 1e-12) over all slots, over B x max_len; a scalar.

    By the full width, so that neither trimming a batch nor grouping it by length changes the weight of the rewards.
    """
    chosen = torch.where(kept, probability, 1 - probability)
    return -(reward * (chosen + 1e-12).log()).sum() / (len(reward) * max_len)
