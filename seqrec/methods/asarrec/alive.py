"""Whether AsarRec's views are of use: neither all equal to their histories nor hardly any."""

import logging

log = logging.getLogger("seqrec")

ALIVE = (0.1, 0.6)  # healthy fractions of views that differ from their history


def too_few_or_many(fraction: float, epoch: int, warned: bool) -> bool:
    """Return whether the fraction of views that differed in an epoch is outside the healthy range; warns unless `warned`."""
    outside = not ALIVE[0] <= fraction <= ALIVE[1]
    if outside and not warned:
        more, less = (
            "lower method.stay or raise method.gumbel or method.info_weight",
            "raise method.stay or lower method.diversity_weight",
        )
        log.warning(
            "warning: %.1f %% of the views differ from their history (epoch %d), healthy are %.0f-%.0f %%; %s",
            *(100 * fraction, epoch, 100 * ALIVE[0], 100 * ALIVE[1], more if fraction < ALIVE[0] else less),
        )
    return outside
