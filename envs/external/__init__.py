"""Play any Gymnasium environment as a suite of this project.

A family (`families.EXTERNAL`) makes an `ExternalEnv` of a task: an environment, the translation of
its actions and what draws it. A `WorkerPool` of worker processes plays many of them, and
`envs.vector.external.ExternalVectorEnv` shows them as `envs.make_vec` does.
"""
