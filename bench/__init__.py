"""What measures the service from outside, and its models and trainer beside what there is to beat.

Figures, never assertions.
"""
