"""One file per algorithm, each to be read from top to bottom. They never meet environments,
trackers or files.
"""
