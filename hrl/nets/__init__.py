"""Networks that know nothing of agents: the pixel encoder, perceptrons, Gaussian policies' distributions."""

from hrl.nets.encoder import Encoder, EncoderConfig
from hrl.nets.gaussian import Gaussian, compose
from hrl.nets.mlp import MLP, orthogonal_
from hrl.nets.task_embedding import TaskEmbedding

__all__ = ["MLP", "Encoder", "EncoderConfig", "Gaussian", "TaskEmbedding", "compose", "orthogonal_"]
