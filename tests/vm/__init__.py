"""The virtual machine suite: oomguard on a real kernel, under a real systemd."""
