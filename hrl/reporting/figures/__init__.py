"""Draw the figures of the report with Matplotlib, one module per question."""
