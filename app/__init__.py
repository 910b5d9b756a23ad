"""Afterframe: a REST microservice that understands video with recurrent networks."""

__version__ = "0.1.0"
