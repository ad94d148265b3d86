"""The folder of an export."""

import hashlib
import io
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from seqrec import __version__
from seqrec.batch import Batch
from seqrec.build import Experiment, load
from seqrec.data.loader import EvalLoader
from seqrec.export import counts
from seqrec.export.encoder import FORMATS, INPUT, OUTPUT, QueryEncoder
from seqrec.runs.directory import RunDir
from seqrec.utils.errors import UserError
from seqrec.utils.files import write_atomically, write_json

CHECKED = 256  # test users whose scores are compared
TOLERANCE = 1e-5  # of the largest score
RECALLED = (10, 100)
INDEX = "items.faiss"
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",), "index": ("faiss",)}


def export(folder: Path, output: Path, formats: list[str], factory: str | None, data_dir: str | None) -> dict:
    """Write a finished run for serving and return its manifest; `factory` describes the index, None makes none.

    Raises UserError if the run is not complete, its scores are not products of a query and an item matrix, or a package
    is missing.
    """
    for part in (*formats, *(["index"] if factory else [])):
        require(part)
    run_dir = RunDir(folder)
    experiment = load(folder, data_dir=data_dir)
    if not run_dir.complete:
        raise UserError(f"{folder}: the run is not complete; run the same command again")
    refuse(experiment, factory)
    batch = some_users(experiment)
    encoder, scores = encoder_of(experiment, batch)
    items, ids = experiment.method.items.weight.detach().numpy(), np.ascontiguousarray(batch.seq.numpy())
    content = {"items.npy": as_npy(items), "item_ids.npy": as_npy(plain(experiment.dataset.item_ids))}
    for name in formats:
        file, make = FORMATS[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            content[file], computed = make(encoder)
        if not close(torch.from_numpy(computed(ids) @ items.T), scores):
            raise RuntimeError(f"{file} does not give the scores of the run")
    manifest = describe(experiment, run_dir)
    if experiment.scorer is not experiment.method:
        content["counts.npz"] = as_npz(counts.arrays(experiment.scorer))
        manifest |= {"score": "see fusion", "fusion": counts.description(experiment.scorer)}
    if factory:
        import faiss

        queries = encoder(batch.seq).detach().numpy()
        index, manifest["index"] = index_of(factory, items, queries, seen_in(experiment, batch))
        content[INDEX] = faiss.serialize_index(index).tobytes()
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    output.mkdir(parents=True, exist_ok=True)
    for name in ("manifest.json", INDEX, "counts.npz", *(file for file, _ in FORMATS.values())):
        (output / name).unlink(missing_ok=True)  # of an earlier export; the manifest is written last
    for name, data in content.items():
        write_atomically(output / name, data)
    write_json(output / "manifest.json", manifest)
    return manifest


def require(part: str) -> None:
    """Raise UserError if a package is missing that a format, or the index, needs."""
    missing = [name for name in NEEDED.get(part, ()) if find_spec(name) is None]
    if missing:
        raise UserError(
            f'--{"index" if part == "index" else f"format {part}"} needs {missing[0]}: pip install "seqrec[export]"'
        )


def refuse(experiment: Experiment, factory: str | None) -> None:
    """Raise UserError for a run that has no query and item matrix by its kind, and for an index where counts are added."""
    config, scorer = experiment.config, experiment.scorer
    if not experiment.method.trained:
        raise UserError(f"method={config.method.name}: it counts and has no vectors to export; export a trained method")
    if scorer is experiment.method:
        return
    if list(scorer.models) != [experiment.method]:
        raise UserError(f"fusion={config.fusion.name}: it has several encoders; export each of its runs")
    if factory:
        raise UserError(
            f"--index {factory}: an index finds what the product of query and item puts first, and fusion={config.fusion.name} "
            "adds counts to it; export without --index, or the run without fusion"
        )


def some_users(experiment: Experiment) -> Batch:
    """Return the histories of the first test users."""
    test = experiment.split.test
    rows = test.take(np.arange(min(CHECKED, len(test.user))))
    ((_, batch),) = EvalLoader(rows, len(rows.user), experiment.method.max_len)
    return batch


def encoder_of(experiment: Experiment, batch: Batch) -> tuple[QueryEncoder, torch.Tensor]:
    """Return the encoder, and the scores of the method for a batch, [B, V + 1].

    Raises UserError if the encoder's queries do not give these scores.
    """
    encoder = QueryEncoder(experiment.method)
    with torch.no_grad():
        scores = encoder.method.score(batch)
        queries = encoder(batch.seq)
    if not close(queries @ encoder.method.items.weight.T, scores):
        raise UserError(
            f"method={experiment.config.method.name}: its scores are not products of the state after the whole history and the "
            "item matrix, so that they cannot be served as such (autosam: only with method.inference=all)"
        )
    return encoder, scores


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Return whether scores agree up to rounding."""
    return float((found - wanted).detach().abs().max()) <= TOLERANCE * max(1.0, float(wanted.abs().max()))


def seen_in(experiment: Experiment, batch: Batch) -> list[np.ndarray]:
    """Return the items of each row that are no candidates."""
    row, item = (part.numpy() for part in batch.seen)
    masked = experiment.config.eval.mask_history
    return [np.unique(item[row == number]) if masked else item[:0] for number in range(len(batch.seq))]


def index_of(factory: str, items: np.ndarray, queries: np.ndarray, seen: list[np.ndarray]):
    """Return the index of faiss over items [V + 1, D], and for the manifest its recall over queries [B, D].

    Raises UserError if faiss cannot make it.
    """
    from seqrec.export import index as ann

    try:
        index = ann.build(items, factory)
    except ValueError as error:
        raise UserError(f"--index {factory}: faiss cannot make it: {error}") from None
    began = time.monotonic()
    index.search(queries, RECALLED[0])
    milliseconds = 1000 * (time.monotonic() - began) / len(queries)
    found = {f"recall@{k}": ann.recall(index, items, queries, seen, k) for k in RECALLED if 2 * k < len(items)}
    measured = {name: round(value, 4) for name, value in {"ms per query": milliseconds, **found}.items()}
    return index, {"factory": factory, "users": len(queries), **measured}


def describe(experiment: Experiment, run_dir: RunDir) -> dict:
    """Return what a reader of the folder has to know."""
    config, method = experiment.config, experiment.method
    manifest = run_dir.manifest()
    return {
        "seqrec": __version__,
        "run": {
            **{name: manifest[name] for name in ("config_hash", "data_sha256", "git_commit") if name in manifest},
            **{group: config[group].name for group in ("dataset", "noise", "backbone", "loss", "method")},
            "seed": config.seed,
        },
        "metrics": run_dir.metrics(),
        "encoder": {
            "input": {INPUT: "int64 [batch, length]: rows of items.npy, oldest first, padded with 0 on the left"},
            "output": {OUTPUT: "float32 [batch, width]"},
            "max_len": method.max_len,
        },
        "items": {"count": experiment.dataset.num_items, "width": method.items.embedding_dim, "padding": 0},
        "score": "query @ items.T; row 0 is padding and no candidate",
        "mask_history": bool(config.eval.mask_history),  # items of the whole history are no candidates
    }


def plain(ids: np.ndarray) -> np.ndarray:
    """Return raw ids as an array that needs no pickle."""
    return ids if ids.dtype.kind in "iuU" else ids.astype(str)


def as_npz(values: dict[str, np.ndarray]) -> bytes:
    """Return the content of a .npz file."""
    stream = io.BytesIO()
    np.savez(stream, **values)
    return stream.getvalue()


def as_npy(values: np.ndarray) -> bytes:
    """Return the content of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()
