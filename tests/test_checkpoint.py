"""Checkpoints: what comes back, what is refused, and what a crash leaves."""

import os
from pathlib import Path

import pytest
import torch

from seqrec.utils.checkpoint import Checkpoints, random_state, restore_random_state, take_over
from seqrec.utils.errors import UserError

IDENTITY = {"config_hash": "aaaa", "data_sha256": "dddd"}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path, **IDENTITY)


def state(value=1.0):
    """Return a state like a trainer's: nested, with tensors and plain values."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.full((30, 4), value))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    return {
        "model": {"weight": weight.detach()},
        "optimizers": {"model": optimizer.state_dict()},
        "state": {"epoch": 3, "best": None, "history": [{"epoch": 1, "train/loss": value}], "stopped": ""},
    }


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one == other


def test_round_trip(checkpoints):
    assert checkpoints.load("last.pt") is None
    checkpoints.save("last.pt", state())
    assert_same(checkpoints.load("last.pt"), state() | IDENTITY)
    checkpoints.save("last.pt", state(2.0))
    assert_same(checkpoints.load("last.pt"), state(2.0) | IDENTITY)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("key", IDENTITY)
def test_another_configuration_and_other_data_are_refused(checkpoints, tmp_path, key):
    checkpoints.save("last.pt", state())
    with pytest.raises(UserError, match=rf"last.pt belongs to another run \({key} {IDENTITY[key]}, now bbbb\)"):
        Checkpoints(tmp_path, **IDENTITY | {key: "bbbb"}).load("last.pt")


def test_a_checkpoint_that_does_not_say_which_data_it_had_is_read(checkpoints, monkeypatch):
    monkeypatch.delitem(checkpoints.identity, "data_sha256")
    checkpoints.save("last.pt", state())
    monkeypatch.undo()
    assert_same(checkpoints.load("last.pt"), state() | {"config_hash": "aaaa"})


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"PK\3\4", b"not a checkpoint", bytes(range(256)) * 12])
def test_other_files_are_refused(checkpoints, content):
    (checkpoints.folder / "best.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"best.pt is damaged.*force=true"):
        checkpoints.load("best.pt")


@pytest.mark.parametrize("value", [[1, 2], {"model": {}}, 7])
def test_a_file_that_is_no_checkpoint_is_refused(checkpoints, value):
    torch.save(value, checkpoints.folder / "best.pt")
    with pytest.raises(UserError, match=r"best.pt is damaged"):
        checkpoints.load("best.pt")


def test_weights_of_another_run_are_read_whole_or_not_at_all(checkpoints):
    module = torch.nn.ModuleDict({"table": torch.nn.Embedding(400, 1), "rest": torch.nn.Linear(1, 1)})
    given = (module, ("table.",), str(checkpoints.folder), "method.stage1", "take the same dim")
    with pytest.raises(UserError, match=r"method.stage1=.*: there is no best.pt in it"):
        take_over(*given)
    checkpoints.save(
        "best.pt", {"model": {"table.weight": torch.arange(400.0)[:, None], "rest.weight": torch.ones(1, 1)}}
    )
    before = module["rest"].weight.clone()
    take_over(*given)
    assert torch.equal(module["table"].weight[:, 0], torch.arange(400.0))
    assert torch.equal(module["rest"].weight, before)
    path = checkpoints.folder / "best.pt"
    content = bytearray(path.read_bytes())
    content[content.find(torch.arange(400.0).numpy().tobytes()) + 9] ^= 1  # torch.load alone would not see it
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"method.stage1=.*: best.pt is damaged"):
        take_over(*given)
    checkpoints.save("best.pt", {"model": {"table.weight": torch.zeros(3, 1)}})
    with pytest.raises(UserError, match=r"table.weight is \(3, 1\) there and \(400, 1\) here; take the same dim"):
        take_over(*given)


def test_code_in_a_file_is_not_run(checkpoints, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"model": Trap(), **IDENTITY}, tmp_path / "best.pt")
    with pytest.raises(UserError, match=r"best.pt is damaged"):
        checkpoints.load("best.pt")
    assert not (tmp_path / "trapped").exists()


def test_a_file_cut_short_is_refused(checkpoints):
    checkpoints.save("last.pt", state())
    path = checkpoints.folder / "last.pt"
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"last.pt is damaged"):
            checkpoints.load("last.pt")


def test_a_flipped_bit_in_a_weight_is_seen(checkpoints):
    checkpoints.save("last.pt", {"model": {"weight": torch.full((30, 4), 1.25)}})
    path = checkpoints.folder / "last.pt"
    content = bytearray(path.read_bytes())
    weights = torch.full((30, 4), 1.25).numpy().tobytes()
    assert content.count(weights) == 1
    for byte in (0, 201, len(weights) - 1):
        damaged = content.copy()
        damaged[content.index(weights) + byte] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"last.pt is damaged"):
            checkpoints.load("last.pt")


@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_dies_leaves_the_old_file(checkpoints, monkeypatch, place, error):
    checkpoints.save("last.pt", state(1.0))

    def die(*_, **__):
        raise error

    monkeypatch.setattr(*((os, "fsync") if place == "fsync" else (Path, "replace")), die)
    with pytest.raises(type(error)):
        checkpoints.save("last.pt", state(2.0))
    with pytest.raises(type(error)):
        checkpoints.save("best.pt", state(2.0))
    monkeypatch.undo()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["last.pt"]
    assert_same(checkpoints.load("last.pt"), state(1.0) | IDENTITY)


def test_the_generators_go_on_where_they_were(checkpoints):
    def draw():
        return torch.rand(3).tolist(), torch.randn(2).tolist()

    checkpoints.save("last.pt", {"random": random_state()})
    expected = [draw(), draw()]
    torch.manual_seed(9)
    assert draw() != expected[0]
    restore_random_state(checkpoints.load("last.pt")["random"])
    assert [draw(), draw()] == expected
