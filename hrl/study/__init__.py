"""Train, fine-tune, evaluate and report a grid of runs, each of them a command in a process."""
