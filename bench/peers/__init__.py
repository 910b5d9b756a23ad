"""Other servers of models, each with the same model and a careful handler; they run in an environment of their own.

They import nothing of this project; only `run`, which starts them, belongs to it.
"""
