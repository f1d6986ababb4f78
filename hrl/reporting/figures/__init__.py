"""The figures of the report, one module per question, each drawn with Matplotlib from the tables
alone.
"""
