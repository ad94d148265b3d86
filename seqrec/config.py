"""Configuration checks, hash and run path; must not import torch."""

import re
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from seqrec.evaluation.metrics import DEFAULT, TIES, check_monitor, check_names
from seqrec.utils.addresses import with_first_addresses
from seqrec.utils.errors import UserError, nearest
from seqrec.utils.plain_values import digest

# Keys that came after the first runs, with the value that stands for what the code did before. The hash leaves them out at
# that value, so that new keys do not move old runs; configurations of old runs are read with it.
YOUNGER_KEYS = {
    "fusion": {"name": "none"},
    "eval.metrics": list(DEFAULT),
    "dataset.encoding": "utf-8",
    "dataset.header": "auto",
    "dataset.quotes": True,
    "dataset.keep": None,
    "eval.valid_users": None,
    "trainer.sparse": "auto",
    "dataset.spurious_drift": 0.0,
    "dataset.attributes": None,
    "dataset.attribute_columns": None,
    "method.augmenter_sees": "embeddings",
    "method.occupancy": False,
    "method.sampler.kind": "transformer",
    "method.reward": "likelihood",
    "method.targets": "kept",
    "method.confounder": "ids",
    "method.attributes": None,
    "method.relative": False,
    "method.gap_weight": 0.0,
    "trainer.devices": 1,  # with more devices each process contrasts only its shard of a batch
}
# Keys that say where and how a run is done, not what comes out of it.
NOT_HASHED = (
    "variant",
    "variants",
    "data_dir",
    "cache_dir",
    "output_dir",
    "force",
    "dry_run",
    "logger",
    "dataset.url",
    "dataset.home",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.threads",
    "trainer.progress",
    "trainer.checkpoint_minutes",
)
PLAIN_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,200}")


def apply_variant(config: DictConfig) -> DictConfig:
    """Return the configuration with the changes that `variant` stands for, and without the list of variants and the search space.

    Raises UserError for a variant that is not listed, or that changes a key that is not there.
    """
    changed = OmegaConf.masked_copy(config, [key for key in config if key not in ("hydra", "variants", "tune")])
    if config.variant is None:
        return changed
    OmegaConf.set_struct(changed, True)
    listed = config.get("variants") if OmegaConf.is_dict(config.get("variants")) else {}
    if config.variant not in listed:
        known = f"there are {', '.join(listed)}" if listed else "choose an experiment that has some"
        raise UserError(f"variant={config.variant}: no such variant; {known}")
    for key, value in config.variants[config.variant].items():
        old = OmegaConf.select(config, key)
        if key == "variant" or (OmegaConf.is_dict(old) and "_target_" in old):
            raise UserError(
                f"variants.{config.variant}.{key}: a variant changes single keys, not the choice of a group"
            )
        try:
            OmegaConf.update(changed, key, value, merge=False)
        except OmegaConfBaseException:
            raise UserError(f"variants.{config.variant}.{key}: no such key") from None
    if OmegaConf.select(changed, "dataset.url") != OmegaConf.select(config, "dataset.url"):
        raise UserError(f"variants.{config.variant}: a variant cannot change dataset.url")
    return changed


def hashed_values(config: DictConfig | dict) -> dict:
    """Return the resolved configuration without the keys that do not change the result, and with first addresses."""
    values = with_first_addresses(
        OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    )
    for key in (*NOT_HASHED, *YOUNGER_KEYS):
        *groups, name = key.split(".")
        node = values
        for group in groups:
            node = node[group] if key in NOT_HASHED else node.get(group, {})  # which earlier runs may lack
        if key in NOT_HASHED or node.get(name) == YOUNGER_KEYS[key]:
            node.pop(name, None)
    return values


def with_younger_keys(config: DictConfig) -> DictConfig:
    """Return the configuration of an earlier run with the keys that came later, at the value of its time."""
    for key, value in YOUNGER_KEYS.items():
        # what is built from a group has the defaults of its class
        if OmegaConf.select(config, key) is None and not key.startswith(("dataset.", "method.")):
            OmegaConf.update(config, key, value, force_add=True)
    return config


def config_hash(config: DictConfig | dict) -> str:
    """Return 8 hexadecimal digits that differ wherever the results may differ."""
    return digest(hashed_values(config))


def training_hash(config: DictConfig | dict) -> str:
    """Return 8 hexadecimal digits that are the same where training and its best epoch are: whatever eval.cutoffs and metrics are."""
    values = hashed_values(config)
    values["eval"] = {key: value for key, value in values["eval"].items() if key not in ("cutoffs", "metrics")}
    return digest(values)


def without_fusion(config: DictConfig) -> DictConfig:
    """Return the configuration of the run whose trained model a fused run takes."""
    alone = config.copy()
    alone.fusion = YOUNGER_KEYS["fusion"]
    return alone


def method_name(config: DictConfig | dict) -> str:
    """Return the method's name, with what it is fused with: plain, plain+counts."""
    name, fusion = config["method"]["name"], (config.get("fusion") or YOUNGER_KEYS["fusion"])["name"]
    return name if fusion == "none" or name == fusion else f"{name}+{fusion}"


def run_path(config: DictConfig) -> str:
    """Return <dataset>/<noise>/<backbone>-<method>[-<variant>]/seed<k>-<hash>.

    Raises UserError for a name that would lead elsewhere.
    """
    config = apply_variant(config) if "variants" in config else config  # the changes are made already
    noise = config.noise.name if "ratio" not in config.noise else f"{config.noise.name}-{config.noise.ratio}"
    model = "-".join(str(name) for name in (config.backbone.name, method_name(config), config.variant) if name)
    names = (str(config.dataset.name), noise, model, f"seed{config.seed}-{config_hash(config)}")
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise UserError(f"{name!r}: a name becomes a folder; give names without /, \\ and control characters")
    return "/".join(names)


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value) -> bool:
    return _whole(value) or isinstance(value, float)


def _positive(value) -> bool:
    return _whole(value) and value > 0


RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "seed": (lambda v: _whole(v) and 0 <= v < 2**63, "a whole number from 0 and below 2^63"),
    "dim": (_positive, "a whole number above 0"),
    "max_len": (_positive, "a whole number above 0"),
    "data_dir": (lambda v: isinstance(v, str), "a folder"),
    "cache_dir": (lambda v: v is None or isinstance(v, str), "null or a folder"),
    "force": (lambda v: isinstance(v, bool), "true or false"),
    "dry_run": (lambda v: isinstance(v, bool), "true or false"),
    "eval.cutoffs": (
        lambda v: len(v) > 0 and all(map(_positive, v)),
        "a list of whole numbers above 0, like [5,10,20]",
    ),
    "eval.valid_users": (lambda v: v is None or _positive(v), "null or a whole number above 0"),
    "eval.mask_history": (lambda v: isinstance(v, bool), "true or false"),
    "eval.ties": (lambda v: v in TIES, "expected, pessimistic or optimistic"),
    "trainer.batch_size": (_positive, "a whole number above 0"),
    "trainer.max_epochs": (_positive, "a whole number above 0"),
    "trainer.eval_every": (_positive, "a whole number above 0"),
    "trainer.patience": (_positive, "a whole number above 0"),
    "trainer.warmup_epochs": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "trainer.plateau": (lambda v: v is None or _positive(v), "null or a whole number above 0"),
    "trainer.plateau_factor": (lambda v: _number(v) and 0 < v <= 1, "a number above 0 and up to 1"),
    "trainer.schedule": (lambda v: v in ("constant", "linear", "cosine"), "constant, linear or cosine"),
    "trainer.clip": (lambda v: v is None or (_number(v) and v > 0), "null or a number above 0"),
    "trainer.max_minutes": (lambda v: v is None or (_number(v) and v > 0), "null or a number above 0"),
    "trainer.checkpoint_minutes": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "trainer.progress": (lambda v: v is None or isinstance(v, bool), "null, true or false"),
    "trainer.optimizer": (OmegaConf.is_dict, "a group with _target_ and lr"),
    "trainer.optimizer.lr": (lambda v: _number(v) and v > 0, "a number above 0"),
    "trainer.sparse": (lambda v: v == "auto" or isinstance(v, bool), "auto, true or false"),
    "trainer.prefixes": (lambda v: isinstance(v, bool), "true or false"),
    "trainer.devices": (lambda v: v == "auto" or _positive(v), "auto or a whole number above 0"),
    "trainer.threads": (lambda v: v is None or _positive(v), "null or a whole number above 0"),
    "trainer.precision": (lambda v: v in ("32-true", "bf16-mixed"), "32-true or bf16-mixed"),
    "loss.negatives": (_positive, "a whole number above 0"),
    "loss.chunk": (_positive, "a whole number above 0"),
    "loss.power": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "loss.calibration": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "fusion.runs": (OmegaConf.is_list, "a list of run directories, like [DIR,DIR]"),
    "split.quantile": (lambda v: _number(v) and 0 < v < 1, "a number above 0 and below 1"),
    "backbone.layers": (_positive, "a whole number above 0"),
    "backbone.heads": (_positive, "a whole number above 0"),
    "backbone.hidden": (_positive, "a whole number above 0"),
    "backbone.feedforward": (_positive, "a whole number above 0"),
    "backbone.filter_weight": (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1"),
    "backbone.low_components": (_positive, "a whole number above 0"),
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
UNIT_INTERVAL = ("dropout", "attention_dropout", "inner_dropout", "embedding_dropout")


def check(config: DictConfig) -> None:
    """Raise UserError, naming the key and the value, if a value makes no sense by itself or beside the others, or one is missing."""
    refuse_incomplete(config)
    for key in (f"{group}.{name}" for group in ("trainer", "eval") for name in config[group]):
        if key not in KNOWN:
            raise UserError(f"{key}: no such key{nearest(key, KNOWN)}")
    for key in RULES:
        check_value(config, key)
    for name in UNIT_INTERVAL:
        value = config.backbone.get(name, 0.0)
        if not (_number(value) and 0 <= value < 1):
            raise UserError(f"backbone.{name}={value}: must be a number from 0 and below 1")
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
