"""Any Gymnasium environment as a suite of this project.

A family (`families.EXTERNAL`) makes a `ExternalEnv` of a task: an environment, how its actions are
translated and what draws it. A `WorkerPool` of worker processes plays many of them, and
`vector.ExternalVectorEnv` shows them as `envs.make_vec` does.
"""
