"""Networks that know nothing of agents: encoders and decoders of pixels, perceptrons, heads' distributions."""

from hrl.nets.action_mask import ActionMask
from hrl.nets.block_linear import BlockLinear
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.dense import Dense, RMSNorm, truncated_normal_
from hrl.nets.encoder import Encoder, EncoderConfig
from hrl.nets.gaussian import Gaussian, compose
from hrl.nets.mlp import MLP, orthogonal_
from hrl.nets.one_hot import OneHot, kl
from hrl.nets.picture import PictureDecoder, PictureEncoder, picture_loss
from hrl.nets.task_embedding import TaskEmbedding
from hrl.nets.two_hot import TwoHot, symexp, symlog

__all__ = [
    "MLP",
    "ActionMask",
    "BlockLinear",
    "BoundedNormal",
    "Dense",
    "Encoder",
    "EncoderConfig",
    "Gaussian",
    "OneHot",
    "PictureDecoder",
    "PictureEncoder",
    "RMSNorm",
    "TaskEmbedding",
    "TwoHot",
    "compose",
    "kl",
    "orthogonal_",
    "picture_loss",
    "symexp",
    "symlog",
    "truncated_normal_",
]
