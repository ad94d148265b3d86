"""Batches are cut and moved whole."""

import dataclasses

import torch


def test_shards_are_every_nth_row_in_order_of_length(batch):
    own = dataclasses.replace(batch, negative=torch.arange(24).view(3, 4, 2))  # of 4, 2 and 1 items
    shared = dataclasses.replace(batch, negative=torch.arange(5))
    for name in ("user", "seq", "target", "index", "negative"):
        whole = getattr(own, name)
        assert torch.equal(getattr(own.shard(0, 2), name), whole[[2, 0]])
        assert torch.equal(getattr(own.shard(1, 2), name), whole[[1]])
    assert torch.equal(shared.shard(1, 2).negative, shared.negative)
    assert batch.shard(0, 3).negative is None


def test_every_tensor_moves(batch):
    everything = dataclasses.replace(batch, negative=torch.arange(5), seen=(torch.arange(3), torch.arange(3)))
    moved = everything.to(torch.device("meta"))
    tensors = [getattr(moved, field.name) for field in dataclasses.fields(moved)]
    assert {part.device.type for value in tensors for part in (value if isinstance(value, tuple) else (value,))} == {
        "meta"
    }
    assert batch.to(torch.device("cpu")).negative is None


def test_copies_to_a_gpu_start_from_pinned_memory_and_do_not_wait(batch, monkeypatch):
    pinned, copied = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())

    def to(self, device, non_blocking):
        copied.append((device.type, non_blocking, any(self is value for value in pinned)))
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    everything = dataclasses.replace(batch, negative=torch.arange(5), seen=(torch.arange(3), torch.arange(3)))
    everything.to(torch.device("cuda"))
    assert copied == [("cuda", True, False)] * 7  # none from where it was
    assert len(pinned) == 7
    everything.to(torch.device("cpu"))
    assert len(pinned) == 7


def test_items_that_do_not_occur_are_counted_as_none(sequences_of):
    assert sequences_of([[2, 1, 2], [], [2]]).item_counts(4).tolist() == [0, 1, 3, 0, 0]
