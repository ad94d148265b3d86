"""Synthetic data set with known noise, known item attributes and a known process; the equations are in docs/synthetic.md."""

import hashlib
from dataclasses import dataclass

import numpy as np

from seqrec.data.dataset import Dataset
from seqrec.utils.errors import UserError, one_of

NOISE_SOURCES = ("uniform", "popularity")
DAY = 86400.0
ENDLESS = 1000  # tries after which an event no longer follows another: all successors may have been seen
CONCENTRATION = 0.3  # of the Dirichlet over a user's interests: most users have one main interest
# Every step of the process has its own generator, so that changing one step does not change the others.
WORLD, WALK, LENGTH, TIME, NOISE_COUNT, NOISE_PLACE, NOISE_TIME, NOISE_ITEM = range(8)


@dataclass(frozen=True)
class Synthetic:
    """Generator of a data set: users with drifting interests, items in clusters, transitions, labelled noise.

    The keys are explained in conf/dataset/synthetic.yaml. Raises UserError on a value outside its range.
    """

    name: str
    users: int
    items: int
    clusters: int
    zipf: float
    interests: int
    drift: float
    transition_share: float
    successors: int
    memory: float
    min_length: int
    mean_length: float
    max_length: int
    spurious_strength: float
    flip_test: bool
    noise_share: float
    noise_source: str
    span_days: float
    gap_days: float
    seed: int
    spurious_drift: float = 0.0

    def __post_init__(self):
        check(self)

    def load(self, data_dir=None, cache_dir=None) -> Dataset:
        """Generate the data set; both folders are ignored, because nothing is read or cached."""
        lengths = draw_lengths(self)
        world = World(self)
        history, _ = walk(self, world, lengths)
        user, step = np.nonzero(np.arange(history.shape[1]) < lengths[:, None])
        items, rank = history[user, step], step.astype(np.float64)
        times, before = draw_times(self, lengths)
        noise_user, noise_rank, noise_items = draw_noise(self, lengths, user, items)
        gap = np.ceil(noise_rank).astype(np.int64)
        start = before[noise_user, gap]
        noise_times = start + (noise_rank - gap + 1) * (times[noise_user, gap] - start)

        order = np.lexsort((np.concatenate([rank, noise_rank]), np.concatenate([user, noise_user])))
        counts = lengths + np.bincount(noise_user, minlength=self.users)
        arrays = {
            "items": np.concatenate([items, noise_items])[order].astype(np.int32),
            "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            "times": np.concatenate([times[user, step], noise_times])[order],
            "noise": order >= len(items),
        }
        digest = hashlib.sha256()
        for array in (*arrays.values(), world.attributes):
            digest.update(np.ascontiguousarray(array).tobytes())
        return Dataset(
            name=self.name,
            user_ids=np.arange(1, self.users + 1, dtype=np.int64),
            item_ids=np.arange(self.items + 1, dtype=np.int64),
            sha256=digest.hexdigest(),
            attributes={"cluster": world.attributes[:, :1], "style": world.attributes[:, 1:]},
            **arrays,
        )


class World:
    """The constants of the process: slots (two near-equivalent items each), their clusters, popularity and successors.

    `versions` [S, 2] holds the two items of a slot, the one of style 1 and the one of style 2; an odd number of items
    gives one slot the same item twice. `attributes` [V + 1, 2] holds cluster (1..C) and style (1 or 2); 0 is padding.
    """

    def __init__(self, config: Synthetic):
        rng = np.random.default_rng([config.seed, WORLD])
        slots, clusters = (config.items + 1) // 2, config.clusters
        self.cluster = np.arange(slots) * clusters // slots
        first = np.searchsorted(self.cluster, np.arange(clusters))
        weight = (np.arange(slots) - first[self.cluster] + 1.0) ** -config.zipf
        self.popularity = weight / np.bincount(self.cluster, weight)[self.cluster]  # p(slot | cluster), [S]
        self.ladder = np.cumsum(self.popularity)  # cluster c has the interval (c, c + 1]

        ids = rng.permutation(config.items) + 1
        self.versions = np.stack([ids[:slots], np.resize(ids[slots:], slots)], axis=1)
        if config.items % 2:
            self.versions[-1, 1] = self.versions[-1, 0]
        self.attributes = np.zeros((config.items + 1, 2), np.int32)
        for style in (1, 0):
            self.attributes[self.versions[:, style], 0] = self.cluster + 1
            self.attributes[self.versions[:, style], 1] = style + 1

        circle = rng.permutation(clusters)
        after = np.empty_like(circle)
        after[circle] = np.roll(circle, -1)  # the cluster that follows a cluster
        of_slot = np.repeat(after[self.cluster], config.successors)
        self.successors = self.draw_slot(of_slot, rng).reshape(slots, config.successors)
        weight = 1.0 / np.arange(1, config.successors + 1)
        self.successor_p = weight / weight.sum()

    def draw_slot(self, cluster, rng) -> np.ndarray:
        """One slot per entry of `cluster` [n], by popularity within it."""
        found = np.searchsorted(self.ladder, cluster + rng.random(len(cluster)), side="right")
        return np.minimum(found, len(self.ladder) - 1)

    def draw_successor(self, slot, rng) -> np.ndarray:
        """One successor per entry of `slot` [n]."""
        return self.successors[slot, rng.choice(len(self.successor_p), size=len(slot), p=self.successor_p)]


def draw_lengths(config) -> np.ndarray:
    """Lengths of the noise-free sequences [U]: min_length + Poisson with a log-normal rate, capped at max_length."""
    rng = np.random.default_rng([config.seed, LENGTH])
    rate = (config.mean_length - config.min_length) * np.exp(rng.standard_normal(config.users) - 0.5)
    return np.minimum(config.min_length + rng.poisson(rate), config.max_length)


def walk(config, world, lengths) -> tuple[np.ndarray, dict]:
    """The noise-free sequences [U, max(lengths)] and the hidden state of the users at their last step."""
    rng = np.random.default_rng([config.seed, WALK])
    users = len(lengths)
    interests = rng.integers(config.clusters, size=(users, config.interests))
    weights = rng.dirichlet(np.full(config.interests, CONCENTRATION), size=users)
    ladder = np.cumsum(weights, axis=1)[:, :-1]
    style = rng.integers(2, size=users)
    history = np.zeros((users, lengths.max()), np.int64)
    slots = np.zeros_like(history)

    def replace_one_interest(rows):
        interests[rows, rng.integers(config.interests, size=len(rows))] = rng.integers(config.clusters, size=len(rows))

    for step in range(lengths.max()):
        rows = np.flatnonzero(lengths > step)
        if step:
            replace_one_interest(rows[rng.random(len(rows)) < config.drift])
        tries = 0
        while len(rows):
            chosen = (rng.random((len(rows), 1)) > ladder[rows]).sum(1)
            slot = world.draw_slot(interests[rows, chosen], rng)
            if step and tries < ENDLESS:
                follows = rng.random(len(rows)) < config.transition_share
                lag = np.minimum(rng.geometric(1 - config.memory, size=len(rows)), step)[follows]
                slot[follows] = world.draw_successor(slots[rows[follows], step - lag], rng)
            age = step / (lengths[rows] - 1)  # 0 at a user's first event, 1 at the last
            strength = config.spurious_strength * (1 - config.spurious_drift * age)
            other = rng.random(len(rows)) >= (1 + strength) / 2
            item = world.versions[slot, style[rows] ^ other]
            new = (history[rows, :step] != item[:, None]).all(1)
            history[rows[new], step], slots[rows[new], step] = item[new], slot[new]
            rows = rows[~new]
            tries += 1
            if tries % 50 == 0:  # a user who has seen nearly all items of the interests gets a new one
                replace_one_interest(rows)
    if config.flip_test:
        # Replaced afterwards, so that only the last events differ from the data set without the flip.
        last = np.arange(users), lengths - 1
        twin = world.versions[slots[last], 2 - world.attributes[history[last], 1]]
        history[last] = np.where((history == twin[:, None]).any(1), history[last], twin)
    return history, {"interests": interests, "weights": weights, "style": style, "slots": slots}


def draw_times(config, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Times of the noise-free events and the times before them, in seconds, both [U, max(lengths)]."""
    rng = np.random.default_rng([config.seed, TIME])
    start = rng.random((len(lengths), 1)) * config.span_days * DAY
    gaps = 1.0 + rng.exponential(config.gap_days * DAY, size=(len(lengths), lengths.max()))
    times = start + np.cumsum(gaps, axis=1)
    return times, times - gaps


def draw_noise(config, lengths, user, items) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Foreign interactions: user, position and item, [M] each; position k - 1 < p < k is between clean events k - 1 and k.

    Draws are laid out [event of the user, user], so that a lower fraction has the first events of a higher one.
    """
    ratio = config.noise_share / (1 - config.noise_share)
    count = np.floor(ratio * lengths + np.random.default_rng([config.seed, NOISE_COUNT]).random(len(lengths)))
    grid = (int(count.max()), len(lengths))
    event, noise_user = np.nonzero(np.arange(grid[0])[:, None] < count)

    def draw(*stream):
        return np.random.default_rng([config.seed, *stream]).random(grid)[event, noise_user]

    gap = np.floor(draw(NOISE_PLACE) * (lengths[noise_user] - 1))
    # Not at the ends of the gap, so that rounding cannot reorder it with a clean event.
    where = gap - 1 + 0.01 + 0.98 * draw(NOISE_TIME)

    weight = np.ones(config.items)
    if config.noise_source == "popularity":
        last = np.cumsum(lengths)
        train = np.ones(len(items), bool)
        train[last - 1] = train[last - 2] = False
        weight += np.bincount(items[train] - 1, minlength=config.items)
    ladder = np.cumsum(weight)
    known = user * (config.items + 1) + items
    noise_items = np.zeros(len(event), np.int64)
    pending, attempt = np.ones(len(event), bool), 0
    while pending.any():
        position = draw(NOISE_ITEM, attempt)[pending] * ladder[-1]
        noise_items[pending] = np.minimum(np.searchsorted(ladder, position, side="right"), config.items - 1) + 1
        keys = noise_user * (config.items + 1) + noise_items
        # Of two equal items of a user the first one is kept, so that later draws do not change earlier ones.
        pending = np.ones(len(event), bool)
        pending[np.unique(keys, return_index=True)[1]] = False
        pending |= np.isin(keys, known)
        attempt += 1
    return noise_user, where, noise_items


def check(config) -> None:
    """Raise UserError for the first value that is outside its range."""
    for key, kind, low, high in (
        ("users", int, 1, None),
        ("items", int, 2, None),
        ("clusters", int, 1, None),
        ("zipf", float, 0, None),
        ("interests", int, 1, None),
        ("drift", float, 0, 1),
        ("transition_share", float, 0, 1),
        ("successors", int, 1, None),
        ("memory", float, 0, "below 1"),
        ("min_length", int, 3, None),
        ("max_length", int, config.min_length, None),
        ("mean_length", float, config.min_length, config.max_length),
        ("spurious_strength", float, 0, 1),
        ("spurious_drift", float, 0, 2),
        ("noise_share", float, 0, "below 1"),
        ("span_days", float, 0, None),
        ("gap_days", float, 0, None),
        ("seed", int, 0, None),
    ):
        value = getattr(config, key)
        number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        open_ended = {None: np.inf, "below 1": 1}
        if not number or not (low <= value < open_ended[high] if high in open_ended else low <= value <= high):
            sort = "a whole number" if kind is int else "a number"
            bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise UserError(f"dataset.{key}={value} does not fit: give {sort} {bounds}.")
    one_of("dataset.noise_source", config.noise_source, NOISE_SOURCES)
    if config.items < 2 * config.clusters:
        raise UserError(
            f"dataset.items={config.items} is too small for dataset.clusters={config.clusters}: "
            "give at least two items per cluster."
        )
    longest = int(np.ceil(np.round(config.max_length / (1 - config.noise_share), 6)))
    if config.items < 2 * longest:
        raise UserError(
            f"dataset.items={config.items} is too small: without repeats, dataset.max_length={config.max_length} at "
            f"dataset.noise_share={config.noise_share} needs at least {2 * longest} items."
        )
