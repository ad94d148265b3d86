"""Markov counts: how often items followed those of the history in training, within a window. A strong untrained baseline."""

from collections.abc import Callable

import torch
from torch import Tensor

from seqrec.batch import Batch
from seqrec.data.sequences import Sequences
from seqrec.data.transitions import history_weights, transition_counts
from seqrec.methods.base import Untrained
from seqrec.utils.errors import UserError, within

CANDIDATE_DECAYS = (0.0, 0.3, 0.5, 0.7, 0.9)


class Markov(Untrained):
    """Transition counts T[i, j] += decay^(d - 1) for training pairs (i, then j) at distance d <= window.

    The score of j is the sum over the newest `history` items of history_decay^age T[item, j]; with history_decay 0 it is
    the row of the newest item alone. "auto" chooses the value of {0, .3, .5, .7, .9} that is best on validation.
    Raises UserError for another history_decay.
    """

    def __init__(
        self, num_items: int, max_len: int, window: int, decay: float, history: int, history_decay: float | str
    ):
        super().__init__(num_items, max_len)
        number = isinstance(history_decay, int | float) and not isinstance(history_decay, bool)
        if history_decay != "auto" and not (number and 0 <= history_decay <= 1):
            raise UserError(f"method.history_decay={history_decay}: must be auto or a number from 0 to 1")
        for key, value in (("window", window), ("history", history)):
            within(f"method.{key}", value, 1)
        within("method.decay", decay, 0, 1)
        self.window, self.decay, self.history, self.chosen = window, decay, history, history_decay == "auto"
        # until validation has chosen, as in a dry run: the one that sees the whole history, so that no cost is hidden
        self.history_decay = CANDIDATE_DECAYS[-1] if self.chosen else history_decay

    def setup(self, train: Sequences) -> None:
        """Count the transitions of the training sequences."""
        self.transitions = transition_counts(train, self.num_items, self.window, self.decay)

    def tune_on_validation(self, evaluate: Callable[[], float]) -> str:
        """Set history_decay, where it is "auto", to the candidate with the best validation metric."""
        if not self.chosen:
            return ""
        values = {}
        for self.history_decay in CANDIDATE_DECAYS:
            values[self.history_decay] = evaluate()
        self.history_decay = max(values, key=values.get)
        return f"method.history_decay={self.history_decay} is best on validation"

    def score(self, batch: Batch) -> Tensor:
        """Return decayed transition counts, [B, V + 1]."""
        history = history_weights(batch.seq.cpu().numpy(), self.history_decay, self.history, self.num_items)
        return torch.from_numpy((history @ self.transitions).toarray()).to(batch.seq.device)
