"""Checks of single values and of values beside one another, before anything is built."""

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from seqrec.config.identity import NOT_HASHED
from seqrec.evaluation.metrics import TIES, check_monitor, check_names
from seqrec.utils.errors import UserError, nearest


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value) -> bool:
    return _whole(value) or isinstance(value, float)


def _positive(value) -> bool:
    return _whole(value) and value > 0


COUNTS = (
    *("dim", "max_len", "trainer.batch_size", "trainer.max_epochs", "trainer.eval_every", "trainer.patience"),
    *("trainer.num_nodes", "loss.negatives", "loss.chunk", "backbone.layers", "backbone.heads", "backbone.hidden"),
    *("backbone.feedforward", "backbone.low_components"),
)
COUNTS_OR_NULL = ("eval.valid_users", "trainer.plateau", "trainer.threads")
SWITCHES = ("force", "dry_run", "eval.mask_history", "trainer.prefixes")
DROPOUTS = ("backbone.dropout", "backbone.attention_dropout", "backbone.inner_dropout", "backbone.embedding_dropout")
RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(COUNTS, (_positive, "a whole number above 0")),
    **dict.fromkeys(COUNTS_OR_NULL, (lambda v: v is None or _positive(v), "null or a whole number above 0")),
    **dict.fromkeys(SWITCHES, (lambda v: isinstance(v, bool), "true or false")),
    **dict.fromkeys(DROPOUTS, (lambda v: _number(v) and 0 <= v < 1, "a number from 0 and below 1")),
    "seed": (lambda v: _whole(v) and 0 <= v < 2**63, "a whole number from 0 and below 2^63"),
    "data_dir": (lambda v: isinstance(v, str), "a folder"),
    "cache_dir": (lambda v: v is None or isinstance(v, str), "null or a folder"),
    "eval.cutoffs": (
        lambda v: len(v) > 0 and all(map(_positive, v)),
        "a list of whole numbers above 0, like [5,10,20]",
    ),
    "eval.ties": (lambda v: v in TIES, "expected, pessimistic or optimistic"),
    "trainer.warmup_epochs": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "trainer.plateau_factor": (lambda v: _number(v) and 0 < v <= 1, "a number above 0 and up to 1"),
    "trainer.schedule": (lambda v: v in ("constant", "linear", "cosine"), "constant, linear or cosine"),
    "trainer.clip": (lambda v: v is None or (_number(v) and v > 0), "null or a number above 0"),
    "trainer.max_minutes": (lambda v: v is None or (_number(v) and v > 0), "null or a number above 0"),
    "trainer.checkpoint_minutes": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "trainer.progress": (lambda v: v is None or isinstance(v, bool), "null, true or false"),
    "trainer.optimizer": (OmegaConf.is_dict, "a group with _target_ and lr"),
    "trainer.optimizer.lr": (lambda v: _number(v) and v > 0, "a number above 0"),
    "trainer.sparse": (lambda v: v == "auto" or isinstance(v, bool), "auto, true or false"),
    "trainer.devices": (lambda v: v == "auto" or _positive(v), "auto or a whole number above 0"),
    "trainer.precision": (lambda v: v in ("32-true", "bf16-mixed"), "32-true or bf16-mixed"),
    "loss.power": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "loss.calibration": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "fusion.runs": (OmegaConf.is_list, "a list of run directories, like [DIR,DIR]"),
    "split.quantile": (lambda v: _number(v) and 0 < v < 1, "a number above 0 and below 1"),
    "backbone.filter_weight": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "backbone.activation": (lambda v: v in ("gelu", "relu"), "gelu or relu"),
    "backbone.count_from": (lambda v: v in ("start", "end"), "start or end"),
    "backbone.norm_first": (lambda v: isinstance(v, bool) or v == "original", "true, false or original"),
}
# Of the groups that nothing is built from as a whole.
KNOWN = {"eval.name", "eval.metrics", "trainer.monitor", *NOT_HASHED, *RULES}
GROUPS = ("dataset", "split", "noise", "backbone", "loss", "method", "fusion", "trainer", "eval")
OF_GROUPS = tuple(f"{group}." for group in GROUPS if group not in ("trainer", "eval"))
NEEDED = [  # in every configuration
    *(*GROUPS, "dataset._target_", "split._target_", "method._target_"),
    *(f"{group}.name" for group in GROUPS if group != "trainer"),
    *sorted(key for key in KNOWN - {"variants", "logger", "trainer.optimizer.lr"} if not key.startswith(OF_GROUPS)),
]
EVALUATION = ("eval.cutoffs", "eval.metrics", "eval.mask_history", "eval.ties")
ABSENT = object()


def check(config: DictConfig) -> None:
    """Raise UserError, naming the key and the value, if a value makes no sense by itself or beside the others, or one is missing."""
    refuse_incomplete(config)
    for key in (f"{group}.{name}" for group in ("trainer", "eval") for name in config[group]):
        if key not in KNOWN:
            raise UserError(f"{key}: no such key{nearest(key, KNOWN)}")
    for key in RULES:
        check_value(config, key)
    if "heads" in config.backbone and config.dim % config.backbone.heads:
        raise UserError(f"dim={config.dim} cannot be shared by backbone.heads={config.backbone.heads}: take a multiple")
    check_names(config.eval.metrics)
    check_monitor(config.trainer.monitor, config.eval.metrics, config.eval.cutoffs)


def refuse_incomplete(config: DictConfig) -> None:
    """Raise UserError for a group that is none, and for a key of conf/config.yaml, trainer or eval that is missing."""
    for key in NEEDED:
        value = OmegaConf.select(config, key, default=ABSENT)
        if value is ABSENT:
            raise UserError(f"{key} is missing: keep it, and set another value if need be")
        if key in GROUPS and not OmegaConf.is_dict(value):
            raise UserError(f"{key}={value}: must be a group, like those in conf/{key}")


def check_value(config: DictConfig, key: str) -> None:
    """Raise UserError, naming key and value, if the value of a key makes no sense by itself."""
    (rule, wanted), value = RULES[key], OmegaConf.select(config, key, default=ABSENT)
    try:
        good = value is ABSENT or rule(value)  # of a loss, split or backbone that was not chosen
    except TypeError:
        good = False
    if not good:
        raise UserError(f"{key}={value}: must be {wanted}")


def with_evaluation(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the configuration with other values of `eval`, each given like eval.cutoffs=[1,50].

    Raises UserError for other keys and for values that make no sense.
    """
    changed = config.copy()
    for override in overrides:
        key = override.partition("=")[0]
        if key not in EVALUATION or "=" not in override:
            raise UserError(
                f"{override}: must be one of {', '.join(EVALUATION)}, with = and a value{nearest(key, EVALUATION)}"
            )
        try:
            changed.merge_with_dotlist([override])
        except (YAMLError, OmegaConfBaseException):
            raise UserError(f"{override}: the value cannot be read; lists are like {key}=[1,5]") from None
    for key in EVALUATION:
        if key in RULES:
            check_value(changed, key)
    check_names(changed.eval.metrics)
    return changed
