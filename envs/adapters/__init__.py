"""Other libraries' interfaces to these environments."""
