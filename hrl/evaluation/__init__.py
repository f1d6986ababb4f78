"""Play fixed evaluation episodes, diagnose world models and goal reaching, and record videos."""
