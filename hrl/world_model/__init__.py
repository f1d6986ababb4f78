"""Define the world model, its recurrent state-space model, and the goal autoencoder."""
