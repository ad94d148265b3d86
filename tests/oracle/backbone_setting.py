"""What the literal backbones share: small examples, and a layer's parts one vector at a time."""

import math

import torch
from torch import nn

DIM, MAX_LEN = 6, 8


def randomised(backbone):
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.4)
    return backbone.double().eval()


def example(rows=5, width=MAX_LEN):
    torch.manual_seed(7)
    x = torch.randn(rows, width, DIM, dtype=torch.double)
    mask = torch.rand(rows, width) < 0.6
    mask[:, -2] = True
    mask[0] = True
    return x, mask


def layer_norm(vector, norm):
    mean = sum(vector) / len(vector)
    variance = sum((value - mean) ** 2 for value in vector) / len(vector)
    return (vector - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias


def gelu(vector):
    return vector * 0.5 * (1 + torch.erf(vector / math.sqrt(2)))


def relu(vector):
    return torch.where(vector > 0, vector, 0.0)


def feed_forward(vector, layer, activation):
    inner = activation(layer.inner.weight @ vector + layer.inner.bias)
    return layer.outer.weight @ inner + layer.outer.bias
