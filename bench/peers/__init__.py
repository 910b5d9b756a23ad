"""Other servers of models, each with the same model and a careful handler; they run in an environment of their own.

Nothing of this project is imported there: `run` alone, which starts them, belongs to it.
"""
