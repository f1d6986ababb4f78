"""Networks that know nothing of agents: encoders, decoders, perceptrons and distributions."""
