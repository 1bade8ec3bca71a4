"""isotrace records what an AI agent did, re-runs it offline, and says whether two runs took the same path."""

__version__ = "0.1.0"
