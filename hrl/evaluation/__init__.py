"""Play fixed evaluation episodes, probe world models and goal reaching, and record videos."""
