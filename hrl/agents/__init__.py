"""Hold one file per algorithm, each to be read from top to bottom.

Agents never meet environments, loggers or files. `registry` says how to add one.
"""
