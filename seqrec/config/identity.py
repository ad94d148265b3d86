"""What makes a run the same run: its resolved values, their hash and the run path."""

import hashlib
import json
import re

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqrec.evaluation.metrics import DEFAULT
from seqrec.utils.addresses import with_first_addresses
from seqrec.utils.errors import UserError

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
    "dataset.time_format": None,
    "dataset.time_unit": "s",
    "dataset.session_minutes": None,
    "dataset.drop_repeats": False,
    "method.augmenter_sees": "embeddings",
    "method.occupancy": False,
    "method.candidate_place": "left",
    "method.sampler.kind": "transformer",
    "method.reward": "likelihood",
    "method.targets": "kept",
    "method.confounder": "ids",
    "method.attributes": None,
    "method.relative": False,
    "method.gap_weight": 0.0,
    "trainer.devices": 1,  # with more devices each process contrasts only its shard of a batch
    "trainer.num_nodes": 1,
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
    "dataset.archive_md5",
    "dataset.md5",
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
            node = node.get(group)
            if not isinstance(node, dict):  # earlier runs may lack it
                node = {}
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


def flatten(values: dict, prefix: str = "") -> dict[str, object]:
    """Return nested keys as one level, joined by dots."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def digest(values: object) -> str:
    """Return 8 hexadecimal digits that differ wherever plain values differ."""
    return hashlib.sha256(json.dumps(_with_sorted_keys(values)).encode()).hexdigest()[:8]


def _with_sorted_keys(node: object) -> object:
    """Return plain values with the keys in order: numbers first, for json itself cannot sort them among names."""
    if isinstance(node, dict):
        return {key: _with_sorted_keys(node[key]) for key in sorted(node, key=lambda key: (isinstance(key, str), key))}
    return [_with_sorted_keys(value) for value in node] if isinstance(node, list) else node


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
    names = (str(config.dataset.name), str(noise), model, f"seed{config.seed}-{config_hash(config)}")
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise UserError(f"{name!r}: a name becomes a folder; give names without /, \\ and control characters")
    return "/".join(names)
