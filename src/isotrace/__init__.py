"""isotrace: records what an AI agent did, re-runs it offline, and says where two runs parted."""

__version__ = "0.1.0"
