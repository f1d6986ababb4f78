"""Train, evaluate, save and continue runs; everything that touches a run folder."""
