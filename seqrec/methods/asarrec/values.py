"""The values that AsarRec's keys may have."""

from seqrec.methods.asarrec.candidates import PLACES, SOURCES
from seqrec.methods.asarrec.objectives import INVARIANCE
from seqrec.utils.errors import UserError, one_of, within

LEARNT = "learnt"
INFO_SIGN = {"adversarial": -1.0, "cooperative": 1.0}
CHOICES = {
    "candidate_source": SOURCES,
    "candidate_place": PLACES,
    "info_mode": INFO_SIGN,
    "invariance": INVARIANCE,
    "augmenter_sees": ("embeddings", "states"),
}
BOUNDS = {
    "candidates": (0,),
    "candidate_recent": (1,),
    "gumbel": (0,),
    "iterations": (1,),
    "power": (1,),
    "threshold": (0, 1),
    "shortest": (1,),
    "least": (0, 1),
    "info_weight": (0,),
    "diversity_weight": (0,),
    "diversity_margin": (0,),
    "invariance_weight": (0,),
    "budget": (0, 1),
    "warmup_epochs": (0,),
}
MAY_BE_LEARNT = ("budget", "diversity_weight")


def check(given: dict[str, object]) -> None:
    """Raise UserError for the first value that is not allowed."""
    for key, allowed in CHOICES.items():
        one_of(f"method.{key}", given[key], allowed)
    for key, bounds in BOUNDS.items():
        if not (key in MAY_BE_LEARNT and given[key] == LEARNT):
            within(f"method.{key}", given[key], *bounds)
    for key in ("clip", "augmenter_clip"):
        if given[key] is not None and not given[key] > 0:
            raise UserError(f"method.{key}={given[key]}: must be null or a number above 0")
    if not 0 < given["stay"] < 1:
        raise UserError(f"method.stay={given['stay']}: a probability between 0 and 1 is needed")
    if given["candidate_place"] == "beside" and given["invariance"] != "R":
        raise UserError(
            f"method.candidate_place=beside: method.invariance={given['invariance']} counts slots, "
            "and candidates stand between them; take R"
        )
