"""Inference engines. An engine knows model files and arrays, and nothing about X-rays."""

from .base import ENGINES, Engine, EngineName, available, open_engine, preferred_engine

__all__ = ["ENGINES", "Engine", "EngineName", "available", "open_engine", "preferred_engine"]
