"""Step many worlds at once: one MuJoCo body, several bodies, or external environments."""
