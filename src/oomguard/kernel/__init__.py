"""The one door to Linux: /proc, sysctls, capabilities and notifications."""
