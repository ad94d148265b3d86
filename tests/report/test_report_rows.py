"""What is one row, what it is called, and what it is compared with."""

import pytest

from seqrec.report.rows import baseline_of, noises_of, rows_of
from seqrec.report.write import collect


@pytest.fixture
def rows_from(write_run, tmp_path):
    """Function from changes of the configuration, by folder, to rows."""

    def make(changes, baseline="plain", **options):
        for name, change in changes.items():
            write_run(name, change, untrained=name.startswith("untrained"), **options)
        runs, left_out = collect([tmp_path / "runs"], ["NDCG@10"])
        assert left_out == []
        return rows_of(runs, baseline)

    return make


def test_seed_noise_and_paths_do_not_make_a_row(rows_from):
    (row,) = rows_from(
        {
            "a": {},
            "b": {"seed": 2, "data_dir": "there", "trainer.threads": 4, "dataset.path": "x.csv"},
            "c": {"noise": {"name": "insert", "ratio": 0.1, "seed": 3}},
            "d": {"noise": {"name": "delete", "ratio": 0.1, "seed": 3}},
        }
    )
    assert (row.label, row.differs, len(row.runs)) == ("plain", "", 4)
    assert [run.path.name for run in row.at({"name": "insert"}, 0.1)] == ["c"]
    assert [run.path.name for run in row.at({"name": "insert"}, 0)] == ["a", "b"]


def test_settings_that_follow_the_seed_do_not_make_a_row(rows_from):
    rows = rows_from(
        {
            "a": {"method.draw_seed": 1},
            "b": {"seed": 2, "method.draw_seed": 2},
            "c": {"seed": 3, "method.draw_seed": 7},
        }
    )
    assert sorted((row.differs, len(row.runs)) for row in rows) == [
        ("method.draw_seed=${seed}", 2),
        ("method.draw_seed=7", 1),
    ]


def test_rows_are_labelled_by_what_differs(rows_from):
    changes = {
        "a": {},
        "b": {"loss": {"name": "bce"}},
        "c": {"method": {"name": "cat", "weight": 0.1}},
        "d": {"method": {"name": "cat", "weight": 0.2}},
        "e": {"trainer.prefixes": True},
        "g": {"fusion": {"name": "counts", "window": 20}},
        "f": {"method": {"name": "asarrec"}, "dim": 128},
        "untrained": {"method.name": "markov"},
    }
    assert [row.label for row in rows_from(changes)] == [
        "markov",
        "plain · bce",
        "plain · cross_entropy",
        "plain · cross_entropy · prefixes",
        "asarrec · cross_entropy · dim=128",
        "cat · cross_entropy · method.weight=0.1",
        "cat · cross_entropy · method.weight=0.2",
        "plain+counts · cross_entropy",
    ]


def test_another_backbone_of_the_same_name_is_told(rows_from):
    """As after tuning: each method with the layers that suit it. A choice that another backbone has alone is no difference."""
    changes = {
        "a": {"backbone.layers": 1},
        "b": {"method.name": "cat", "backbone.layers": 3},
        "c": {"method.name": "asarrec", "backbone.layers": 3},
        "d": {"backbone": {"name": "gru4rec", "hidden": 64}},
    }
    assert [row.label for row in rows_from(changes)] == [
        "plain · gru4rec",
        "plain · sasrec · backbone.layers=1",
        "asarrec · sasrec",
        "cat · sasrec",
    ]


def test_a_variants_name_stands_for_its_changes(rows_from):
    changes = {
        "a": {"method": {"name": "cat", "weight": 0.1}},
        "b": {"method": {"name": "cat", "weight": 0.1}, "variant": "full", "seed": 2},  # changes nothing
        "c": {"method": {"name": "cat", "weight": 0.0}, "variant": "no-weight"},
        "d": {"method": {"name": "cat", "weight": 0.1}, "variant": "wide", "dim": 256},
    }
    rows = rows_from(changes, baseline="cat")
    assert [(row.label, len(row.runs)) for row in rows] == [("cat", 2), ("cat · no-weight", 1), ("cat · wide", 1)]
    assert [baseline_of(row, rows, "cat") for row in rows] == [None, rows[0], rows[0]]
    assert baseline_of(rows[1], rows, "wide") is rows[2]


def test_settings_of_the_trainer_do_not_part_untrained_rows(rows_from):
    changes = {"untrained-a": {"seed": 1}, "untrained-b": {"seed": 2, "trainer.max_epochs": 99, "dim": 8}}
    (row,) = rows_from(changes)
    assert len(row.runs) == 2


def test_prefixes_come_from_the_manifest_where_the_backbone_forces_them(write_run, change_manifest):
    folder = write_run("a")
    protocol = {
        "cutoffs": [5, 10],
        "mask_history": True,
        "ties": "expected",
        "split": "leave_one_out",
        "prefixes": True,
    }
    change_manifest(folder, protocol=protocol)
    (row,) = rows_of(collect([folder], ["NDCG@10"])[0], "plain")
    assert row.prefixes is True


def test_the_baseline_shares_backbone_and_loss(rows_from):
    changes = {
        "a": {},
        "b": {"loss": {"name": "bce"}},
        "c": {"method.name": "cat"},
        "d": {"method.name": "cat", "loss": {"name": "bce"}},
        "e": {"method.name": "cat", "loss": {"name": "bpr"}},
        "untrained": {"method.name": "markov"},
    }
    rows = rows_from(changes)
    found = {row.label: baseline_of(row, rows, "plain") for row in rows}
    assert {label: other and other.label for label, other in found.items()} == {
        "markov": None,  # two baselines, and none of its own kind
        "plain · bce": None,
        "plain · cross_entropy": None,
        "cat · bce": "plain · bce",
        "cat · bpr": None,
        "cat · cross_entropy": "plain · cross_entropy",
    }


def test_of_several_baselines_the_one_with_most_settings_in_common(rows_from):
    changes = {"a": {}, "b": {"dim": 128}, "c": {"method.name": "cat", "dim": 128}}
    rows = rows_from(changes)
    assert baseline_of(rows[-1], rows, "plain").label == "plain · dim=128"
    assert [row.label for row in rows] == ["plain · dim=128", "plain · dim=64", "cat"]


def test_one_baseline_serves_all_rows(rows_from):
    rows = rows_from(
        {"a": {}, "b": {"method.name": "cat", "loss": {"name": "bce"}}, "untrained": {"method.name": "markov"}}
    )
    plain = next(row for row in rows if row.method == "plain")
    assert [baseline_of(row, rows, "plain") for row in rows if row is not plain] == [plain, plain]


def test_noise_settings_are_kept_apart(write_run, tmp_path):
    noise = {"name": "insert", "where": "anywhere", "ratio": 0.1, "seed": 1}
    write_run("a", {"noise": noise})
    write_run("b", {"noise": noise | {"ratio": 0.2, "seed": 7}})
    write_run("c", {"noise": noise | {"where": "end"}})
    write_run("d", {"noise": noise | {"name": "delete"}})
    write_run("e")
    runs, _ = collect([tmp_path / "runs"], ["NDCG@10"])
    assert noises_of(runs) == {
        "delete": {"name": "delete", "where": "anywhere"},
        "insert where=anywhere": {"name": "insert", "where": "anywhere"},
        "insert where=end": {"name": "insert", "where": "end"},
    }
