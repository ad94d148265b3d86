"""A prepared data set in memory: flat arrays, no Python object per user."""

from dataclasses import dataclass, field

import numpy as np

from seqrec.utils.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """Interactions of all users, sorted by user and then by time (compressed sparse rows).

    Users are 0..U-1, items 1..V (0 is padding); `user_ids` and `item_ids` give the raw ids.
    """

    name: str
    items: np.ndarray  # [N] int32, oldest first within a user
    offsets: np.ndarray  # [U + 1] int64; the items of user u are items[offsets[u]:offsets[u + 1]]
    user_ids: np.ndarray  # [U] int64 or str: the id in the raw file
    item_ids: np.ndarray  # [V + 1] int64 or str; entry 0 belongs to padding (0 or "")
    times: np.ndarray | None = None  # [N] float64, unix seconds or any increasing unit
    noise: np.ndarray | None = None  # [N] bool, True where an interaction is known to be noise
    attributes: dict[str, np.ndarray] = field(default_factory=dict)  # kind -> [V + 1, A] int32, values from 1; 0 = none
    sha256: str = ""  # of the raw file, or of the generated arrays
    stamp: list | None = None  # path, size and time of change of the raw files
    warnings: tuple[str, ...] = field(default=())  # differences from expectations, for the screen and the manifest

    @property
    def num_users(self) -> int:
        """Number of users U."""
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """Number of items V, without padding."""
        return len(self.item_ids) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        own = (self.items, self.offsets, self.user_ids, self.item_ids, self.times, self.noise)
        return sum(array.nbytes for array in (*own, *self.attributes.values()) if array is not None)

    def users_of(self, ids: list[str]) -> np.ndarray:
        """Return the users 0..U-1 that have these ids, [R]; raises UserError for an unknown id."""
        index_of = {str(user): index for index, user in enumerate(self.user_ids.tolist())}
        if unknown := [user for user in ids if user not in index_of]:
            raise UserError(f"user {unknown[0]} is not in '{self.name}' (its ids look like {self.user_ids[0]})")
        return np.array([index_of[user] for user in ids])

    def statistics(self) -> dict:
        """Counts that describe the data; `tie_share` is the fraction of interactions at the same time as the user's previous one."""
        lengths = np.diff(self.offsets)
        facts = {
            "users": self.num_users,
            "items": self.num_items,
            "interactions": len(self.items),
            "mean_length": round(float(lengths.mean()), 3),
            "median_length": float(np.median(lengths)),
            "min_length": int(lengths.min()),
            "max_length": int(lengths.max()),
        }
        if self.times is not None:
            same = self.times[1:] == self.times[:-1]
            first = self.offsets[1:-1] - 1
            same[first[(first >= 0) & (first < len(same))]] = False
            facts["tie_share"] = round(float(same.sum()) / len(self.items), 4)
        if self.noise is not None:
            facts["noise_share"] = round(float(self.noise.mean()), 4)
        return facts
