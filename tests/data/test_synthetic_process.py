"""The generator's clean process against docs/synthetic.md: drift, transitions, probabilities of items, spurious attribute."""

import itertools

import numpy as np
import pytest

from seqrec.data.synthetic import World, draw_lengths, walk
from tests.data.test_synthetic import make, rows_of, users_of


def simulate(config):
    world, lengths = World(config), draw_lengths(config)
    return world, lengths, *walk(config, world, lengths)


def overlap_of_ends(drift):
    """Mean overlap of the clusters of a user's first and last eight events, of forty."""
    config = make(drift=drift, transition_share=0, min_length=40, mean_length=40, max_length=40, clusters=8, items=1600)
    data = config.load()
    clusters = data.attributes["cluster"][data.items, 0].reshape(-1, 40)
    early, late = clusters[:, :8, None], clusters[:, None, -8:]
    return (early == late).mean()


def test_interests_drift():
    still, slow, fast = (overlap_of_ends(drift) for drift in (0, 0.02, 0.3))
    assert still > 0.6
    assert abs(fast - 1 / 8) < 0.02  # chance
    assert fast + 0.1 < slow < still - 0.1


def follow_rates(lags=(1, 2), **changes):
    """Share of the events that are a successor of the event so many steps before."""
    world, lengths, _, state = simulate(make(spurious_strength=0, **changes))
    slots, rates = state["slots"], []
    for lag in lags:
        live = np.arange(lag, slots.shape[1]) < lengths[:, None]
        hit = (world.successors[slots[:, :-lag]] == slots[:, lag:, None]).any(2)
        rates.append(hit[live].mean())
    return rates


def test_transitions_are_first_order_without_memory_and_reach_back_with_it():
    none = follow_rates(transition_share=0)
    first = follow_rates(transition_share=0.5, memory=0)
    further = follow_rates(transition_share=0.5, memory=0.5)
    assert none[0] < 0.05
    assert 0.4 < first[0] < 0.55
    assert first[1] < 0.1
    assert 0.2 < further[0] < 0.35
    assert further[1] > first[1] + 0.08


def test_the_kth_successor_weighs_one_over_k():
    config = make(transition_share=1, memory=0, zipf=0, items=20000, clusters=10, users=4000)
    world, lengths, _, state = simulate(config)
    assert (world.cluster[world.successors] == world.cluster[world.successors[:, :1]]).all()
    live = np.arange(1, lengths.max()) < lengths[:, None]
    step = (world.successors[state["slots"][:, :-1]] == state["slots"][:, 1:, None])[live].mean(0)
    np.testing.assert_allclose(step, np.array([12, 6, 4, 3]) / 25, atol=0.01)


def test_most_users_have_one_main_interest():
    weights = simulate(make(users=8000, interests=3))[-1]["weights"]
    np.testing.assert_allclose(weights.sum(1), 1)
    # of a Dirichlet with concentration a in j dimensions: (a + 1) / (j a + 1)
    assert abs((weights**2).sum(1).mean() - 1.3 / 1.9) < 0.01


# --- the whole process against its equation ------------------------------------------------------------------------


def next_item_probability(config, world, lengths, history, state):
    """p(last event | hidden state, everything before), one user and one item at a time, as docs/synthetic.md writes it."""
    scores = np.zeros((len(lengths), config.items + 1))
    match = (1 + config.spurious_strength) / 2
    for user, length in enumerate(lengths):
        slot = np.zeros(len(world.cluster))
        for weight, interest in zip(state["weights"][user], state["interests"][user], strict=True):
            inside = world.cluster == interest
            rank = np.arange(1, inside.sum() + 1)
            slot[inside] += (1 - config.transition_share) * weight * rank**-config.zipf / (rank**-config.zipf).sum()
        before = state["slots"][user, : length - 1]
        for lag in range(1, length):
            chance = (
                (1 - config.memory) * config.memory ** (lag - 1) if lag < length - 1 else config.memory ** (lag - 1)
            )
            for k, successor in enumerate(world.successors[before[-lag]]):
                share = 1 / (k + 1) / sum(1 / j for j in range(1, config.successors + 1))
                slot[successor] += config.transition_share * chance * share
        for style in (0, 1):
            scores[user, world.versions[:, style]] += slot * (match if style == state["style"][user] else 1 - match)
        scores[user, history[user, : length - 1]] = 0
    return scores / scores.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def process():
    config = make(users=4000)
    world, lengths, history, state = simulate(config)
    return config, lengths, history, next_item_probability(config, world, lengths, history, state)


def test_last_events_have_the_stated_probabilities(process):
    _, lengths, history, chance = process
    users = np.arange(len(lengths))
    target = chance[users, history[users, lengths - 1]]
    assert (target > 0).all()
    best = -np.sort(-chance, axis=1)
    for k in (1, 5, 20):
        inside = best[:, :k].sum(1)  # the stated chance that the target is among the k likeliest
        hits = target >= best[:, k - 1]
        assert abs(hits.mean() - inside.mean()) < 4 * np.sqrt((inside * (1 - inside)).sum()) / len(users) + 1e-3
    spread = (chance**3).sum(1) - (chance**2).sum(1) ** 2
    assert abs(target.mean() - (chance**2).sum(1).mean()) < 4 * np.sqrt(spread.sum()) / len(users)


def hit_rate_and_ndcg(scores, rows):
    hits, gains = [], []
    for score, row in zip(scores, rows, strict=True):
        masked = np.array(score, float)
        masked[0] = -np.inf
        masked[row[:-1]] = -np.inf
        better, equal = (masked > masked[row[-1]]).sum(), (masked == masked[row[-1]]).sum()
        places = np.arange(better + 1, better + equal + 1)
        hits.append((places <= 10).mean())
        gains.append(np.where(places <= 10, 1 / np.log2(places + 1), 0).mean())
    return np.mean(hits), np.mean(gains)


def test_default_orders_popularity_markov_history_and_oracle():
    """Prints the figures of docs/synthetic.md."""
    config = make()
    rows = rows_of(config.load())
    popular, follow = np.zeros(config.items + 1), np.zeros((config.items + 1, config.items + 1))
    for row in rows:
        for i, item in enumerate(row[:-2]):
            popular[item] += 1
            for distance, later in enumerate(row[i + 1 : -2][:20], start=1):
                follow[item, later] += 0.8 ** (distance - 1)
    world, lengths, history, state = simulate(config)
    history_scores = [sum(0.5**age * follow[item] for age, item in enumerate(row[-2::-1][:10])) for row in rows]
    figures = {
        "most popular": hit_rate_and_ndcg(itertools.repeat(popular, len(rows)), rows),
        "Markov, newest item": hit_rate_and_ndcg([follow[row[-2]] for row in rows], rows),
        "Markov, last 10 items weighted .5^age": hit_rate_and_ndcg(history_scores, rows),
        "oracle": hit_rate_and_ndcg(next_item_probability(config, world, lengths, history, state), rows),
    }
    for name, (hit_rate, ndcg) in figures.items():
        print(f"| {name} | {hit_rate:.4f} | {ndcg:.4f} |")
    popular, newest, longer, oracle = (hit_rate for hit_rate, _ in figures.values())
    assert 0.02 < popular < 0.08
    assert newest > 3 * popular
    assert longer > newest + 0.02
    assert oracle > longer + 0.15


# --- spurious attribute --------------------------------------------------------------------------------------------


def style_matches(**changes):
    """Share of the events whose item has the user's style: in the training part, at validation, at the test.

    In a small catalogue, popular items of the user's style run out, since none comes twice; hence the large one.
    """
    config = make(users=8000, items=40000, zipf=0, **changes)
    world, lengths, history, state = simulate(config)
    match = world.attributes[history, 1] - 1 == state["style"][:, None]
    users = np.arange(len(lengths))
    train = match[np.arange(history.shape[1]) < lengths[:, None] - 2]
    return train.mean(), match[users, lengths - 2].mean(), match[users, lengths - 1].mean()


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_spurious_attribute_follows_style_and_turns_in_the_test_only(strength):
    up = (1 + strength) / 2
    for flip in (False, True):
        train, valid, test = style_matches(spurious_strength=strength, flip_test=flip)
        assert abs(train - up) < 0.01
        assert abs(valid - up) < 0.02
        assert abs(test - (1 - up if flip else up)) < 0.02


@pytest.mark.parametrize("drift", [0.0, 1.0, 2.0])
def test_spurious_correlation_drifts_over_the_events_of_a_user(drift):
    config = make(
        users=8000, items=40000, zipf=0, min_length=11, mean_length=11, spurious_strength=0.8, spurious_drift=drift
    )
    world, lengths, history, state = simulate(config)
    match = world.attributes[history, 1] - 1 == state["style"][:, None]
    assert set(lengths) == {11}
    for step in (0, 5, 10):
        assert abs(match[:, step].mean() - (1 + 0.8 * (1 - drift * step / 10)) / 2) < 0.02


def test_spurious_correlation_can_be_read_from_the_data_alone():
    for flip in (False, True):
        data = make(spurious_strength=0.8, flip_test=flip).load()
        style = [data.attributes["style"][row, 0] - 1.5 for row in rows_of(data)]
        habit = np.array([values[:-2].mean() for values in style])
        assert np.corrcoef(habit, [values[-2] for values in style])[0, 1] > 0.3
        assert np.corrcoef(habit, [values[-1] for values in style])[0, 1] * (-1 if flip else 1) > 0.3


def test_flip_changes_last_events_only_and_to_the_near_equivalent():
    plain, flipped = make(noise_share=0.2).load(), make(noise_share=0.2, flip_test=True).load()
    last = plain.offsets[1:] - 1
    rest = np.ones(len(plain.items), bool)
    rest[last] = False
    # Noise keeps clear of the targets, so that a flipped target may move a noise item, rarely.
    assert (plain.items[rest & ~plain.noise] == flipped.items[rest & ~plain.noise]).all()
    assert (plain.items[plain.noise] != flipped.items[plain.noise]).mean() < 0.005
    assert (plain.noise == flipped.noise).all()
    assert (plain.times == flipped.times).all()
    assert (plain.items[last] != flipped.items[last]).mean() > 0.8  # the rest had the near-equivalent already
    cluster = plain.attributes["cluster"][:, 0]
    assert (cluster[plain.items[last]] == cluster[flipped.items[last]]).all()
    assert len(np.unique(users_of(flipped) * 1000 + flipped.items)) == len(flipped.items)
