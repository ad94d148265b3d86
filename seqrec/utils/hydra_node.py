"""Hydra acts on its node of a configuration before anything else sees it: what files may put there is checked first."""

from collections.abc import Iterator
from pathlib import Path

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig, OmegaConf

from seqrec.utils.errors import UserError
from seqrec.utils.plain_yaml import checked_text

SILENT = {"version": 1, "root": None, "disable_existing_loggers": False}
OWN = {  # as in conf/config.yaml; anything else has to come from the command line
    "data_dir": "${oc.env:SEQREC_DATA,data}",
    "cache_dir": None,
    "hydra": {
        "run": {"dir": "${output_dir}/${run_path:}"},
        "sweep": {"dir": "${output_dir}", "subdir": "${run_path:}"},
        "job": {"chdir": False, "env_set": {}, "env_copy": []},
        "callbacks": {"sweep": {"_target_": "seqrec.commands.sweep.Announcement"}},
        **{"searchpath": [], "output_subdir": None, "hydra_logging": SILENT, "job_logging": SILENT},
    },
}
SETTINGS = {  # of launchers and sweepers, as far as files may choose them
    *("hydra.launcher.n_jobs", "hydra.sweeper.max_batch_size"),
    *(f"hydra.sweeper.{name}" for name in ("n_trials", "n_jobs", "direction", "sampler.seed")),
}
PARAMS = "hydra.sweeper.params."
OWN_SWEEPS = {
    f"{PARAMS}variant": "${names:${variants}}",  # over all variants of an experiment
    f"{PARAMS}tune.trial": "range(0,${tune.trials})",  # over the trials of a study
}


def install() -> None:
    """Let Hydra compose with `CheckedLoader`, in sweeps and their worker processes too."""
    hydra._internal.hydra.ConfigLoaderImpl = CheckedLoader


class CheckedLoader(ConfigLoaderImpl):
    """Composes as Hydra does; raises UserError for what a file must not set."""

    def __init__(self, config_search_path):
        super().__init__(config_search_path)
        self.repository = _Repository(config_search_path)
        self.given: set[str] | None = None  # single keys of the command line

    def load_configuration(self, config_name, overrides, *arguments, **options) -> DictConfig:
        """Compose and check; the first call has the overrides of the command line alone, those of sweeps have others too."""
        if self.given is None:
            self.given = {override.lstrip("+~").partition("=")[0] for override in overrides}
        config = super().load_configuration(config_name, overrides, *arguments, **options)
        self._check(OmegaConf.to_container(config, resolve=False))
        return config

    def _process_config_searchpath(self, config_name, parsed_overrides, repo) -> None:
        primary = repo.load_config(config_name) if config_name else None
        if primary and "hydra.searchpath" not in self.given and OmegaConf.select(primary.config, "hydra.searchpath"):
            raise _refused("hydra.searchpath")  # importing what pkg:// names would run it
        super()._process_config_searchpath(config_name, parsed_overrides, repo)

    def _check(self, raw: dict) -> None:
        if not isinstance(raw["hydra"], dict):
            raise _refused("hydra")
        own = OWN | {"hydra": OWN["hydra"] | {kind: _plugin(raw["hydra"], kind) for kind in ("launcher", "sweeper")}}
        found = {key: raw[key] if key != "hydra" else {name: raw[key][name] for name in own[key]} for key in own}
        found["hydra"]["job"] = {name: raw["hydra"]["job"][name] for name in OWN["hydra"]["job"]}
        known = dict(_leaves(own))
        for key, value in _leaves(found):
            plain = isinstance(value, str | int | float | None) and "${" not in str(value)
            chosen = key in SETTINGS or (key.startswith(PARAMS) and key != f"{PARAMS}_target_")
            free = chosen and (plain or OWN_SWEEPS.get(key) == value)
            if not (free or key in self.given or (key in known and known[key] == value)):
                raise _refused(key)
        dataset = raw["dataset"]
        if not isinstance(dataset, dict) or ("${" in str(dataset.get("url")) and "dataset.url" not in self.given):
            raise _refused("dataset.url" if isinstance(dataset, dict) else "dataset")


class _Repository(ConfigRepository):
    def load_config(self, config_path):
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is not None and source.scheme() == "file":
            checked_text(Path(source.path) / source._normalize_file_name(config_path))
        return super().load_config(config_path)


def _plugin(node: dict, kind: str) -> dict:
    """Return the launcher or sweeper that is chosen, and the sampler of the sweeper, as the plugin itself registered them."""
    choices = node["runtime"]["choices"]
    chosen = _registered(kind, choices.get(f"hydra/{kind}"))
    if sampler := choices.get(f"hydra/{kind}/sampler"):
        chosen["sampler"] = _registered(f"{kind}/sampler", sampler)
    return chosen


def _registered(kind: str, choice: str) -> dict:
    try:
        return OmegaConf.to_container(ConfigStore.instance().load(f"hydra/{kind}/{choice}.yaml").node, resolve=False)
    except OSError:  # what Hydra raises for an unknown one
        raise UserError(f"hydra/{kind}={choice}: no such {kind} is installed") from None


def _leaves(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(node, dict) and not prefix.startswith(PARAMS):
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


def _refused(key: str) -> UserError:
    return UserError(
        f"{key}: a configuration file must not set it, for it could run code, read secrets or write anywhere; "
        "if you mean it, set this very key on the command line"
    )
