"""An exported run gives the scores of the run, or is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from job_setting import configure

from seqrec.build import build, load
from seqrec.commands import train as entry
from seqrec.commands.export import main
from seqrec.config import run_path
from seqrec.evaluation.recommend import of_sequences, recommend
from seqrec.export import files, index
from seqrec.export.encoder import FORMATS, QueryEncoder
from seqrec.utils.errors import UserError

ROOT = Path(__file__).parents[1]
SMALL = (
    *("dataset.users=60", "dataset.items=70", "dataset.clusters=4", "dataset.max_length=20", "dim=8", "max_len=10"),
    *("trainer.max_epochs=1", "trainer.threads=1", "trainer.progress=false"),
)
BACKBONES = sorted(path.stem for path in (ROOT / "conf" / "backbone").glob("*.yaml") if path.stem != "none")
METHODS = ("cl4srec", "coserec", "lma4rec", "asarrec", "cat", "irl4rec")
KINDS = [("plain", backbone) for backbone in BACKBONES] + [(method, "sasrec") for method in METHODS]
COUNTED_FROM_START = [
    ("plain", "sasrec", "backbone.count_from=start"),
    ("asarrec", "sasrec", "backbone.count_from=start"),
]


def built(method, backbone, *overrides):
    stage = ["method.stage1=null"] if method == "cat" else []
    experiment = build(configure(f"method={method}", f"backbone={backbone}", *SMALL, *stage, *overrides))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in experiment.method.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        experiment.method.items.weight[0] = 0
    experiment.method.eval()
    return experiment


def test_the_methods_are_all_there_is():
    there = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert there == {*METHODS, "plain", "autosam", "popularity", "markov", "itemknn", "counts"}


@pytest.mark.parametrize("kind", KINDS + COUNTED_FROM_START, ids="-".join)
def test_the_padded_block_of_an_export_gives_the_queries(kind, monkeypatch):
    experiment = built(*kind)
    batch = files.some_users(experiment)
    encoder, scores = files.encoder_of(experiment, batch)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with torch.no_grad():
        torch.testing.assert_close(encoder(batch.seq) @ experiment.method.items.weight.T, scores, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS + COUNTED_FROM_START, ids="-".join)
def test_an_exported_encoder_gives_the_queries_for_any_batch_and_length(kind):
    encoder = QueryEncoder(built(*kind).method)
    made = [FORMATS[name][1](encoder)[1] for name in ("onnx", "torch")]
    for rows, length in ((1, 1), (2, 10), (7, 25)):
        ids = torch.randint(1, 71, (rows, length))
        ids[0, : length // 2] = 0
        with torch.no_grad():
            wanted = encoder(ids).numpy()
        for run in made:
            np.testing.assert_allclose(run(ids.numpy()), wanted, atol=1e-5)


def finished_run(folder, *overrides):
    config = configure(*SMALL, f"output_dir={folder}", *overrides)
    path = Path(config.output_dir) / run_path(config)
    entry.job(config, path)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("outputs"))


def test_the_files_of_an_export(finished, tmp_path, capsys):
    main([str(finished), "--format", "safetensors", "--index", "Flat", "--output", str(tmp_path / "out")])
    from safetensors.numpy import load_file

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest["files"]) == {"items.npy", "item_ids.npy", "weights.safetensors", "items.faiss"}
    assert manifest["run"]["config_hash"] == finished.name.partition("-")[2]
    assert manifest["metrics"] == json.loads((finished / "metrics.json").read_text())
    assert manifest["index"]["recall@10"] == 1  # exact
    experiment = load(finished)
    weights, items = load_file(tmp_path / "out" / "weights.safetensors"), np.load(tmp_path / "out" / "items.npy")
    for name, value in experiment.method.state_dict().items():
        assert np.array_equal(weights[name], value.numpy())
    assert np.array_equal(items, weights["items.weight"])
    assert items.shape == (manifest["items"]["count"] + 1, manifest["items"]["width"])
    assert np.load(tmp_path / "out" / "item_ids.npy").tolist() == experiment.dataset.item_ids.tolist()
    assert "recall@10" in capsys.readouterr().out
    main([str(finished), "--format", "safetensors", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "items.faiss").exists()


@pytest.mark.slow
@pytest.mark.parametrize("program", [0, 1], ids=["index", "counts"])
def test_a_program_of_the_documentation_answers_without_seqrec(program, tmp_path):
    page = (ROOT / "docs" / "export.md").read_text()
    text = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[program]
    barred = "import sys\nsys.modules.update(dict.fromkeys(('seqrec', 'torch')))\n"  # importing them raises
    (tmp_path / "query.py").write_text(barred + text)
    run = finished_run(tmp_path, "fusion=counts" if program else "fusion=none")
    main([str(run), *([] if program else ["--index", "Flat"]), "--output", str(tmp_path / "out")])
    experiment = load(run)
    for rows in ([3, 9, 4], [5], range(20, 33)):  # of every group of lengths, and longer than max_len
        history = experiment.dataset.item_ids[list(rows)].tolist()
        command = [sys.executable, "query.py", "out", *map(str, history), "no such item"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        rows, _ = of_sequences(experiment.dataset, [history])
        (wanted,) = recommend(experiment.scorer, experiment.dataset, rows, 10, torch.device("cpu"))
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == list(map(str, wanted))


def test_an_index_fetches_beyond_the_seen_items():
    items = np.eye(6, 5, dtype=np.float32)[[5, 0, 1, 2, 3, 4]]
    queries = np.array([[5, 4, 3, 2, 1]], np.float32)
    found = index.search(index.build(items, "Flat"), queries, [np.array([1, 2, 4])], 2)
    assert [row.tolist() for row in found] == [[3, 5]]


def test_recall_counts_the_exact_items_that_are_found(monkeypatch):
    generator = np.random.default_rng(0)
    items, queries = (generator.standard_normal((size, 4)).astype(np.float32) for size in (30, 8))
    seen = [generator.integers(1, 30, 3) for _ in queries]
    exact = index.build(items, "Flat")
    assert index.recall(exact, items, queries, seen, 5) == 1
    monkeypatch.setattr(index, "search", lambda *given, found=index.search: [row[:2] for row in found(*given)])
    assert index.recall(exact, items, queries, seen, 5) == pytest.approx(0.4)


def test_what_is_no_product_of_vectors_is_refused(tmp_path, finished):
    experiment = built("autosam", "sasrec")
    with pytest.raises(UserError, match="autosam"):
        files.encoder_of(experiment, files.some_users(experiment))
    experiment = built("autosam", "sasrec", "method.inference=all")
    files.encoder_of(experiment, files.some_users(experiment))
    with pytest.raises(UserError, match="popularity"):
        files.refuse(build(configure("method=popularity", *SMALL[:6], "backbone=none", "loss=none")), None)
    with pytest.raises(UserError, match="HNSW"):
        main([str(finished), "--format", "safetensors", "--index", "HNSWx", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_fused_runs_that_are_refused():
    experiment = built("plain", "sasrec", "fusion=counts")
    experiment.scorer = torch.nn.Module()
    experiment.scorer.models = torch.nn.ModuleList([experiment.method])
    files.refuse(experiment, None)
    with pytest.raises(UserError, match="--index"):
        files.refuse(experiment, "Flat")
    experiment.scorer.models.append(torch.nn.Identity())
    with pytest.raises(UserError, match="fusion"):
        files.refuse(experiment, None)


def test_a_missing_package_names_the_extra(monkeypatch, finished):
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"seqrec\[export\]"):
        main([str(finished), "--format", "onnx"])
