"""A small AutoSAM, a batch, and a slow literal reading of its equations (docs/methods/autosam.md)."""

import functools
import math

import job_setting
import torch
from omegaconf import OmegaConf

from seqrec.batch import Batch
from seqrec.methods.autosam.autosam import AutoSAM
from seqrec.methods.base import ModelSpec
from seqrec.utils.instantiate import make

ITEMS, DIM, MAX_LEN = 30, 8, 6
BACKBONES = ("sasrec", "gru4rec", "fmlprec")
LOSSES = ("cross_entropy", "sampled_softmax")


def keep_probability(method, seq):
    return method.keep_probability(Batch(torch.arange(len(seq)), seq, seq, seq))


@functools.cache
def configure(*overrides):
    return job_setting.configure("method=autosam", f"dim={DIM}", f"max_len={MAX_LEN}", *overrides)


def method_of(*overrides, items=ITEMS) -> AutoSAM:
    """A method with larger weights than at the start, so that nothing is nearly constant."""
    values = OmegaConf.to_container(configure("backbone.layers=1", *overrides), resolve=True)
    torch.manual_seed(3)
    spec = ModelSpec(make(values["backbone"]), make(values["loss"]), items, values["dim"], values["max_len"])
    method = make(values["method"], spec=spec)
    if method.loss.negatives:
        method.loss.setup(torch.full((items + 1,), -math.log(items)))
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if not name.endswith("gate"):
                parameter += 0.3 * torch.randn_like(parameter)
            else:
                parameter.fill_(0.7)
        method.items.weight[0] = 0
    return method


def batch_of(method, lengths=(6, 1, 4, 2, 3)) -> Batch:
    generator = torch.Generator().manual_seed(1)
    width = max(lengths)
    flat = torch.stack([torch.randperm(ITEMS, generator=generator)[: width + 1] + 1 for _ in lengths])
    real = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    seq, target = flat[:, :-1] * real, flat[:, 1:] * real
    if not method.backbone.causal:
        target[:, :-1] = 0
    negative = torch.randperm(ITEMS, generator=generator)[:7] + 1 if method.loss.negatives else None
    index = torch.where(real, torch.arange(real.numel()).view_as(seq), -1)
    return Batch(torch.arange(len(lengths)), seq, target, index, negative)


# ----------------------------------------------------------------- the literal oracle


def default_positions(method, count):
    """Positions of a history of `count` items."""
    if method.backbone.count_from == "start":
        return list(range(count))
    return [method.max_len - count + place for place in range(count)]


def state_after(method, items, places):
    """The state of the newest of `items`, alone in a batch; FMLP-Rec gets its row right-aligned."""
    x = method.items(torch.tensor([items]))
    return method.backbone(x, torch.ones(1, len(items), dtype=torch.bool), torch.tensor([places]))[0, -1]


def log_probability(method, state, item, negatives):
    others = range(1, ITEMS + 1) if negatives is None else [item, *(int(j) for j in negatives if int(j) != item)]
    total = sum(math.exp(float(state @ method.items.weight[j])) for j in others)
    return float(state @ method.items.weight[item]) - math.log(total)


def oracle(method, batch, probability, kept, popularity=None):
    """Everything that `losses` returns, by plain loops over rows and items; with `popularity` [V + 1] rewards are of PMI."""
    causal, rewarded_rows = method.backbone.causal, len(batch.seq)
    if not causal:
        rewarded_rows = math.ceil(method.reward_rows * len(batch.seq))
    rec, policy = [], 0.0
    count = dict.fromkeys(("items", "candidates", "confident"), 0)
    total = dict.fromkeys(("full", "gain", "future", "fit", "misfit"), 0.0)
    for b, row in enumerate(batch.seq.tolist()):
        items = [i for i in row if i]
        n, pad = len(items), len(row) - len([i for i in row if i])
        label = int(batch.target[b, -1])
        p, a = probability[b, pad:].tolist(), kept[b, pad:].tolist()
        place = default_positions(method, n)
        chosen = [t for t in range(n) if a[t]]

        def moved(places, predicts):
            """FMLP-Rec is run with the slot before the predicted one last."""
            return places if causal else [q + method.max_len - predicts for q in places]

        # L_rec
        if method.targets == "all":  # every item is a target, of the kept items before it
            for t in range(n) if causal else [n - 1]:
                sub = [s for s in chosen if s <= t]
                if sub:
                    state = state_after(method, [items[s] for s in sub], [place[s] for s in sub])
                    goal = items[t + 1] if t + 1 < n else label
                    rec.append(-log_probability(method, state, goal, batch.negative))
        for k in range(len(chosen)) if method.targets == "kept" else ():
            last = k == len(chosen) - 1
            if not causal and not last:
                continue
            goal = label if last else items[chosen[k + 1]]
            sub = chosen[: k + 1]
            state = state_after(method, [items[s] for s in sub], [place[s] for s in sub])
            rec.append(-log_probability(method, state, goal, batch.negative))
        if b >= rewarded_rows:
            continue

        # ell_t and ell^_t
        ell = [None] * n
        for t in range(1, n):
            state = state_after(method, items[:t], moved(place[:t], place[t]))
            ell[t] = log_probability(method, state, items[t], batch.negative)
        state = state_after(method, items, moved(place, place[-1] + 1))
        total["full"] -= sum(ell[1:]) + log_probability(method, state, label, batch.negative)
        if method.official_first_item and n < method.max_len:
            before = max(place[0] - 1, 0) if causal else method.max_len - 1
            state = method.backbone(
                torch.zeros(1, 1, DIM), torch.ones(1, 1, dtype=torch.bool), torch.tensor([[before]])
            )[0, 0]
            ell[0] = log_probability(method, state, items[0], batch.negative)
        future = [0.0] * n
        for k in range(1, len(chosen)):
            t, sub = chosen[k], chosen[:k]
            state = state_after(method, [items[s] for s in sub], moved([place[s] for s in sub], place[t]))
            gain = log_probability(method, state, items[t], batch.negative) - ell[t]
            total["gain"] += gain
            count["candidates"] += 1
            if p[t] >= method.threshold:
                count["confident"] += 1
                future[t] = gain

        # rewards
        if popularity is not None:
            ell = [value if value is None else value - math.log(popularity[items[t]]) for t, value in enumerate(ell)]
        known = [value for value in ell if value is not None]
        mean = sum(known) / len(known) if known else 0.0
        for t in range(n):
            if ell[t] is not None:
                z = ell[t] - mean + method.margin
            else:
                z = 0 - mean + method.margin if method.official_first_item else 0.0
            fit = (2 * a[t] - 1) * z
            ahead = sum(method.discount ** (j - (t + 1)) * future[j] for j in range(t + 1, n))
            reward = method.future_weight * ahead + method.perplexity_weight * fit
            policy -= reward * math.log((p[t] if a[t] else 1 - p[t]) + 1e-12)
            count["items"] += 1
            total["future"] += ahead
            total["fit"] += fit
            total["misfit"] += z < 0
    policy /= rewarded_rows * method.max_len
    every = probability[batch.seq > 0]
    return {
        "loss": sum(rec) / len(rec) + policy,
        "subsequence_loss": sum(rec) / len(rec),
        "kept_share": float(kept.sum()) / len(every),
        "keep_probability": sum(every.tolist()) / len(every),
        "keep_probability_sd": math.sqrt(sum((v - float(every.mean())) ** 2 for v in every.tolist()) / len(every)),
        "rl_loss": policy,
        "full_loss": total["full"] / count["items"],
        "future_gain": total["gain"] / max(count["candidates"], 1),
        "confident_share": count["confident"] / max(count["candidates"], 1),
        "future_reward": total["future"] / count["items"],
        "perplexity_reward": total["fit"] / count["items"],
        "misfit_share": total["misfit"] / count["items"],
    }


def force(monkeypatch, kept):
    """Let every draw come out as `kept` [B, T]."""
    monkeypatch.setattr(torch, "rand_like", lambda p: torch.where(kept[: len(p), -p.shape[1] :], -1.0, 2.0))


KEPT = torch.tensor(
    [[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]],
    dtype=torch.bool,
)
