"""The recurrent state-space model, the world model around it, and the goal autoencoder."""
