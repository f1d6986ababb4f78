"""Networks and output distributions that know nothing of agents."""

from hrl.nets.block_linear import BlockLinear
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.dense import Dense, RMSNorm, truncated_normal_
from hrl.nets.encoder import Encoder, EncoderConfig
from hrl.nets.gaussian import Gaussian, compose
from hrl.nets.image import ImageDecoder, ImageEncoder, image_loss
from hrl.nets.mlp import MLP, orthogonal_
from hrl.nets.one_hot import OneHot, kl
from hrl.nets.task_embedding import TaskEmbedding
from hrl.nets.two_hot import TwoHot, symexp, symlog

__all__ = [
    "MLP",
    "BlockLinear",
    "BoundedNormal",
    "Dense",
    "Encoder",
    "EncoderConfig",
    "Gaussian",
    "ImageDecoder",
    "ImageEncoder",
    "OneHot",
    "RMSNorm",
    "TaskEmbedding",
    "TwoHot",
    "compose",
    "image_loss",
    "kl",
    "orthogonal_",
    "symexp",
    "symlog",
    "truncated_normal_",
]
