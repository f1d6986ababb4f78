"""Define networks that know nothing of agents: encoders, decoders, perceptrons, distributions."""
