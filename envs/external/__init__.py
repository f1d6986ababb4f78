"""Any Gymnasium environment as a suite of this project.

A family (`families.OUTSIDE`) makes a `World` of a task: an environment, how its actions are translated and what draws
it. A `Crew` of worker processes plays many of them, and `vector.OutsideVectorEnv` shows them as `envs.make_vec` does.
"""
