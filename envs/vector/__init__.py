"""Vector environments: one MuJoCo body, several bodies, or external environments in worker
processes.
"""
