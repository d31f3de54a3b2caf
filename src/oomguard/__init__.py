"""oomguard declares, enforces and explains Linux memory policy."""

__version__ = "0.1.0"
