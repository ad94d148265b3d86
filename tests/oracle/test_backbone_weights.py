"""How the weights of backbones begin, and where their embeddings are dropped out."""

import pytest
import torch
from backbone_setting import DIM, MAX_LEN, example
from torch import nn

from seqrec.backbones.bsarec import BSARec
from seqrec.backbones.fmlprec import FMLPRec
from seqrec.backbones.sasrec import SASRec


@torch.no_grad()
def test_weights_begin_small_and_without_bias():
    torch.manual_seed(0)
    common = {"dim": 64, "max_len": 50, "layers": 1, "feedforward": 4, "dropout": 0.0}
    sasrec = SASRec(
        **common,
        heads=2,
        activation="gelu",
        attention_dropout=0.0,
        inner_dropout=0.0,
        norm_first=True,
        scale_embedding=True,
        count_from="start",
    )
    bsarec = BSARec(**common, heads=2, filter_weight=0.5, low_components=5, attention_dropout=0.0)
    for backbone in (sasrec, FMLPRec(**common, embedding_dropout=0.0), bsarec):
        for module in backbone.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                assert float(module.weight.std()) == pytest.approx(0.02, rel=0.1)
            if isinstance(module, nn.Linear):
                assert not module.bias.any()


@pytest.mark.parametrize("name", ["fmlprec", "bsarec"])
def test_embeddings_are_dropped_out_after_the_norm(name):
    if name == "fmlprec":
        backbone = FMLPRec(DIM, MAX_LEN, layers=1, feedforward=2, embedding_dropout=0.5, dropout=0.0).train()
    else:
        backbone = BSARec(DIM, MAX_LEN, 1, 2, 0.7, 3, feedforward=2, dropout=0.5, attention_dropout=0.0).train()
    seen = []
    backbone.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, mask = example(rows=50)
    backbone.double()(x, mask)
    assert (seen[0] == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)  # a norm leaves no zeros
