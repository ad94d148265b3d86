"""AutoSAM's sub-sequences: their items, positions and targets."""

import pytest
import torch
from autosam_setting import (
    KEPT,
    batch_of,
    method_of,
)

from seqrec.methods.autosam.subsequence import compact


def test_the_toy_row_of_the_specification():
    seq, target = torch.tensor([[0, 0, 1, 2, 3, 4]]), torch.tensor([[0, 0, 2, 3, 4, 5]])
    kept = torch.tensor([[0, 0, 1, 0, 1, 1]], dtype=torch.bool)
    method = method_of("backbone.count_from=end")
    sub = compact(seq, kept, method.backbone.positions)
    assert sub.seq.tolist() == [[1, 3, 4]]
    assert sub.positions.tolist() == [[2, 4, 5]]
    assert sub.targets(target).tolist() == [[3, 4, 5]]


def test_prefix_rows_are_supervised_at_their_last_kept_item_alone():
    seq, target = torch.tensor([[5, 1, 2, 3, 4]]), torch.tensor([[0, 0, 0, 0, 9]])
    kept = torch.tensor([[0, 1, 0, 1, 0]], dtype=torch.bool)
    sub = compact(seq, kept, method_of().backbone.positions)
    assert sub.targets(target).tolist() == [[0, 9]]


@pytest.mark.parametrize("backbone", [["sasrec"], ["sasrec", "backbone.count_from=end"], ["gru4rec"]])
def test_a_sub_sequence_is_the_row_with_holes_at_its_original_positions(backbone):
    method = method_of(f"backbone={backbone[0]}", *backbone[1:]).eval()
    seq = batch_of(method).seq
    kept = KEPT & (seq > 0)
    sub = compact(seq, kept, method.backbone.positions)
    moved = method.encode(sub.seq, positions=sub.positions)
    holes = method.encode(seq * kept, positions=method.backbone.positions(seq > 0))
    assert torch.allclose(moved[sub.seq > 0], holes[kept], atol=1e-5)
    if backbone[0] == "sasrec":
        closed = method.encode(sub.seq)
        assert not torch.allclose(moved[sub.seq > 0], closed[sub.seq > 0], atol=1e-3)


def test_fmlprec_does_not_depend_on_the_width_of_the_batch():
    method = method_of("backbone=fmlprec").eval()
    seq, kept = torch.tensor([[1, 2, 3]]), torch.tensor([[True, False, True]])
    alone = compact(seq, kept, method.backbone.positions)
    wide = compact(
        torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]),
        torch.tensor([[False, True, False, True], [True] * 4]),
        method.backbone.positions,
    )
    narrow, broad = (method.encode(sub.seq, positions=sub.positions)[0, -1] for sub in (alone, wide))
    assert torch.allclose(narrow, broad, atol=1e-5)
