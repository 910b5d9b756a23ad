"""Measures the service from outside, and compares its models and its trainer with what they have to beat.

It prints figures and asserts nothing.
"""
